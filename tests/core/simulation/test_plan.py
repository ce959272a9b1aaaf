"""Simulated scans: geometry, dose, noise, and the exact position between pixels."""

import dataclasses
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.physics.diffraction import diffract, far_field, intensity
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.probes import gaussian_probe, orthogonal_modes, zone_plate_probe
from ptycho.core.physics.recording import Recording
from ptycho.core.scan.npz_file import read_scan
from ptycho.core.simulation import exposure
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.objects import make_object
from ptycho.core.simulation.plan import ScanSettings, SimulatedScan, make_scan, plan_scan, simulate_scan
from ptycho.core.simulation.scan_paths import raster_positions
from ptycho.errors import ConfigError, DataError

ROOT = Path(__file__).parents[3]
FIXTURE = ROOT / "tests" / "fixtures" / "pytorch_integration" / "minimal_dataset_v1.npz"
WAVES = ((0.9, 0.0, 0.0), (0.3, 3 / 96, -5 / 80), (0.2j, -11 / 96, 2 / 80))
"""(amplitude, cycles per pixel along y, along x) of an object that is known between pixels."""


def continuous_object(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return sum(a * np.exp(2j * np.pi * (fy * y + fx * x)) for a, fy, fx in WAVES)


@pytest.fixture
def scan(rng: np.random.Generator) -> SimulatedScan:
    y, x = np.indices((96, 80))
    positions = np.array([[33.0, 40.25, 46.5, 36.9], [35.5, 33.75, 62.0, 50.4]])
    return simulate_scan(continuous_object(y, x), gaussian_probe(64, 9.0), *positions, 2e6, rng, "counts")


def exact_counts(scan: SimulatedScan, j: int, mirrored: bool = False) -> np.ndarray:
    """Expected counts of a frame from the continuous object, with nothing rounded."""
    r = np.arange(64) - 32
    sign = -1 if mirrored else 1
    x, y = np.rint(scan.xcoords[j]), np.rint(scan.ycoords[j])
    x, y = x + sign * (scan.xcoords[j] - x), y + sign * (scan.ycoords[j] - y)
    wave = scan.probe.astype(np.complex128) * continuous_object(y + r[:, None], x + r[None, :])
    return np.abs(far_field(wave)) ** 2


def misfit(counts: np.ndarray, expected: np.ndarray) -> float:
    """Mean of (n - I)^2 / I over bright pixels: 1 for Poisson counts about I."""
    bright = expected > 20
    return float(np.mean((counts[bright] - expected[bright]) ** 2 / expected[bright]))


def test_counts_are_poisson_about_the_continuous_object_at_every_position(scan: SimulatedScan) -> None:
    for j in range(4):
        expected = exact_counts(scan, j)
        pixels = int(np.sum(expected > 20))
        assert pixels > 150
        assert misfit(scan.diffraction[j], expected) == pytest.approx(1.0, abs=5 * np.sqrt(2.5 / pixels))


def test_a_remainder_of_the_wrong_sign_would_be_seen(scan: SimulatedScan) -> None:
    assert misfit(scan.diffraction[1], exact_counts(scan, 1, mirrored=True)) > 20


def test_the_probe_is_scaled_to_the_dose(scan: SimulatedScan) -> None:
    expected = np.mean([exact_counts(scan, j).sum() for j in range(4)])
    assert expected == pytest.approx(2e6, rel=1e-5)
    assert scan.diffraction.sum(dtype=np.int64) == pytest.approx(8e6, abs=5 * np.sqrt(8e6))
    assert scan.photons == 2e6


def test_parseval_holds_between_object_and_detector(rng: np.random.Generator) -> None:
    probe, positions = zone_plate_probe(64), (np.array([40.0]), np.array([41.0]))
    shown = make_object("lines", (80, 80), rng)
    scan = simulate_scan(shown, probe, *positions, 1e8, rng, "counts")
    wave = scan.probe.astype(np.complex128) * shown[9:73, 8:72]
    assert np.sum(np.abs(wave) ** 2) == pytest.approx(1e8, rel=1e-6)
    assert misfit(scan.diffraction[0], intensity(wave[None])) == pytest.approx(1.0, abs=0.15)


def test_both_units_record_the_same_photons() -> None:
    counts, amplitude = (make_scan("smooth", 80, 64, 6.0, 1.0, 3e4, 7, units) for units in ("counts", "amplitude"))
    assert counts.diffraction.dtype == np.uint32
    assert amplitude.diffraction.dtype == np.float32
    np.testing.assert_array_equal(np.sqrt(counts.diffraction).astype(np.float32), amplitude.diffraction)
    np.testing.assert_array_equal(counts.probe, amplitude.probe)


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_scan("smooth", 80, 64, 6.0, 1.0, 1e4, 3)
    monkeypatch.setattr(exposure, "_CHUNK_PIXELS", 2 * 64 * 64)
    assert len(whole.xcoords) == 9
    np.testing.assert_array_equal(make_scan("smooth", 80, 64, 6.0, 1.0, 1e4, 3).diffraction, whole.diffraction)


def test_the_object_does_not_change_with_the_dose_or_the_scan() -> None:
    one, other = make_scan("lines", 80, 64, 6.0, 1.0, 1e4, 3), make_scan("lines", 80, 64, 5.0, 0.0, 1e6, 3)
    np.testing.assert_array_equal(one.object, other.object)
    assert np.linalg.norm(one.object - make_scan("lines", 80, 64, 6.0, 1.0, 1e4, 4).object) > 1


def test_incoherent_modes_add_intensities(rng: np.random.Generator) -> None:
    modes = orthogonal_modes(zone_plate_probe(64), (0.7, 0.3))
    scan = simulate_scan(np.ones((80, 80), complex), modes, np.array([40.25]), np.array([40.0]), 1e8, rng, "counts")
    assert scan.probe.shape == (2, 64, 64)
    expected = intensity(scan.probe.astype(np.complex128))  # a flat object does not see where the probe is
    assert expected.sum() == pytest.approx(1e8, rel=1e-6)
    assert misfit(scan.diffraction[0], expected) == pytest.approx(1.0, abs=0.2)


def test_masked_pixels_record_nothing_and_the_others_the_same() -> None:
    positions, mask = (np.array([40.0, 41.5]), np.array([40.0, 38.0])), np.ones((64, 64), bool)
    mask[30:34, 38:44] = mask[32, 32] = False
    shown = np.ones((80, 80), complex)
    plain, masked = (
        simulate_scan(shown, zone_plate_probe(64), *positions, 1e5, np.random.default_rng(1), "counts", m)
        for m in (None, mask)
    )
    assert plain.diffraction[:, ~mask].sum() > 0
    np.testing.assert_array_equal(masked.diffraction, plain.diffraction * mask)


def test_a_raster_fills_the_object_and_stays_inside(rng: np.random.Generator) -> None:
    xcoords, ycoords = raster_positions((100, 130), 64, step=6.0, jitter=0.0, rng=rng)
    assert len(xcoords) == 6 * 11  # 34 and 64 free pixels
    np.testing.assert_allclose(xcoords[:11], 35 + 6 * np.arange(11))
    np.testing.assert_allclose(ycoords[::11], 35 + 6 * np.arange(6))
    jittered = raster_positions((100, 130), 64, step=6.0, jitter=2.5, rng=rng)
    for line, plain, size in zip(jittered, (xcoords, ycoords), (130, 100), strict=True):
        assert 2.0 < np.abs(line - plain).max() <= 2.5
        assert line.min() >= 33
        assert line.max() <= size - 33


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((65, 100), 64, 4.0, 0.0), r"at least 66 pixels a side, found \(65, 100\)"),
        (((80, 80), 64, 0.0, 0.0), "found 0.0 and 0.0"),
        (((80, 80), 64, 4.0, -1.0), "found 4.0 and -1.0"),
    ],
)
def test_an_impossible_raster_is_refused(arguments: tuple, words: str, rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match=words):
        raster_positions(*arguments, rng)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"units": "electrons"}, ConfigError, "found 'electrons'"),
        ({"photons": 0.0}, ConfigError, "found 0.0"),
        ({"photons": 1e14}, ConfigError, r"below 2\^31 in any pixel, found 1e\+14"),
        ({"xcoords": np.array([40.0, 41.0])}, DataError, r"found \(2,\), \(1,\)"),
        ({"xcoords": np.array([400.0])}, DataError, "found none"),
        ({"probe": np.ones((64, 32))}, DataError, r"found \(64, 32\)"),
        ({"object": np.ones((3, 80, 80))}, DataError, r"found \(3, 80, 80\)"),
        ({"mask": np.ones((64, 64))}, DataError, r"expected bool \(64, 64\), found float64"),
    ],
)
def test_a_scan_that_cannot_be_is_refused(
    change: dict, error: type[Exception], words: str, rng: np.random.Generator
) -> None:
    settings = {
        "object": np.ones((80, 80), complex),
        "probe": zone_plate_probe(64),
        "xcoords": np.array([40.0]),
        "ycoords": np.array([40.0]),
        "photons": 1e4,
        "rng": rng,
    }
    with pytest.raises(error, match=words):
        simulate_scan(**{**settings, **change})


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="found -1"):
        make_scan("lines", 80, 64, 6.0, 1.0, 1e4, -1)


