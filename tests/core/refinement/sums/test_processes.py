"""A refinement that several processes share is that of one; here they are threads that add up by hand."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
import pytest

from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.refinement.priors.object_prior import ObjectPrior
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.state_file import EVERY, StateFile
from ptycho.core.refinement.sums.processes import ALONE, gathered, shares
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData


@dataclass
class Watched:
    """A scan that notes which patterns are read of it."""

    scan: RawData
    read: list[np.ndarray] = field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.scan, name)

    def __len__(self):
        return len(self.scan)

    def amplitude(self, indices=None):
        self.read.append(np.asarray(indices))
        return self.scan.amplitude(indices)


@pytest.fixture(scope="module")
def scan():
    made = make_scan("lines", 56, N=16, step=5.0, jitter=1.0, photons=1e5, seed=3)
    positions = made.xcoords, made.ycoords, None, None
    return RawData(*positions, made.diffraction, made.probe, units="amplitude")


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_are_equal_and_in_one_piece(size):
    x, y = np.meshgrid(np.arange(7.0), np.arange(11.0))
    found = shares(x.ravel(), y.ravel(), size)
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(77))
    assert {len(part) for part in found} <= {77 // size, 77 // size + 1}
    for part in found:
        height, width = np.ptp(y.ravel()[part]) + 1, np.ptp(x.ravel()[part]) + 1
        assert height * width <= len(part) + height + width


def test_what_is_found_for_each_pattern_is_put_in_order(in_threads):
    rows = {0: [(np.array([4]), np.array([[40.0, 41.0]]))], 1: [(np.array([7, 2]), np.array([[70, 71], [20, 21]]))]}

    def work(processes):
        return list(gathered(processes, iter(rows[processes.rank]), np.array([2, 4, 7]), ((2,),)))

    for [(order, values)] in in_threads(2, work):
        assert order.tolist() == [2, 4, 7] and values.tolist() == [[20, 21], [40, 41], [70, 71]]
    assert list(gathered(ALONE, iter(rows[1]), np.array([2, 7]), ((2,),))) == rows[1]


def rows_of(image, held):
    """Those of an object that another process holds."""
    pieces = (image[top : top + len(held)] for top in range(len(image) - len(held) + 1))
    return next(piece for piece in pieces if np.array_equal(piece, held))


SETTINGS = {
    "known probe": {"refine_probe": False},
    "moving probe, held out": {"holdout": 3},
    "batches of counts": {"batch_size": 9, "likelihood": "poisson", "refine_probe": False},
    "positions, flux, background": {
        "refine_positions": True,
        "refine_flux": True,
        "refine_background": "constant",
        "refine_blur": True,
    },
    "nothing kept": {"device_memory": 0},
    "probe that varies": {"variable_probe": 1},
    "time": {"seconds": 60.0},
    "brightness of the object": {"scale": "object", "iterations": 7},
}


@pytest.mark.parametrize("strips", [False, True])
@pytest.mark.parametrize("kind", SETTINGS)
def test_several_find_what_one_finds(kind, strips, scan, in_threads):
    settings = {"iterations": 12, "tolerance": 0.0, "patience": 99, "dtype": np.float64, **SETTINGS[kind]}
    settings["strips"] = strips
    alone = refine_scan(scan, **settings)
    watched = [Watched(scan) for _ in range(3)]
    several = in_threads(3, lambda each: refine_scan(watched[each.rank], processes=each, **settings))
    for found in several:
        assert found.kept == alone.kept and found.stopped == alone.stopped
        np.testing.assert_allclose(found.error_history, alone.error_history, rtol=1e-7)
        for name in ("object", "probe", "xcoords", "ycoords", "flux", "background"):
            first = several[0] if name == "object" and strips else found
            one, other = getattr(first, name), getattr(alone, name)
            assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other), name
            same = rows_of(first.object, found.object) if name == "object" else getattr(several[0], name)
            assert np.array_equal(getattr(found, name), same), name
    for found in several[1:] if strips else ():
        assert len(found.object) < 0.75 * len(alone.object)
    own = [set(np.concatenate(each.read).tolist()) for each in watched]
    assert not own[1] & own[2] and max(len(own[1]), len(own[2])) <= -(-len(scan) // 3)


def two_scans(scan):
    """Every other pattern is of a scan with a probe of its own."""
    return ScanProbes(0.8 * np.asarray(scan.probeGuess)[None, None], np.arange(len(scan)) % 2)


SHARED = {
    "whole": lambda _: {"strips": False},
    "strips": lambda _: {"strips": True},
    "strips, a probe that varies": lambda _: {"strips": True, "variable_probe": 2},
    "strips, two scans": lambda scan: {"strips": True, "variation": two_scans(scan)},
    "strips, a prior": lambda _: {"strips": True, "object_prior": ObjectPrior("tv", 1e-4)},
    "strips of slices": lambda _: {"strips": True, "slices": 2, "gap": NearField(0.15), "refine_thickness": True},
}
DOUBLE = {"iterations": EVERY + 4, "tolerance": 0.0, "patience": 99, "dtype": np.float64}


@pytest.mark.parametrize("kind", SHARED)
def test_the_first_alone_has_the_state_and_all_go_on(kind, scan, tmp_path, in_threads):
    settings = DOUBLE | SHARED[kind](scan)
    whole = refine_scan(scan, **settings)
    path = tmp_path / "state.npz"

    def work(processes):
        file = StateFile(path if processes.rank == 0 else None, "a search", seconds=0.0)
        return refine_scan(scan, processes=processes, state_file=file, **settings)

    def cut_off(processes):
        file = StateFile(path if processes.rank == 0 else None, "a search", seconds=0.0)

        def stop(iteration, error):
            if iteration == EVERY + 2:
                raise KeyboardInterrupt

        return refine_scan(scan, processes=processes, state_file=file, report=stop, **settings)

    with pytest.raises((KeyboardInterrupt, threading.BrokenBarrierError)):
        in_threads(2, cut_off)
    assert path.exists()
    first, other = in_threads(2, work)
    for found in (first, other):
        assert len(found.error_history) == len(whole.error_history)
    for name in ("object", "slices", "probe"):
        one, expected = getattr(first, name), getattr(whole, name)
        assert one is expected is None or np.linalg.norm(one - expected) < 1e-5 * np.linalg.norm(expected), name
    assert np.array_equal(other.object, rows_of(first.object, other.object))


@pytest.mark.parametrize("kind", SHARED)
def test_the_first_shows_a_whole_object_while_the_others_work(kind, scan, in_threads):
    settings = DOUBLE | SHARED[kind](scan)
    shown = []

    def work(processes):
        watched = []
        seen = watched.append if processes.rank == 0 else None

        def look(iteration, error):
            if iteration in (0, EVERY + 2):
                shown.append(watched[-1]())

        file = StateFile(None, "a search", seen=seen)
        report = look if processes.rank == 0 else None
        return refine_scan(scan, processes=processes, state_file=file, report=report, **settings)

    found = in_threads(2, work)[0]
    begun, later = shown
    assert begun.object.shape == later.object.shape == found.object.shape
    assert len(begun.error_history) <= 1 and len(later.error_history) >= EVERY
    for rows in (slice(0, 25), slice(25, None)):  # of either process
        before, after = (np.linalg.norm(each.object[rows] - found.object[rows]) for each in (begun, later))
        assert after < 0.5 * before
