"""A training of several TensorFlow processes, by the command: that of one, told where one is lost, and gone on with."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from ptycho.config.config import PyTorchExecutionConfig
from ptycho.core.simulation.plan import make_scan
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.tf import backend
from ptycho.tf.distributed.crew import team
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing.team import SINGLE

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu03", "MASTER_PORT": "29500"}
COMMAND = [sys.executable, "-c", "from ptycho.cli.train import train_main; raise SystemExit(train_main())"]
ASKED = ["--train-data", "scan.npz", "--backend", "tensorflow", "--n-groups", "15", "--batch-size", "7"]
SMALL = ["--n-filters-scale", "1", "--gridsize", "1", "--optimizer", "sgd", "--refine-probe", "0"]


def test_one_device_is_this_process(monkeypatch):
    with team(PyTorchExecutionConfig()) as found:
        assert found is SINGLE
    tf.zeros(1)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with team(PyTorchExecutionConfig()) as found:  # a session that has its own reasons to be one of several
        assert found is SINGLE


def test_a_session_that_has_used_tensorflow_is_told_of_the_command():
    tf.zeros(1)
    asked = PyTorchExecutionConfig(devices=2)
    line = r"devices=2, nodes=1: TensorFlow has to know of other processes before .* only a command can"
    with pytest.raises(ConfigError, match=line):
        backend.settled(RunOptions(execution=asked))
    with pytest.raises(ConfigError, match=line), team(asked):
        pass


@pytest.fixture
def folder(tmp_path):
    made = make_scan("lines", 112, N=64, step=9.0, jitter=1.0, photons=1e6, seed=3)
    scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")
    scan.to_file(tmp_path / "scan.npz")
    return tmp_path


def trained(folder, output, *further, begin=COMMAND):
    """What a training leaves: its losses and weights; and what it says."""
    asked = [*begin, *ASKED, *SMALL, "-o", output, *further]
    done = subprocess.run(asked, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Wrote ") == 1
    [*_, table] = sorted((folder / output / "logs").glob("version_*"))
    with np.load(folder / output / "checkpoints" / "last.ckpt") as last:
        weights = [last[name] for name in sorted(last, key=len) if name.isdecimal()]
    return np.loadtxt(table / "metrics.csv", delimiter=",", skiprows=1), weights, done.stderr


def assert_alike(several, one):
    np.testing.assert_allclose(several[0], one[0], rtol=1e-5)
    for there, here in zip(several[1], one[1], strict=True):
        assert np.linalg.norm(there - here) <= 1e-5 * np.linalg.norm(here)


@pytest.mark.slow
def test_two_learn_what_one_learns(folder):
    """With batches that do not divide, a last one of one group, and a part that is trained by one process more."""
    one = trained(folder, "one", "--nepochs", "2", "--test-data", "scan.npz")
    two = trained(folder, "two", "--nepochs", "2", "--test-data", "scan.npz", "--devices", "2")
    assert_alike(two, one)
    trained(folder, "three", "--nepochs", "1", "--test-data", "scan.npz", "--devices", "3")
    further = ["--resume", "three/checkpoints/last.ckpt", "--nepochs", "2", "--test-data", "scan.npz", "--overwrite"]
    three = trained(folder, "three", *further, "--devices", "2")
    assert_alike((three[0], three[1]), (one[0][1], one[1]))
