"""pty-chi beside this library: `peer_ptychi.py` run on a scan in memory, in the environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from quality_scores import Snapshot

from ptycho.core.geometry import ObjectFrame
from ptycho.raw_data import RawData
from ptycho.workflows.trust import photon_scale

__all__ = ["Peer", "PeerRun", "run_peer"]

MARKS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 180, 300, 500, 800, 1200, 2000)
"""Epochs at which it is looked at."""
BATCH = 64


@dataclass(frozen=True)
class Peer:
    """Where it is, and what it may take."""

    python: Path
    path: str | None
    """PYTHONPATH for it."""
    seconds: float
    threads: int


@dataclass(frozen=True)
class PeerRun:
    """What it found along the way."""

    snapshots: list[Snapshot]
    peak_mb: float
    version: str


def run_peer(data: RawData, peer: Peer, seed: int, settings: Sequence[str] = ()) -> PeerRun:
    """pty-chi on a scan: LSQML, unless the settings name another engine.

    Its bilinear Hessian multiplies sums of squares in single precision, which 1e9 photons a pattern take out of range;
    it is given patterns of the energy (N/2)^2. It knows nothing of noise, so that the unit changes nothing else.

    Args:
        data: the scan.
        peer: where pty-chi is.
        seed: of its batches.
        settings: further arguments of `peer_ptychi.py`.
    """
    photons, dose = photon_scale(data, data.mean_energy)
    scale = 1.0 if dose == "nominal" else photons
    if "bh" in settings:
        scale = data.N**2 / (4 * data.mean_energy)
    with tempfile.TemporaryDirectory() as name:
        scan, output = Path(name) / "scan.npz", Path(name) / "found.npz"
        data.to_file(scan)
        command = [
            str(peer.python),
            str(Path(__file__).with_name("peer_ptychi.py")),
            *(str(scan), str(output), "--marks", ",".join(map(str, MARKS)), "--batch", str(BATCH)),
            *("--scale", str(scale), "--limit-s", str(peer.seconds)),
            *("--threads", str(peer.threads), "--seed", str(seed)),
            *settings,
        ]
        waiting = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(peer.threads)}
        searched = {} if peer.path is None else {"PYTHONPATH": peer.path}
        ended = subprocess.run(
            command, env={**os.environ, **waiting, **searched}, capture_output=True, text=True, check=False
        )
        if ended.returncode:
            sys.exit(f"{' '.join(command[:2])}: expected status 0, found {ended.returncode}; it said:\n{ended.stderr}")
        return _read(output)


def _read(path: Path) -> PeerRun:
    """What the script saved."""
    with np.load(path, allow_pickle=False) as file:
        y0, x0 = (int(value) for value in file["origin"])
        height, width = file["objects"].shape[1:]
        frame = ObjectFrame(height, width, x0, y0)
        steps = zip(file["epochs"], file["seconds"], file["objects"], file["probes"], strict=True)
        snapshots = [Snapshot(int(e), float(s), image, probe, frame) for e, s, image, probe in steps]
        return PeerRun(snapshots, float(file["peak_mb"]), str(file["version"]))