def run_simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "simulation" / "simulate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)})


def test_a_stage_that_moves_blurs_every_pattern_along_its_line() -> None:
    """Half the way to the next pattern: the mean over places half a pixel apart, at the same dose."""
    settings = ScanSettings(
        N=32, shape=(56, 60), step=6.0, jitter=0.0, photons=1e4, noise=False, units="counts", seed=1
    )
    plan, rng = plan_scan(dataclasses.replace(settings, fly=0.5))
    assert plan.fly_path is not None and plan.fly_path.shape[1] == 6
    np.testing.assert_allclose(np.abs(plan.fly_path[..., 1]), 0, atol=1e-12)
    np.testing.assert_allclose(12 * np.square(plan.fly_path[..., 0]).mean(axis=1), 9)
    moved, still = expose(plan, rng), expose(*plan_scan(settings))
    assert moved.diffraction.sum() == pytest.approx(1e4 * len(plan.xcoords), rel=1e-4)
    patches, dx, dy = extract_rounded(plan.object, plan.xcoords, plan.ycoords, 32)
    expected = sum(diffract(moved.probe, patches, dx + shift, dy) for shift in plan.fly_path[0, :, 0]) / 6
    np.testing.assert_allclose(moved.diffraction, expected, rtol=1e-3, atol=1e-3)
    assert np.abs(still.diffraction - moved.diffraction).sum() > 0.02 * still.diffraction.sum()


