"""A training and a pass by several processes are those of one."""

import numpy as np
import pytest
import torch

from ptycho.config.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData
from ptycho.workflows.reconstruct import reconstruct
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.train import train
from ptycho_torch import backend
from ptycho_torch.config_params import TrainingConfig as SecondSpelling


@pytest.fixture(scope="module")
def scan():
    made = make_scan("lines", 112, N=64, step=9.0, jitter=1.0, photons=1e6, seed=3)
    return RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")


def run_of(size, strategy="auto", **further):
    execution = PyTorchExecutionConfig(accelerator="cpu", devices=size, strategy=strategy, enable_progress_bar=False)
    return backend.settled(RunOptions(execution=execution, **further))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "strategy", "architecture"), [(2, "ddp", "cnn"), (3, SecondSpelling().strategy, "unrolled")]
)
def test_several_learn_what_one_learns(scan, size, strategy, architecture, tmp_path):
    """With batches that do not divide, and a last one of fewer groups than processes."""
    model = ModelConfig(N=64, gridsize=2, architecture=architecture)
    found = {}
    for count in (1, size):
        folder = tmp_path / str(count)
        config = TrainingConfig(
            model=model, nepochs=2, batch_size=7, n_groups=15, backend="pytorch", output_dir=folder, optimizer="sgd"
        )
        found[count] = train(backend, scan, scan, config, run_of(count, strategy if count > 1 else "auto"))
        assert len(list((folder / "logs").iterdir())) == 1 and len(list((folder / "checkpoints").iterdir())) == 2
    one, several = found[1], found[size]
    for name in ("train_loss", "val_loss"):
        np.testing.assert_allclose(several["history"][name], one["history"][name], rtol=1e-5)
    before, after = (each["models"][0].state_dict() for each in (one, several))
    for name, values in before.items():
        assert torch.allclose(after[name], values, rtol=1e-4, atol=1e-6), name


@pytest.mark.slow
def test_several_see_what_one_sees(scan, tmp_path):
    model = ModelConfig(N=64, gridsize=2, architecture="unrolled")
    config = TrainingConfig(model=model, nepochs=1, n_groups=8, backend="pytorch", output_dir=tmp_path)
    made = train(backend, scan, None, config, run_of(1))["models"][0]
    settings = InferenceConfig(model=model, backend="pytorch")
    one, several = (reconstruct(backend, made, scan, settings, run_of(size, refine_iterations=4)) for size in (1, 2))
    for name in ("object", "network_object"):
        there, here = getattr(several, name), getattr(one, name)
        assert np.linalg.norm(there - here) < 1e-5 * np.linalg.norm(here), name
