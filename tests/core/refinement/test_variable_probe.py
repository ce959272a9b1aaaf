"""A probe that varies in a refinement: found where it was planted, and nothing where there is nothing."""

import numpy as np
import pytest

from ptycho.core.physics.variable_probe import ProbeVariation, mixture, spanned
from ptycho.core.refinement.kernels import Point
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.variable_probe import _foretold, orthogonal, principal
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData

N = 16


def numbers(rng, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


@pytest.fixture
def point(rng) -> Point:
    x = np.full(5, 8.0)
    made = Point(np.ones((N, N), complex), numbers(rng, 2, N, N), x, x, np.ones(5), np.zeros((N, N)))
    return made._replace(variation=numbers(rng, 2, N, N), coefficients=0.3 * numbers(rng, 5, 2))


def probes(point: Point) -> np.ndarray:
    """(n, N^2) the first mode in each pattern, as far as patterns tell it."""
    first = np.concatenate([point.probe[:1], point.variation])
    found = np.tensordot(mixture(point.coefficients), first, 1).reshape(len(point.x), -1)
    return found * np.exp(-1j * np.angle(found[:, :1]))


def test_what_is_made_orthogonal_and_principal_is_the_same_probes(point) -> None:
    once = orthogonal(point)
    shape = probes(point) / np.linalg.norm(probes(point), axis=1, keepdims=True)
    again = probes(once) / np.linalg.norm(probes(once), axis=1, keepdims=True)
    np.testing.assert_allclose(again, shape)
    assert np.linalg.norm(probes(once)) == pytest.approx(np.linalg.norm(probes(point)))
    best = principal(once)
    np.testing.assert_allclose(probes(best), probes(once))
    np.testing.assert_array_equal(best.probe[1], point.probe[1])
    weights = mixture(best.coefficients)
    products = weights.conj().T @ weights
    np.testing.assert_allclose(products[1, 2], 0, atol=1e-9)
    assert products[0, 0].real > products[1, 1].real > products[2, 2].real
    assert principal(replaced := point._replace(coefficients=np.zeros((5, 2), complex))) is replaced


def test_patterns_kept_back_have_what_their_neighbours_tell(rng) -> None:
    seen = np.array([0, 1, 2, 4, 5])
    slow = np.array([[2.0], [2.0], [2.5], [9.0], [1.5], [2.0]], complex)
    # what neighbours have in common: the sum of their products over that of squares
    expected = 2.0 * (4 + 5 + 3.75 + 3) / (4 + 4 + 6.25 + 2.25 + 4)
    assert _foretold(slow, seen)[3, 0] == pytest.approx(expected)
    restless = np.array([[1.0], [-1.0], [1.0], [9.0], [-1.0], [1.0]], complex)
    assert _foretold(restless, seen)[3, 0] == 0
    assert _foretold(slow, np.arange(6)) is slow


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


def test_nothing_is_found_where_there_is_nothing() -> None:
    scan = scan_with(0.0)
    (without, _), (found, variation) = (error_of(scan, 40, variable_probe=modes) for modes in (0, 1))
    assert found < 1.05 * without
    assert variation is not None and variation.shares.max() < 2e-3


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
