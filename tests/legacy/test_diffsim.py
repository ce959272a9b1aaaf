"""The simulation under the names that callers import: `ptycho.diffsim`, `ptycho.nongrid_simulation`."""

from pathlib import Path

import numpy as np
import pytest

from ptycho import params
from ptycho.config.config import TrainingConfig
from ptycho.core.physics.diffraction import far_field
from ptycho.core.physics.probes import zone_plate_probe
from ptycho.core.simulation.objects import make_object
from ptycho.diffsim import illuminate_and_diffract, mk_simdata, scale_nphotons
from ptycho.errors import ConfigError, DataError
from ptycho.nongrid_simulation import generate_simulated_data, load_probe_object, simulate_from_npz


@pytest.fixture
def patches(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Amplitude and phase (3, 64, 64, 2)."""
    return rng.uniform(0.5, 1.0, (3, 64, 64, 2)), rng.uniform(-1, 1, (3, 64, 64, 2))


def test_the_intensity_scale_brings_amplitudes_to_the_dose(monkeypatch: pytest.MonkeyPatch) -> None:
    amplitude = np.full((2, 4, 4, 3), 0.5)
    assert scale_nphotons(amplitude, 400.0) == pytest.approx(10.0)  # 16 pixels of 1/4
    monkeypatch.setitem(params.cfg, "nphotons", 36.0)
    assert scale_nphotons(amplitude) == pytest.approx(3.0)
    with pytest.raises(DataError, match="only zeros"):
        scale_nphotons(np.zeros((2, 4, 4, 3)))
    with pytest.raises(ConfigError, match="found 0"):
        scale_nphotons(amplitude, 0.0)


def test_patches_are_illuminated_and_diffracted(patches: tuple[np.ndarray, np.ndarray]) -> None:
    probe = zone_plate_probe(64).astype(np.complex128)
    X, amplitude, phase, scale = illuminate_and_diffract(*patches, probe, nphotons=1e4)
    assert amplitude is patches[0]
    assert phase is patches[1]
    for b, c in ((0, 0), (2, 1)):
        wave = probe * amplitude[b, :, :, c] * np.exp(1j * phase[b, :, :, c])
        np.testing.assert_allclose(X[b, :, :, c], np.abs(far_field(wave)), rtol=1e-5, atol=1e-5)
    assert scale**2 * np.sum(X.astype(np.float64) ** 2) / 6 == pytest.approx(1e4, rel=1e-5)


def test_noise_is_that_of_photons(patches: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> None:
    X, *_, scale = illuminate_and_diffract(*patches, zone_plate_probe(64), intensity_scale=5.0, rng=rng)
    assert scale == 5.0
    counts = (5.0 * X.astype(np.float64)) ** 2
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-3)
    assert len(np.unique(np.rint(counts))) > 10


def test_shapes_that_do_not_fit_are_refused(patches: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(DataError, match=r"found \(3, 64, 64, 2\), \(3, 64, 64, 2\) and \(128, 128\)"):
        illuminate_and_diffract(*patches, zone_plate_probe(128))


def test_simulated_patches_of_several_objects(rng: np.random.Generator) -> None:
    made = mk_simdata(2, 80, zone_plate_probe(64), rng, outer_offset=7.0, nphotons=1e5)
    x, y = made.coords
    assert made.X.shape == made.Y_I.shape == (18, 64, 64, 1)
    assert made.YY_full.shape == (2, 80, 80)
    left, top = int(x[4]) - 32, int(y[4]) - 32
    np.testing.assert_allclose(
        (made.Y_I * np.exp(1j * made.Y_phi))[9 + 4, :, :, 0],
        made.YY_full[1, top : top + 64, left : left + 64],
        atol=1e-6,
    )
    photons = np.sum((made.intensity_scale * made.X.astype(np.float64)) ** 2) / 18
    assert photons == pytest.approx(1e5, abs=5 * np.sqrt(1e5 / 18))
    assert made.norm_Y_I == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="found 0"):
        mk_simdata(0, 80, zone_plate_probe(64), rng)


def test_a_scan_at_random_positions(rng: np.random.Generator) -> None:
    truth = make_object("smooth", (90, 100), rng)
    config = TrainingConfig(n_groups=40, nphotons=1e4)
    scan, again = (generate_simulated_data(config, truth, zone_plate_probe(64), random_seed=3) for _ in range(2))
    np.testing.assert_array_equal(scan.diff3d, again.diff3d)
    assert scan.diff3d.shape == (40, 64, 64)
    assert 32 <= scan.xcoords.min() < 36
    assert 64 < scan.xcoords.max() <= 68
    assert scan.ycoords.max() <= 58
    assert np.sum(scan.diff3d.astype(np.float64) ** 2) / 40 == pytest.approx(1e4, abs=5 * np.sqrt(1e4 / 40))
    wide = generate_simulated_data(config, truth, zone_plate_probe(64), buffer=5, random_seed=3)
    assert 5 <= wide.xcoords.min() < 12
    assert len(generate_simulated_data(TrainingConfig(), truth, zone_plate_probe(64)).xcoords) == 512
    with pytest.raises(ConfigError, match="0 to half of the object's shorter side, 45 pixels, found 46"):
        generate_simulated_data(config, truth, zone_plate_probe(64), buffer=46)


def test_object_and_probe_of_a_scan_file(fixture_file: Path) -> None:
    truth, probe = load_probe_object(fixture_file)
    assert (truth.shape, probe.shape) == ((128, 128), (64, 64))
    scan = simulate_from_npz(fixture_file, TrainingConfig(n_groups=3, nphotons=1e3), random_seed=1)
    np.testing.assert_array_equal(scan.objectGuess, truth)
    assert len(scan.diff3d) == 3
