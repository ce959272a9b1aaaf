"""Training sets of simulated objects: they look like the scan they stand in for, and never mix two objects."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.core.groups.grouping import make_groups
from ptycho.core.physics.probes import gaussian_probe
from ptycho.core.simulation.exposure import ScanPlan, expose
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.networks import simulated_training as pretraining
from ptycho.workflows.networks.simulated_training import simulated_scan_like

N, PHOTONS, DOSE = 64, 2e4, 1500.0
"""Side of a pattern, photons on the whole detector of the scan, and of a stand-in on its valid pixels."""


@pytest.fixture(scope="module")
def scan() -> RawData:
    """37 patterns of a grating, a beam stop in the mask, counts."""
    rng = np.random.default_rng(3)
    x, y = 33 + 50 * rng.random(37), 34 + 41 * rng.random(37)
    grating = np.exp(0.4j * np.cos(0.5 * np.arange(118)))[None] * np.ones((111, 1))
    mask = np.ones((N, N), bool)
    mask[30:35, 30:35] = False
    made = expose(ScanPlan(grating, gaussian_probe(N, 14.0), x, y, PHOTONS, "counts", mask), rng)
    return RawData(x, y, None, None, made.diffraction, made.probe, mask=mask, units="counts")


def test_it_has_the_probe_mask_energy_and_dose_of_the_scan(scan: RawData) -> None:
    found = simulated_scan_like(scan, 3, DOSE, seed=5)
    assert found.units == "amplitude" and len(found) == 3 * 37
    np.testing.assert_array_equal(found.probeGuess, scan.probeGuess)
    np.testing.assert_array_equal(found.mask, scan.mask)
    assert not found.diff3d[:, 30:35, 30:35].any()
    assert found.photons() == DOSE
    # k is that of the scan, also behind a beam stop, but for the photon noise of a hundred patterns
    assert found.mean_energy == pytest.approx(scan.mean_energy, rel=0.02)


def test_counts_are_whole_in_the_unit_of_the_amplitudes(scan: RawData) -> None:
    found = simulated_scan_like(scan, 1, DOSE)
    counts = found.diff3d.astype(np.float64) ** 2 * (DOSE / scan.mean_energy)
    np.testing.assert_allclose(counts, np.rint(counts), atol=2e-3)
    assert counts.max() > 10


def test_the_positions_are_those_of_the_scan_moved_as_a_whole(scan: RawData) -> None:
    found = simulated_scan_like(scan, 2, DOSE, seed=1)
    for part in (slice(0, 37), slice(37, 74)):
        x, y = found.xcoords[part], found.ycoords[part]
        order = np.argsort(x)
        moved = np.argsort(scan.xcoords)
        np.testing.assert_allclose(np.diff(x[order]), np.diff(scan.xcoords[moved]), atol=1e-9)
        np.testing.assert_allclose(np.diff(y[order]), np.diff(scan.ycoords[moved]), atol=1e-9)


def test_groups_never_mix_objects(scan: RawData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretraining, "PATTERNS_PER_OBJECT", 11)
    found = simulated_scan_like(scan, 7, DOSE, seed=2)
    assert len(found) == 77
    groups = make_groups(found.xcoords, found.ycoords, 2, K=6, seed=0)
    assert (groups // 11 == groups[:, :1] // 11).all()


def test_the_same_seed_gives_the_same_set_and_another_another(scan: RawData) -> None:
    one, again, other = (simulated_scan_like(scan, 1, DOSE, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.diff3d, again.diff3d)
    assert not np.array_equal(one.diff3d, other.diff3d)


def test_no_objects_is_an_error(scan: RawData) -> None:
    with pytest.raises(ConfigError, match="expected at least 1, found 0"):
        simulated_scan_like(scan, 0, DOSE)
