"""A step that several processes share is that of one; here they are threads, and what they add goes by sockets."""

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from ptycho.tf.fit import TrainingModule, fit
from ptycho.tf.loader import PtychoDataContainer
from ptycho.tf.pinn import PtychoPINN
from ptycho.workflows.sharing.connected import Connected, Link
from ptycho.workflows.sharing.team import SINGLE


class Threads(Connected):
    """A team whose tensors go by its connections, too."""

    def added(self, values):
        return tf.constant(self.sum(values.numpy())[0])


def pair():
    here, there = (Link(one) for one in socket.socketpair())
    return Threads(0, 2, {1: here}, 60.0), Threads(1, 2, {0: there}, 60.0)


@pytest.fixture
def one(scan, training):
    """A training in a process of a team: losses, and all that it has changed."""
    grouped = scan.generate_grouped_data(64, K=4, nsamples=7, gridsize=1, seed=1)

    def train(team, folder="one", max_seconds=None, **settings):
        config = replace(training, batch_size=3, output_dir=training.output_dir / folder, **settings)
        model = PtychoPINN(config.model, scan.probeGuess, scan.input_scale(), 1 / scan.input_scale(), seed=5)
        groups = PtychoDataContainer(grouped, scan.probeGuess)
        module = TrainingModule(model, config, groups.canvas_size, learning_rate=0.1)
        history = fit(module, groups, groups, max_seconds=max_seconds, team=team)
        return history, [variable.numpy() for variable in (*module.variables, *model.running_statistics)]

    return train


@pytest.mark.usefixtures("without_graphs")
def test_two_learn_what_one_learns(one, training):
    """With batches that do not divide by two, and a last one that has a group for the first alone."""
    expected, weights = one(SINGLE, optimizer="sgd")
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda team: one(team, f"of {team.rank}", optimizer="sgd"), pair()))
    for history, several in found:
        for name in ("train_loss", "val_loss"):
            np.testing.assert_allclose(history[name], expected[name], rtol=1e-5)
        for there, here in zip(several, weights, strict=True):
            np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6)
    assert (training.output_dir / "of 0" / "checkpoints" / "last.ckpt").is_file()
    assert not (training.output_dir / "of 1").exists()


@pytest.mark.usefixtures("without_graphs")
def test_the_clock_of_the_first_is_that_of_all(one):
    with ThreadPoolExecutor(2) as pool:
        limits = 1e-6, None
        ends = [
            pool.submit(one, team, f"of {team.rank}", limit, nepochs=3)
            for team, limit in zip(pair(), limits, strict=True)
        ]
        (first, _), (other, _) = (each.result(60) for each in ends)
    assert len(first["train_loss"]) == len(other["train_loss"]) == 1
    assert first["train_loss"] == other["train_loss"]
