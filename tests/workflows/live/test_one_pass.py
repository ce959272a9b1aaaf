"""Patches of a network are laid on a canvas, turned to what lies there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ptycho.core.physics.patches import extract
from ptycho.raw_data import RawData
from ptycho.workflows.live import one_pass
from ptycho.workflows.live.canvas import Canvas
from ptycho.workflows.live.one_pass import LivePass
from ptycho.workflows.run_options import NEUTRAL_RUN


@pytest.fixture
def knowing(monkeypatch: pytest.MonkeyPatch, plain: RawData) -> Any:
    """A network that knows the object, but for the phase of each pattern."""
    chance = np.random.default_rng(5)
    probe = np.asarray(plain.probeGuess)[None]
    model = SimpleNamespace(
        config=SimpleNamespace(gridsize=1, N=32),
        probe=SimpleNamespace(file_units=lambda: probe),
        scaling=SimpleNamespace(straight_probe=False),
        input_scale=1.0,
    )
    model.seen = []

    def predicted(backend: Any, model: Any, scan: RawData, *_: Any) -> Any:
        model.seen.append(len(scan))
        phases = np.exp(2j * np.pi * chance.random(len(scan)))
        patches = extract(plain.objectGuess, scan.xcoords, scan.ycoords, 32) * phases[:, None, None]
        return patches[:, None].astype(np.complex64), np.stack([scan.xcoords, scan.ycoords], 1)[:, None, :, None]

    monkeypatch.setattr(one_pass, "predicted_patches", predicted)
    monkeypatch.setattr(one_pass, "scan_for", lambda model, data, config: (data, config))
    monkeypatch.setattr(one_pass, "prepared_scan", lambda data, config, straight: data)
    monkeypatch.setattr(one_pass, "at_network_size", lambda data, N: data)
    monkeypatch.setattr(one_pass, "group_scan", lambda *_, **__: None)
    return SimpleNamespace(name="pytorch", load=lambda *_: (model, None), model=model)


def test_the_object_is_there_and_each_pattern_was_predicted_once(plain: RawData, knowing: Any, tmp_path: Any) -> None:
    canvas = Canvas()
    network = LivePass(knowing, tmp_path, plain, canvas, NEUTRAL_RUN)
    assert network.members == 1
    for begin in range(0, len(plain), 50):
        part = plain.part(np.arange(begin, min(begin + 50, len(plain))))
        canvas.reach(part.xcoords, part.ycoords, plain.probeGuess)
        network.add(part)
    assert sum(knowing.model.seen) == len(plain) and network.probe is not None
    frame, truth = canvas.frame, plain.objectGuess
    assert truth is not None
    one = canvas.object[18 - frame.y0 : 58 - frame.y0, 18 - frame.x0 : 58 - frame.x0]
    turn = np.vdot(one, truth[18:58, 18:58])
    assert np.linalg.norm(one * turn / abs(turn) - truth[18:58, 18:58]) < 0.1 * np.linalg.norm(truth[18:58, 18:58])
