"""A scan of fewer photons: the same object and probe predict it, at the dose that it says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ptycho.errors import DataError
from ptycho.raw_data import RawData
from ptycho.workflows.photon_parts import photon_parts
from ptycho.workflows.trust import NOMINAL_PHOTONS, photon_scale

Simulated = Callable[..., RawData]


def photons(data: RawData) -> np.ndarray:
    scale, _ = photon_scale(data, NOMINAL_PHOTONS)
    return scale * data.amplitude().astype(np.float64) ** 2


def test_parts_add_up_and_are_of_the_same_beam(simulated: Simulated) -> None:
    scan = simulated(photons=3e4)
    parts = photon_parts(scan, (0.1, 0.9), seed=2)
    np.testing.assert_allclose(sum(map(photons, parts)), photons(scan), atol=0.02)
    for part, share in zip(parts, (0.1, 0.9), strict=True):
        assert part.mean_energy == pytest.approx(scan.mean_energy, rel=0.02)
        assert part.photons() == pytest.approx(share * scan.photons(), rel=0.02)
        np.testing.assert_allclose(photons(part), np.rint(photons(part)), atol=0.02)
        assert part.units == "amplitude"
        assert part.identity != scan.identity


def test_scaled_amplitudes_of_a_stated_dose_are_split_likewise(simulated: Simulated) -> None:
    """Normalised, and so no longer the roots of counts to the eye; the dose says what they are."""
    scan = simulated(photons=3e4)
    scaled = scan.replaced(
        diff3d=(scan.amplitude() * 0.0123).astype(np.float32),
        probeGuess=scan.probeGuess * np.float32(0.0123),
        units="amplitude",
        metadata={"nphotons": scan.photons()},
    )
    plain, other = photon_parts(scan, seed=5)[0], photon_parts(scaled, seed=5)[0]
    assert other.photons() == pytest.approx(plain.photons(), rel=0.01)
    np.testing.assert_allclose(other.amplitude().mean() / 0.0123, plain.amplitude().mean(), rtol=0.01)


def test_what_is_known_of_the_scan_goes_along(simulated: Simulated) -> None:
    scan = simulated(photons=3e4)
    flux, background = np.linspace(0.9, 1.1, len(scan)), np.full((scan.N, scan.N), 2.0)
    part, _ = photon_parts(scan.with_recording(flux=flux, background=background))
    np.testing.assert_array_equal(part.flux, flux)
    np.testing.assert_array_equal(part.background, background)


def test_a_scan_that_does_not_tell_its_dose_is_refused_by_name(simulated: Simulated) -> None:
    scan = simulated(photons=3e4)
    silent = scan.replaced(diff3d=scan.amplitude() * np.float32(0.0123), units="amplitude", metadata={})
    with pytest.raises(DataError, match="nphotons"):
        photon_parts(silent)
