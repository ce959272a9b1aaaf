"""A probe that varies in a refinement: found where it was planted, and nothing where there is nothing."""

from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest

import ptycho.core.refinement.steps.variable_probe as variable_probe
from ptycho.core.physics.variable_probe import ProbeVariation, spanned
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.steps.variable_probe import ROUGH, SURE, Variability, _foretold
from ptycho.core.refinement.sums.processes import strips as shares_of_rows
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData

N = 16


def numbers(rng, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def test_patterns_kept_back_have_what_their_neighbours_tell(rng) -> None:
    seen = np.array([0, 1, 2, 4, 5])
    slow = np.array([[2.0], [2.0], [2.5], [9.0], [1.5], [2.0]], complex)
    # what neighbours have in common: the sum of their products over that of squares
    expected = 2.0 * (4 + 5 + 3.75 + 3) / (4 + 4 + 6.25 + 2.25 + 4)
    assert _foretold(slow, seen)[3, 0] == pytest.approx(expected)
    restless = np.array([[1.0], [-1.0], [1.0], [9.0], [-1.0], [1.0]], complex)
    assert _foretold(restless, seen)[3, 0] == 0
    assert _foretold(slow, np.arange(6)) is slow


@lru_cache
def scan_with(drift: float) -> RawData:
    kind = {"kind": "siemens_star", "N": N, "shape": (44, 44), "step": 2.5, "photons": 1e5, "seed": 3}
    plan, rng = plan_scan(ScanSettings(**kind, probe_drift=drift))
    made = expose(plan, rng)
    x, y = made.xcoords, made.ycoords
    return RawData(x, y, None, None, made.diffraction, made.probe, objectGuess=made.object, units=made.units)


def error_of(scan: RawData, iterations: int = 30, **settings) -> tuple[float, ProbeVariation | None]:
    """Error of the object, in its middle and up to a factor, and what was found of the probe."""
    found = refine_scan(scan, None, iterations, tolerance=0.0, dtype=np.float32, **settings)
    frame = found.frame
    truth = np.asarray(scan.objectGuess)[frame.y0 : frame.y0 + frame.height, frame.x0 : frame.x0 + frame.width]
    one, other = (image[9:-9, 9:-9] for image in (found.object, truth))
    factor = np.vdot(one, other) / np.vdot(one, one)
    return float(np.linalg.norm(factor * one - other) / np.linalg.norm(other)), found.variation


def test_a_focus_that_drifts_is_found() -> None:
    scan = scan_with(0.5)
    without, nothing = error_of(scan)
    found, variation = error_of(scan, variable_probe=1)
    assert nothing is None and variation is not None
    assert found < 0.4 * without
    # it goes evenly from the first pattern to the last
    along = variation.coefficients[:, 0] * np.exp(-1j * np.angle(variation.coefficients[0, 0]))
    assert abs(np.corrcoef(along.real, np.arange(len(scan)))[0, 1]) > 0.95
    smooth, _ = error_of(scan, variable_probe=1, variable_probe_smooth=20.0)
    assert smooth < 0.4 * without


def test_a_weak_drift_is_found_though_at_first_it_explains_no_more_than_noise() -> None:
    scan = scan_with(0.1)
    (without, _), (found, variation) = (error_of(scan, 40, variable_probe=each) for each in (0, 1))
    assert variation is not None
    assert found < 0.8 * without


def test_a_search_that_ends_before_modes_are_judged_keeps_none_of_noise() -> None:
    found = refine_scan(scan_with(0.0), None, 60, variable_probe=1, patience=1, tolerance=0.1)
    assert variable_probe.WAIT < found.iterations < 20
    assert found.variation is None and found.penalty == 0


@pytest.mark.parametrize("cost, taken", [(0.9 * ROUGH, True), (1.1 * ROUGH, False)])
def test_slopes_of_phase_stay_where_their_modes_do_not_hold_them(monkeypatch, cost, taken) -> None:
    before, after = SimpleNamespace(error=0.3), SimpleNamespace(error=0.3 * (1 + cost))
    monkeypatch.setattr(variable_probe, "level", lambda point, first_row: {7: after}[first_row])
    passes = SimpleNamespace(error=lambda point: point.error, share=SimpleNamespace(first_row=7))
    found = Variability(passes, 1, 40)._levelled(before)
    assert found is (after if taken else before)


@pytest.mark.parametrize("modes", [1, 2])
def test_nothing_is_found_where_there_is_nothing(modes) -> None:
    scan = scan_with(0.0)
    (without, _), (found, variation) = (error_of(scan, 40, variable_probe=each) for each in (0, modes))
    assert found < 1.02 * without
    assert variation is None


def test_what_varies_has_its_price_in_the_errors() -> None:
    scan = scan_with(0.5)
    made = refine_scan(scan, None, 12, variable_probe=1)
    n, values = len(scan), len(scan) * N**2
    error = made.error_history[made.kept]
    assert error / (error - made.penalty) - 1 == pytest.approx(2 * SURE * (np.sqrt(n) + N) ** 2 / values, rel=0.02)
    assert refine_scan(scan_with(0.0), None, 1, variable_probe=1).penalty == 0


def test_what_is_known_of_a_probe_stays_where_nobody_asks_for_more(rng) -> None:
    scan = scan_with(0.5)
    vectors, coefficients, _ = spanned(
        np.concatenate([np.asarray(scan.probeGuess).reshape(1, N, N), numbers(rng, 1, N, N)]),
        np.array([[1.0, 0.1]] * len(scan)),
    )
    known = ProbeVariation(vectors[1:], coefficients)
    found = refine_scan(scan, None, 2, variation=known, refine_probe=False).variation
    assert found is not None
    np.testing.assert_allclose(found.modes, known.modes, rtol=1e-6)
    np.testing.assert_array_equal(found.coefficients, known.coefficients)


def test_what_cannot_be_is_refused(rng) -> None:
    scan = scan_with(0.0)
    with pytest.raises(ConfigError, match="variable_probe: expected 0 or more"):
        refine_scan(scan, None, 2, variable_probe=1, refine_probe=False)
    with pytest.raises(ConfigError, match="variable_probe_smooth: expected a number of patterns"):
        refine_scan(scan, None, 2, variable_probe=1, variable_probe_smooth=0.0)
    with pytest.raises(DataError, match="variation: expected modes"):
        refine_scan(scan, None, 2, variation=ProbeVariation(numbers(rng, 1, N, N), numbers(rng, 2, 1)))


@pytest.mark.parametrize("smooth", [None, 5.0])
def test_of_each_pattern_its_coefficients_alone_go_to_the_other_processes(smooth, in_threads) -> None:
    """The third of four processes has no pattern that is seen."""
    scan = scan_with(0.5)
    sizes: list[int] = []

    def work(processes):
        add = processes.sum

        def counted(*arrays):
            if processes.rank == 0:
                sizes.extend(array.size for array in arrays)
            return add(*arrays)

        processes.sum = counted
        return refine_scan(scan, processes=processes, strips=True, **settings)

    unseen = shares_of_rows(scan.ycoords, 4)[2]
    settings = {"iterations": 10, "variable_probe": 3, "holdout": unseen, "dtype": np.float64}
    settings |= {"variable_probe_smooth": smooth, "tolerance": 0.0, "patience": 99}
    alone = refine_scan(scan, **settings)
    several = in_threads(4, work)[0]
    np.testing.assert_allclose(several.error_history, alone.error_history, rtol=1e-9)
    np.testing.assert_allclose(several.unseen_history, alone.unseen_history, rtol=1e-9)
    assert alone.variation is not None
    np.testing.assert_allclose(several.variation.coefficients, alone.variation.coefficients, atol=1e-7)
    if smooth is None:
        assert 2 * 3 * (len(scan) - len(unseen)) in sizes
    # the gradient of the probes is the largest, or what is known of the splines
    assert max(sizes) <= max(4 * N**2, 4 * 6**2 * (len(scan) // 5 + 4))
