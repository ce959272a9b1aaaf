"""The dose of a scan, as well as it is known, and the trust that follows."""

import numpy as np
import pytest
from scipy.special import xlogy

from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.probes import zone_plate_probe
from ptycho.core.refinement.trust import ON_HOST
from ptycho.core.simulation.objects import make_object
from ptycho.raw_data import RawData
from ptycho.workflows.trust import noise_error, photon_scale, scan_trust

N = 64


@pytest.fixture
def scan():
    """Nine patterns of 1e5 photons in counts, and the truth: object, probe in roots of photons, positions."""
    rng = np.random.default_rng(8)
    truth = make_object("lines", (90, 90), rng).astype(np.complex64)
    x, y = (a.ravel() + rng.uniform(-1, 1, 9) for a in np.meshgrid([37.0, 45, 53], [37.0, 45, 53]))
    probe = zone_plate_probe(N, energy=1e5)
    counts = rng.poisson(diffract(probe, *extract_rounded(truth, x, y, N)))
    return truth, probe, x, y, counts


def data_of(scan, unit, metadata=None):
    """The scan as amplitudes: roots of counts times a unit."""
    _, probe, x, y, counts = scan
    patterns = (unit * np.sqrt(counts)).astype(np.float32)
    return RawData(x, y, None, None, patterns, unit * probe, metadata=metadata, units="amplitude")


def test_counts_and_their_roots_are_measured(scan):
    truth, probe, x, y, counts = scan
    data = RawData(x, y, None, None, counts, probe)
    assert photon_scale(data, 1e9) == (1.0, "measured")
    roots = RawData(x, y, None, None, np.sqrt(counts).astype(np.float32), probe)
    assert photon_scale(roots, 1e9) == (1.0, "measured")
    found = scan_trust(truth, probe[None], x, y, data, 1e9, ON_HOST)
    assert found.overall_ratio == pytest.approx(1, abs=0.05) and found.grade == "to the noise"
    np.testing.assert_allclose(
        scan_trust(truth, probe[None], x, y, roots, 1.0, ON_HOST).deviance, found.deviance, rtol=1e-4
    )


def test_a_dose_that_comes_with_the_amplitudes_is_used(scan):
    truth, probe, x, y, counts = scan
    photons = float(counts.sum(axis=(1, 2)).mean())
    data = data_of(scan, 0.013, {"nphotons": photons})
    scale, dose = photon_scale(data, 1e9)
    assert dose == "stated" and scale == pytest.approx(0.013**-2, rel=1e-5)
    found = scan_trust(truth, 0.013 * probe[None], x, y, data, 1e9, ON_HOST)
    assert found.overall_ratio == pytest.approx(1, abs=0.05) and found.counts.mean() == pytest.approx(photons, rel=1e-5)


def test_without_one_the_nominal_dose_is_named_as_such(scan):
    truth, probe, x, y, _ = scan
    data = data_of(scan, 0.013)
    scale, dose = photon_scale(data, 4e5)
    assert dose == "nominal" and scale * data.mean_energy == pytest.approx(4e5)
    found = scan_trust(truth, 0.013 * probe[None], x, y, data, 4e5, ON_HOST)
    assert found.grade == "unknown" and "the dose is not known" in found.verdict
    assert found.fourier_error == pytest.approx(
        scan_trust(truth, 0.013 * probe[None], x, y, data, 1e3, ON_HOST).fourier_error, rel=1e-6
    )


def test_the_noise_of_a_refinement_is_what_the_truth_leaves(scan):
    """The error of the true object, in the unit in which a refinement reports it, whatever the unit of the data."""
    truth, probe, x, y, counts = scan
    amplitude, expected = np.sqrt(counts), diffract(probe, *extract_rounded(truth, x, y, N))
    left = np.square(np.sqrt(expected) - amplitude).sum() / counts.sum()
    deviance = 2 * (xlogy(counts, counts / expected) - counts + expected).sum()
    photons = float(counts.sum(axis=(1, 2)).mean())
    found = scan_trust(truth, 0.013 * probe[None], x, y, data_of(scan, 0.013, {"nphotons": photons}), 1e9, ON_HOST)
    assert noise_error(found, "amplitude") == pytest.approx(left, rel=0.05)
    assert noise_error(found, "poisson") == pytest.approx(deviance / 4 / counts.sum(), rel=0.05)
    unknown = scan_trust(truth, 0.013 * probe[None], x, y, data_of(scan, 0.013), 4e5, ON_HOST)
    assert noise_error(unknown, "amplitude") == 0
