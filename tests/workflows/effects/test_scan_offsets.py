"""Scans that lie elsewhere than they were recorded: found where they overlap, left alone where they do not."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from ptycho.core.refinement.run import refine_scan
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.raw_data import RawData
from ptycho.workflows.effects import scan_offsets as module
from ptycho.workflows.effects.scan_offsets import _Alone, _most_alike, _solved, scan_offsets
from ptycho.workflows.shared_object import joined

N = 16
REFINE = partial(refine_scan, dtype=np.float32)


def beside(planted: tuple[float, float], gap: int = 0) -> RawData:
    """Two scans side by side that overlap by a strip of 24 pixels, the second recorded elsewhere than it is."""
    settings = ScanSettings("dead_leaves", N=N, shape=(44, 64), step=2.5, jitter=0.5, photons=1e5, seed=4)
    image = plan_scan(settings)[0].object
    parts = []
    for k, start in enumerate((0, 20)):
        made = expose(
            *plan_scan(ScanSettings(N=N, step=2.5, jitter=0.5, photons=1e5, seed=k), image[:, start : start + 44])
        )
        x, y = made.xcoords + start - k * (planted[0] - gap), made.ycoords - k * planted[1]
        parts.append(
            RawData(x, y, None, None, made.diffraction, made.probe, units="amplitude", metadata={"name": f"s{k}"})
        )
    return joined(parts)


@pytest.mark.slow
def test_an_offset_is_found_and_nothing_where_there_is_none() -> None:
    found = scan_offsets(beside((3.0, -2.0)), REFINE)
    np.testing.assert_allclose(found.offsets, [[0, 0], [3, -2]], atol=0.1)
    assert found.any and "lies (+3.0" in found.note
    nothing = scan_offsets(beside((0.0, 0.0)), REFINE)
    assert not nothing.any and "all that overlap lie where they were recorded" in nothing.note


def test_scans_that_do_not_overlap_stay(monkeypatch) -> None:
    monkeypatch.setattr(module, "HELD", 1)
    monkeypatch.setattr(module, "ITERATIONS", 1)
    found = scan_offsets(beside((0.0, 0.0), gap=60), REFINE)
    assert not found.any and "overlap with none that is alike" in found.note


def test_the_place_of_one_object_in_another(rng) -> None:
    """Of two cuts of one picture, with what was not seen of each left out."""
    picture = np.exp(1j * rng.normal(size=(40, 40)))
    lit = np.ones((30, 30), bool)
    lit[:3] = False
    one, other = (
        _Alone(np.where(lit, picture[y : y + 30, x : x + 30], 1), lit, 0, 0, np.zeros(2)) for y, x in ((0, 2), (5, 9))
    )
    assert _most_alike(one, other, (3, 6), 16) == (5, 7)


def test_offsets_fit_all_pairs_best() -> None:
    """Three that hang together, one pair of which says otherwise, and two that do so among themselves."""
    found = {
        (0, 1): (np.array([1.0, 0.0]), 1.0),
        (1, 2): (np.array([1.0, 0.0]), 1.0),
        (0, 2): (np.array([2.3, 0.0]), 1.0),
        (3, 4): (np.array([0.0, 5.0]), 9.0),
    }
    offsets, group = _solved(found, 6)
    np.testing.assert_allclose(offsets, [[0, 0], [1.1, 0], [2.2, 0], [0, 0], [0, 5], [0, 0]], atol=1e-9)
    assert len(set(group)) == 3 and group[0] == group[2]
