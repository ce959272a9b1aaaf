"""The commands with several processes: one that is killed ends all with a line, and the run goes on."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData

COMMAND = [sys.executable, "-m", "ptycho", "reconstruct"]
ASKED = ["scan.npz", "--memory-map", "always", "--device", "cpu", "--refine-probe", "false", "--modes", "1"]


@pytest.fixture
def folder(tmp_path):
    made = make_scan("lines", 160, N=32, step=6.0, jitter=1.0, photons=1e7, seed=3)
    scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")
    scan.to_file(tmp_path / "scan.npz")
    return tmp_path


def children(process):
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(one) for one in listed if "serve_local" in Path(f"/proc/{one}/cmdline").read_text()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the processes in /proc")
def test_killed_told_and_gone_on_with(folder):
    asked = [*COMMAND, *ASKED, "-o", "out", "--iterations", "30", "--devices", "2"]
    process = subprocess.Popen(asked, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = iter(process.stderr.readline, "")
    assert any("iteration 0/" in line for line in said)
    [other] = children(process)
    os.kill(other, signal.SIGKILL)
    *_, last = said
    assert process.wait(120) == 2
    assert last.endswith(
        "error: process 1 of 2 (counted from 0) was ended by SIGKILL; go on with ptycho reconstruct --resume out\n"
    )
    process.stderr.close()
    assert not (folder / "out" / "reconstruction.npz").exists()
    done = subprocess.run([*COMMAND, "--resume", "out"], cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert len(np.load(folder / "out" / "reconstruction.npz")["error_history"]) > 1


def free_port(first=20000, count=20000):
    """One of those that jobs of SLURM are given."""
    for port in range(first + os.getpid() % count, first + count):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("", port))
            return port
    raise AssertionError("no port is free")


def by_srun(folder, asked):
    """What srun does: two processes of one command, which the environment numbers; what the first says."""
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost", "SLURM_JOB_ID": str(free_port() - 20000)}
    running = []
    for rank in "01":
        environment = {**os.environ, **step, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen([*COMMAND, *asked], cwd=folder, env=environment, **pipes))
    said = [process.communicate(timeout=600)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert "Look at " not in said[1]
    return said[0]


@pytest.mark.slow
def test_torchrun_and_slurm_start_them(folder):
    starter = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "ptycho", "reconstruct"]
    found = {}
    for name, begin in (("one", COMMAND), ("two", starter)):
        asked = [*begin, *ASKED, "-o", name, "--iterations", "12"]
        done = subprocess.run(asked, cwd=folder, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("Look at ") == 1
        found[name] = np.load(folder / name / "reconstruction.npz")["object"]
    assert by_srun(folder, [*ASKED, "-o", "slurm", "--iterations", "12"]).count("Look at ") == 1
    found["slurm"] = np.load(folder / "slurm" / "reconstruction.npz")["object"]
    for name in ("two", "slurm"):
        assert np.linalg.norm(found[name] - found["one"]) < 1e-5 * np.linalg.norm(found["one"]), name