@pytest.mark.parametrize("wrong", [{"fly": 1.5}, {"fly": 0.5, "path": "fermat"}])
def test_a_stage_flies_along_lines_and_no_further_than_the_next_point(wrong) -> None:
    with pytest.raises(ConfigError, match="fly: expected a"):
        plan_scan(ScanSettings(N=32, shape=(56, 56), **wrong))


THICK = {"slices": 3, "thickness": 30e-6, "energy_keV": 12.4, "object_pixel_nm": 30.0}


def test_a_thick_sample_has_an_object_in_every_slice() -> None:
    """And its patterns are those of the forward model, at the dose; the scan tells the lengths."""
    settings = ScanSettings(N=32, shape=(56, 60), step=9.0, photons=1e4, noise=False, units="counts", seed=1, **THICK)
    plan, rng = plan_scan(settings)
    assert plan.object.shape == (3, 56, 60) and plan.gap is not None
    assert plan.gap.fresnel_number == pytest.approx(30e-9**2 / (1e-10 * 10e-6), rel=1e-3)
    np.testing.assert_array_equal(plan.object[0], plan_scan(dataclasses.replace(settings, slices=1))[0].object)
    made = expose(plan, rng)
    patches, dx, dy = extract_rounded(plan.object, plan.xcoords, plan.ycoords, 32)
    expected = diffract(made.probe, patches, dx, dy, Recording(gap=plan.gap))
    np.testing.assert_allclose(made.diffraction, expected, rtol=1e-4, atol=1e-3)
    assert made.diffraction.sum() == pytest.approx(1e4 * len(plan.xcoords), rel=1e-4)
    assert settings.geometry == pytest.approx({"energy_eV": 12.4e3, "object_pixel_m": 30e-9})


@pytest.mark.parametrize(
    "change, words",
    [({"thickness": None}, "found not all three"), ({"fresnel_number": 0.5}, "far field"), ({"slices": 21}, "2 to 20")],
)
def test_a_thick_sample_that_cannot_be_is_refused(change: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan_scan(ScanSettings(N=32, shape=(56, 56), **{**THICK, **change}))


def test_the_command_writes_a_scan_file_that_reads_back(tmp_path: Path) -> None:
    output = tmp_path / "scan.npz"
    settings = ("--kind", "smooth", "--size", "80", "--step", "6", "--photons", "1e4", "--seed", "3", "--jitter", "1")
    done = run_simulate(*settings, "--units", "counts", "--output", str(output), "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    scan, expected = read_scan(output), make_scan("smooth", 80, 64, 6.0, 1.0, 1e4, 3, "counts")
    np.testing.assert_array_equal(scan.diff3d, expected.diffraction)
    np.testing.assert_array_equal(scan.objectGuess, expected.object)
    assert scan.units == "counts"
    assert scan.metadata is not None
    assert scan.metadata["nphotons"] == 1e4
    assert scan.metadata["simulation"]["seed"] == 3


def test_the_command_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    done = run_simulate("--size", "65", "--no-truth", "--output", str(tmp_path / "scan.npz"))
    assert done.returncode == 2
    assert "found (65, 65)" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_fixture_is_what_its_script_makes(tmp_path: Path) -> None:
    made = tmp_path / "made.npz"
    runpy.run_path(str(ROOT / "scripts" / "make_test_dataset.py"))["main"](made)
    stored, again = read_scan(FIXTURE), read_scan(made)
    assert FIXTURE.stat().st_size < 600_000
    assert stored.diff3d.shape == (64, 64, 64)
    assert stored.diff3d.dtype == np.uint16
    assert stored.units == "counts"
    np.testing.assert_array_equal(stored.xcoords, again.xcoords)
    np.testing.assert_allclose(stored.probeGuess, again.probeGuess, atol=1e-3)
    np.testing.assert_allclose(stored.objectGuess, again.objectGuess, atol=1e-5)
    # another build of NumPy may round an expected count differently and so, rarely, draw another photon
    assert np.mean(stored.diff3d != again.diff3d) < 1e-3
    assert stored.diff3d.sum(dtype=np.int64) / 64 == pytest.approx(1e5, rel=5 / np.sqrt(64e5))
