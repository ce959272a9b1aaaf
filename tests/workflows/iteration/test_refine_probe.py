"""A probe that is found on the scan before a network is trained."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.core.physics.probes import zone_plate_probe
from ptycho.core.refinement.trust import ON_HOST
from ptycho.core.simulation.exposure import ScanPlan, expose
from ptycho.core.simulation.objects import make_object
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.refine_probe import with_refined_probe
from ptycho.workflows.solver import Solver
from ptycho_torch.refine import refine

SOLVER = Solver(refine, ON_HOST)

N = 32


@pytest.fixture(scope="module")
def scan() -> RawData:
    """81 patterns of counts whose file names a probe with 1.4 times the defocus, and 1.7 times the amplitude."""
    rng = np.random.default_rng(4)
    x, y = (
        axis.ravel() + rng.uniform(-0.5, 0.5, 81)
        for axis in np.meshgrid(17 + 4.0 * np.arange(9), 18 + 4.0 * np.arange(9))
    )
    plan = ScanPlan(make_object("lines", (70, 68), rng), zone_plate_probe(N, defocus=1.0), x, y, 1e6, "counts")
    made = expose(plan, rng)
    wrong = 1.7 * np.linalg.norm(made.probe) * zone_plate_probe(N, defocus=1.4, energy=1.0)
    return RawData(x, y, None, None, made.diffraction, wrong.astype(np.complex64), units="counts")


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two probes, whatever their scale and place: 1 for the same one."""
    spectra = (np.fft.fft2(probe.reshape(N, N)) for probe in (one, other))
    product = np.fft.ifft2(next(spectra) * next(spectra).conj())
    return float(np.abs(product).max() / np.linalg.norm(one) / np.linalg.norm(other))


def test_it_finds_the_probe_and_keeps_its_energy(scan: RawData) -> None:
    given = scan.probeGuess.copy()
    found = with_refined_probe(scan, SOLVER, 40)
    truth = zone_plate_probe(N, defocus=1.0)
    assert likeness(given, truth) < 0.95
    assert likeness(found.probeGuess, truth) > 0.99
    assert np.linalg.norm(found.probeGuess) == pytest.approx(np.linalg.norm(given), rel=1e-5)


def test_the_scan_itself_is_left_alone_and_its_patterns_are_shared(scan: RawData) -> None:
    given = scan.probeGuess.copy()
    found = with_refined_probe(scan, SOLVER, 1)
    np.testing.assert_array_equal(scan.probeGuess, given)
    assert found.diff3d is scan.diff3d and found.units == scan.units and len(found) == 81
    assert found.probeGuess.shape == (1, N, N)


def test_no_iteration_is_an_error(scan: RawData) -> None:
    with pytest.raises(ConfigError, match="at least 1 iteration, found 0"):
        with_refined_probe(scan, SOLVER, 0)


def test_a_scan_without_a_probe_gets_its_first_from_the_patterns(scan: RawData) -> None:
    bare = RawData(scan.xcoords, scan.ycoords, None, None, scan.diff3d, None, units="counts")
    found = with_refined_probe(bare, SOLVER, 40)
    assert likeness(found.probeGuess, zone_plate_probe(N, defocus=1.0)) > 0.99
    assert np.sum(np.abs(found.probeGuess) ** 2) == pytest.approx(bare.mean_energy, rel=1e-4)
    assert not bare.has_probe
