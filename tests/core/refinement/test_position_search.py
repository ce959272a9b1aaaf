"""Single positions that are far off: tried elsewhere in objects that did not see their patterns."""

from typing import Any

import numpy as np
import pytest

from ptycho.core.physics.stage import stage_of
from ptycho.core.refinement import position_search
from ptycho.core.refinement.device.kernels import Point
from ptycho.core.refinement.position_search import PositionSearch, _blurred, _mean_shift, _windows
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.state_file import StateFile
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.raw_data import RawData

BOUND = 6.0


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """Fewer rounds and iterations than a scan of some size needs."""
    for name, value in {"ROUNDS": 6, "ITERATIONS": 5, "BENT_FROM": 5, "LEGS": 1}.items():
        monkeypatch.setattr(position_search, name, value)


def planted(error: float, **settings: Any) -> tuple[RawData, np.ndarray]:
    """A scan with positions off by an rms error, and where the probe really was (n, 2)."""
    usual = {"N": 16, "shape": (44, 44), "step": 2.5, "jitter": 0.5, "photons": 1e5, "path": "raster", "seed": 3}
    made = expose(*plan_scan(ScanSettings(position_error=error, **{**usual, **settings})))
    x, y = (made.xcoords, made.ycoords) if made.xcoords_true is None else (made.xcoords_true, made.ycoords_true)
    scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units=made.units)
    return scan, np.stack([x, y], axis=1)


def refined(scan: RawData, positions: Any, **options: Any) -> tuple[Any, np.ndarray]:
    settings = {"refine_probe": False, "tolerance": 0.0, "dtype": np.float32, **options}
    found = refine_scan(scan, None, 12, refine_positions=positions, position_bound_px=BOUND, **settings)
    return found, np.stack([found.xcoords + found.frame.x0, found.ycoords + found.frame.y0], axis=1)


def near(places: np.ndarray, true: np.ndarray) -> float:
    """Share of the positions within a pixel, but for what all have alike."""
    left = places - true
    left = left - np.median(left, axis=0)
    left = left - stage_of(*true.T, np.where(np.abs(left) < 1.5, left, 0)).displacement(*true.T)
    return float((np.hypot(*left.T) < 1).mean())


def test_positions_that_are_off_by_more_than_a_descent_mends_are_found() -> None:
    """Sigma 2 pixels where the probe is 12 wide and steps are 3: worse without a search, and right with it."""
    scan, true = planted(2.0, N=32, shape=(64, 64), step=3.0)
    (without, there), (found, places) = (refined(scan, positions) for positions in (True, "search"))
    assert near(there, true) < 0.4
    assert near(places, true) > 0.9
    assert found.error_history[found.kept] < 0.6 * without.error_history[without.kept]


def test_nothing_is_found_where_nothing_is() -> None:
    """A search in the small patterns of a scan that is right leads astray: then it is as if there had been none."""
    scan, true = planted(0.0)
    (plain, _), (found, places) = (refined(scan, positions) for positions in (True, "search"))
    assert near(places, true) == 1
    assert found.error_history[found.kept] < 1.05 * plain.error_history[plain.kept]


def test_few_patterns_are_not_searched(monkeypatch) -> None:
    monkeypatch.setattr(position_search, "PARTS", 100)
    monkeypatch.setattr(position_search.PositionSearch, "_part_placed", None)
    refined(planted(0.0)[0], "search")


def test_a_search_that_goes_on_does_not_begin_anew(tmp_path, monkeypatch) -> None:
    """Nor does one from an object that is known already."""
    scan = planted(0.0)[0]
    whole, _ = refined(scan, "search", state_file=StateFile(tmp_path / "state.npz", "a search", seconds=0.0))
    monkeypatch.setattr(position_search.PositionSearch, "found", None)
    again, _ = refined(scan, "search", state_file=StateFile(tmp_path / "state.npz", "a search", seconds=0.0))
    np.testing.assert_array_equal(again.xcoords, whole.xcoords)
    refine_scan(scan, whole, 2, refine_positions="search", position_bound_px=BOUND)


def test_windows_hold_the_place_itself_and_every_pixel_in_turn() -> None:
    shifts = _windows(4.2, 50, np.random.default_rng(0))
    assert (shifts[:, 0] == 0).all() and np.abs(shifts).max() == 6
    assert len(np.unique(shifts.reshape(-1, 2), axis=0)) >= 81
    assert _windows(2.0, 2, np.random.default_rng(0)).shape == (2, 26, 2)


def test_an_object_is_looked_at_without_its_details() -> None:
    """Slice by slice, in its precision; in the last windows it is itself."""
    spot = np.zeros((2, 9, 9), np.complex64)
    spot[0, 4, 4] = 1j
    point = Point(spot, np.ones((1, 4, 4)), *np.zeros((2, 3)), np.ones(3), np.zeros((4, 4)))
    assert _blurred(point, 0.0) is point
    seen = _blurred(point, 1.0).object
    assert seen.dtype == np.complex64 and not seen[1].any()
    assert seen.sum() == pytest.approx(1j, abs=1e-3)
    assert seen[0, 4, 5] / seen[0, 4, 4] == pytest.approx(np.exp(-0.5), rel=1e-3)


def test_a_pattern_goes_to_the_mean_of_likely_places() -> None:
    """By hand: of two alike places the nearer to home counts more, one that is clearly best alone; one that is not
    allowed stands as no shift and does not count again.
    """
    shifts = np.array([[[0, 0], [4, 0], [0, 0]]] * 3)
    errors = np.array([[1.0, 1.0, 1.0], [2.0, 1.0, 2.0], [1.0, 1.02, 1.0]])
    away = np.array([[-4.0, 0.0], [-2.0, 0.0], [-2.0, 0.0]])
    found = _mean_shift(shifts, errors, away, 2.0)
    odds = np.exp([2.0, 50.0, -1.0])
    np.testing.assert_allclose(found[:, 0], 4 * odds / (1 + odds), rtol=1e-6)
    assert not found[:, 1].any()


def test_wherever_a_position_is_by_then_all_places_around_its_home_are_tried(monkeypatch) -> None:
    """From the edge of the bound the other edge, too; and home is where it goes where all explain it alike."""
    home, bound = (np.full(8, 20.0), np.full(8, 20.25)), 4.0
    point = Point(np.ones((41, 41)), np.ones((1, 8, 8)), home[0] - bound, home[1], np.ones(8), np.zeros((8, 8)))
    tried = []

    class Alike:
        def unseen_errors(self, point: Point, shifts: np.ndarray) -> Any:
            tried.append(point.x[:, None] + shifts[..., 0] - home[0][:, None])
            yield np.arange(8), np.ones(shifts.shape[:2])

    search = PositionSearch(lambda seen, unseen: Alike(), home, bound, seed=0)
    monkeypatch.setattr(PositionSearch, "_shaped", lambda self, passes, point, iterations: point)
    found = search._part_placed(point, np.arange(8), 0, np.random.default_rng(0))
    assert tried[0].min() == -bound and tried[0].max() >= bound - 1
    np.testing.assert_allclose([found.x, found.y], home, atol=0.7)
