"""A training of several TensorFlow processes, by the command: that of one, told where one is lost, and gone on with."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ptycho.config.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.core.simulation.plan import make_scan
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.tf import backend
from ptycho.tf.distributed.crew import team
from ptycho.workflows.iteration.refined_result import measured_reconstruction
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing.team import SINGLE
from ptycho.workflows.solver import Solver
from ptycho.workflows.train import train

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu03", "MASTER_PORT": "29500"}
COMMAND = [sys.executable, "-c", "from ptycho.cli.train import train_main; raise SystemExit(train_main())"]
ASKED = ["--train-data", "scan.npz", "--backend", "tensorflow", "--n-groups", "15", "--batch-size", "7"]
SMALL = [
    "--n-filters-scale",
    "1",
    "--gridsize",
    "1",
    "--optimizer",
    "sgd",
    "--learning-rate",
    "0.05",
    "--find-probe",
    "0",
]


def test_one_device_is_this_process(monkeypatch):
    with team(PyTorchExecutionConfig(), own_process=True) as found:
        assert found is SINGLE
    tf.zeros(1)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    for own in (False, True):  # a session that has its own reasons to be one of several
        with team(PyTorchExecutionConfig(), own) as found:
            assert found is SINGLE


def test_a_session_that_trains_is_told_of_the_command(scan, tmp_path):
    asked = PyTorchExecutionConfig(devices=2)
    config = TrainingConfig(model=ModelConfig(N=64), n_groups=4, backend="tensorflow", output_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"devices=2, nodes=1: TensorFlow has to know .* use ptycho_train --backend"):
        train(backend, scan, None, config, backend.settled(RunOptions(execution=asked)))


@pytest.mark.slow
def test_a_session_shares_all_else(folder):
    """In single precision: sums of another order are 1e-7 off, which every five iterations double and more."""
    tf.zeros(1)
    scan = RawData.from_file(folder / "scan.npz", memory_map="always")
    run = backend.settled(RunOptions(execution=PyTorchExecutionConfig(devices=3)))
    with backend.team(run) as crew:
        assert (crew.size, crew.trains) == (3, False)
        solvers = [Solver.of(backend, InferenceConfig(backend="tensorflow"), run, each) for each in (crew, SINGLE)]
        several, one = (solver.refine(scan, None, 12, tolerance=0.0) for solver in solvers)
        shared, alone = (measured_reconstruction(one, scan, solver.trust).trust for solver in solvers)
    np.testing.assert_allclose(shared.deviance, alone.deviance, rtol=1e-9)
    np.testing.assert_allclose(shared.uniform, alone.uniform, rtol=1e-9)
    assert np.linalg.norm(several.object - one.object) < 1e-5 * np.linalg.norm(one.object)


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
    assert done.stderr.count("wts.h5.zip") == 1
    [*_, table] = sorted((folder / output / "logs").glob("version_*"))
    with np.load(folder / output / "checkpoints" / "last.ckpt") as last:
        weights = [last[name] for name in sorted(last, key=len) if name.isdecimal()]
    return np.loadtxt(table / "metrics.csv", delimiter=",", skiprows=1), weights, done.stderr


@pytest.mark.slow
def test_several_learn_what_one_learns(folder):
    """With batches that do not divide, a last one of one group, and a second half that torchrun has two do."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python"]
    asked = ["--test-data", "scan.npz", "--overwrite"]
    one = trained(folder, "one", *asked, "--nepochs", "2", "--do-stitching")
    first = trained(folder, "several", *asked, "--nepochs", "1", "--devices", "3")
    going_on = ["--nepochs", "2", "--do-stitching", "--resume", "several/checkpoints/last.ckpt"]
    second = trained(folder, "several", *asked, *going_on, begin=[*torchrun, *COMMAND])
    np.testing.assert_allclose(np.stack([first[0], second[0]]), one[0], rtol=1e-5)
    for there, here in zip(second[1], one[1], strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6)
    objects = [np.load(folder / name / "reconstruction.npz")["object"] for name in ("one", "several")]
    assert np.linalg.norm(objects[1] - objects[0]) < 1e-5 * np.linalg.norm(objects[0])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the processes in /proc")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
def test_lost_told_and_gone_on_with(folder, how):
    asked = [*COMMAND, *ASKED, *SMALL, "-o", "out", "--nepochs", "99999", "--devices", "2", "--process-timeout", "3"]
    process = subprocess.Popen(asked, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = iter(process.stderr.readline, "")
    assert any("epoch 2/" in line for line in said)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    [other] = (int(one) for one in children if "serve_local" in Path(f"/proc/{one}/cmdline").read_text())
    os.kill(other, getattr(signal, how))
    *_, last = said
    assert process.wait(120) == 2
    became = {"SIGSTOP": "gave no answer for 3 s"}.get(how, f"was ended by {how}")
    assert last.endswith(
        f"error: process 1 of 2 (counted from 0) {became}; go on with the same command and --resume "
        "out/checkpoints/last.ckpt\n"
    )
    process.stderr.close()


@pytest.mark.slow
def test_sigterm_ends_all(folder):
    """A worker of TensorFlow would note it and go on."""
    asked = [*COMMAND, *ASKED, *SMALL, "-o", "out", "--nepochs", "99999", "--devices", "2"]
    process = subprocess.Popen(asked, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = iter(process.stderr.readline, "")
    assert any("epoch 2/" in line for line in said)
    process.terminate()
    *_, last = said
    assert process.wait(60) == 143
    assert "terminated: go on with the same command and --resume" in last
    process.stderr.close()
