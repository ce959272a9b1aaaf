"""Objects and probes: ranges, seeds, and the properties that define each kind."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from ptycho.core.physics.diffraction import far_field
from ptycho.core.physics.probes import (
    PROBES,
    disk_probe,
    gaussian_probe,
    make_probe,
    orthogonal_modes,
    probe_diameter,
    probe_mask,
    with_modes,
    zone_plate_probe,
)
from ptycho.core.simulation.objects import OBJECTS, make_object
from ptycho.errors import ConfigError, DataError


@pytest.mark.parametrize("kind", OBJECTS)
def test_every_kind_spans_its_ranges_exactly(kind: str) -> None:
    drawn = make_object(kind, (61, 90), np.random.default_rng(5), amplitude=(0.2, 1.5), phase=(-0.5, 2.0))
    assert drawn.shape == (61, 90)
    assert drawn.dtype == np.complex64
    assert np.abs(drawn).min() == pytest.approx(0.2, abs=1e-6)
    assert np.abs(drawn).max() == pytest.approx(1.5, abs=1e-6)
    assert np.angle(drawn).min() == pytest.approx(-0.5, abs=1e-6)
    assert np.angle(drawn).max() == pytest.approx(2.0, abs=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in OBJECTS if kind != "siemens_star"])
def test_the_seed_decides_a_random_object(kind: str) -> None:
    first, again, other = (make_object(kind, (40, 33), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.linalg.norm(first - other) > 0.05 * np.linalg.norm(first)


def test_lines_have_a_phase_that_rises_with_the_amplitude(rng: np.random.Generator) -> None:
    drawn = make_object("lines", (64, 64), rng).astype(np.complex128)
    in_order = np.angle(drawn).ravel()[np.argsort(np.abs(drawn), axis=None)]
    assert np.diff(in_order).min() > -1e-5


def test_lines_show_the_same_texture_at_every_size() -> None:
    coverage = []
    for size in (64, 256):
        flat = [make_object("lines", (size, size), np.random.default_rng(seed)) for seed in range(256 // size)]
        coverage.append(np.mean([np.mean(np.abs(np.diff(np.abs(image), axis=0))) for image in flat]))
    assert coverage[0] / coverage[1] == pytest.approx(1.0, abs=0.35)


def test_a_smooth_object_has_no_high_frequencies(rng: np.random.Generator) -> None:
    phase = np.angle(make_object("smooth", (80, 120), rng))
    radius = np.hypot(np.fft.fftfreq(80)[:, None], np.fft.fftfreq(120)[None, :])
    power = np.abs(np.fft.fft2(phase - phase.mean())) ** 2
    assert power[radius > 0.0501].sum() < 1e-9 * power.sum()


def test_the_star_has_36_spokes_of_one_material() -> None:
    star = make_object("siemens_star", (256, 256), np.random.default_rng(0), amplitude=(0.5, 1.0), phase=(0.0, 1.0))
    angles = np.deg2rad(np.arange(0, 360, 0.5) + 0.25)
    radius = 0.6 * 0.45 * 256
    rows, cols = (np.rint(128 + radius * f(angles)).astype(int) for f in (np.sin, np.cos))
    thick = np.angle(star[rows, cols]) > 0.5
    assert np.sum(thick != np.roll(thick, 1)) == 72
    np.testing.assert_allclose(np.abs(star), 1 - 0.5 * np.angle(star), atol=1e-6)


def test_the_star_looks_the_same_after_a_turn_by_one_spoke() -> None:
    star = np.angle(make_object("siemens_star", (128, 128), np.random.default_rng(0), phase=(0.0, 1.0), spokes=12))
    y, x = np.indices((128, 128)) - 64.0
    radius, angle = np.hypot(y, x), np.arctan2(y, x)
    body = (radius > 12) & (radius < 50)

    def change(degrees: float) -> float:
        """Mean difference of the star and itself, turned."""
        turned = angle + np.deg2rad(degrees)
        rows, cols = 64 + radius * np.sin(turned), 64 + radius * np.cos(turned)
        return float(np.mean(np.abs(map_coordinates(star, [rows, cols], order=1) - star)[body]))

    assert change(30) < 0.05
    assert change(90) < 0.03
    assert change(15) > 0.5  # half a period: bars where the gaps were


def test_a_pure_phase_object_can_be_asked_for(rng: np.random.Generator) -> None:
    star = make_object("siemens_star", (32, 32), rng, amplitude=(1.0, 1.0))
    np.testing.assert_allclose(np.abs(star), 1.0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "circles"}, "lines, smooth, siemens_star, .*, found 'circles'"),
        ({"shape": (15, 40)}, r"at least 16 pixels a side, found \(15, 40\)"),
        ({"amplitude": (-0.1, 1.0)}, r"amplitude: .* found \(-0.1, 1.0\)"),
        ({"phase": (1.0, -1.0)}, r"phase: .* found \(1.0, -1.0\)"),
    ],
)
def test_an_impossible_object_is_refused(change: dict, words: str, rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match=words):
        make_object(**{"kind": "lines", "shape": (32, 32), "rng": rng, **change})


@pytest.mark.parametrize("energy", [None, 1.0])
@pytest.mark.parametrize("N", [64, 128])
def test_every_probe_has_the_energy_asked_for(N: int, energy: float | None) -> None:
    expected = (N / 2) ** 2 if energy is None else energy
    for probe in (zone_plate_probe(N, energy=energy), gaussian_probe(N, 9.0, energy), disk_probe(N, energy=energy)):
        assert probe.shape == (N, N)
        assert probe.dtype == np.complex64
        assert np.sum(np.abs(probe.astype(np.complex128)) ** 2) == pytest.approx(expected, rel=1e-6)


def test_a_zone_plate_focus_comes_from_an_annulus_with_a_quadratic_phase() -> None:
    pupil = far_field(zone_plate_probe(64, pupil_radius=14.0, stop=0.2, defocus=2.6).astype(np.complex128))
    line = pupil[32, 32:]
    assert abs(line[0]) < 0.01 * abs(line[8])
    assert abs(line[20]) < 0.001 * abs(line[8])
    assert abs(line[14]) == pytest.approx(abs(line[8]) / 2, rel=1e-3)
    turned = np.angle(line[10] * np.conj(line[6]))
    assert turned == pytest.approx(np.pi * 2.6 * (10**2 - 6**2) / 14**2, abs=1e-4)


def test_a_zone_plate_focus_is_real_in_the_middle_and_as_wide_as_its_optics_say() -> None:
    probe = zone_plate_probe(64)
    assert probe[32, 32].real > 0
    assert abs(probe[32, 32].imag) < 1e-6 * probe[32, 32].real
    assert probe_diameter(probe, 0.9) == pytest.approx(24.41, abs=0.01)  # 2 N defocus / R = 23.8, and diffraction
    assert probe_diameter(zone_plate_probe(64, defocus=0.0)) < 0.5 * 24.41


def test_a_gaussian_probe_has_the_width_of_its_intensity() -> None:
    intensity = np.abs(gaussian_probe(64, fwhm=12.0).astype(np.complex128)) ** 2
    assert intensity[32, 38] == pytest.approx(intensity[32, 32] / 2, rel=1e-5)


def test_the_probe_mask_is_a_soft_disk_of_half_the_window() -> None:
    mask = probe_mask(64)
    assert mask.dtype == np.float32
    assert mask[32, 32] == 1.0
    assert mask[32, 48] == mask[16, 32] == 0.5
    assert mask[32, 49] == pytest.approx(0.15865525, abs=1e-6)  # one sigma beyond the edge
    assert mask.sum() == pytest.approx(np.pi * 16**2, rel=0.01)


def test_a_hard_mask_holds_its_radius() -> None:
    assert probe_mask(8, diameter=4.0, sigma=0.0).sum() == 13
    with pytest.raises(ConfigError, match=r"found 4\.0, -1"):
        probe_mask(8, diameter=4.0, sigma=-1)


def test_the_diameter_of_a_hard_disk_is_its_own_wherever_it_lies() -> None:
    disk = disk_probe(32, diameter=10.0, sigma=0.0)
    assert probe_diameter(disk, 1.0) == pytest.approx(10.0, abs=1e-9)
    assert probe_diameter(np.roll(disk, (3, -5), (0, 1)), 1.0) == pytest.approx(10.0, abs=1e-5)
    assert probe_diameter(disk, 0.25) == pytest.approx(5.0, abs=0.7)
    assert probe_diameter(np.stack([disk, disk]), 1.0) == pytest.approx(10.0, abs=1e-9)
    with pytest.raises(DataError, match="positive energy, found 0"):
        probe_diameter(np.zeros((8, 8), np.complex64))


def test_modes_are_orthogonal_and_share_the_energy() -> None:
    probe = zone_plate_probe(64)
    modes = orthogonal_modes(probe, (7.0, 2.0, 1.0, 0.5)).astype(np.complex128)
    gram = np.einsum("mij,nij->mn", modes, modes.conj())
    np.testing.assert_allclose(gram, np.diag(np.array([7.0, 2.0, 1.0, 0.5]) / 10.5) * 1024, atol=1e-3)
    np.testing.assert_allclose(modes[0], probe * np.sqrt(7 / 10.5), atol=1e-5)
    np.testing.assert_allclose(orthogonal_modes(-probe, (7.0, 3.5))[0], -modes[0], atol=1e-5)


def test_modes_are_ordered_by_their_fine_structure_whatever_their_power() -> None:
    """Mode m has a polynomial of higher order, so that its light reaches further out than that of mode 0."""
    modes = np.abs(orthogonal_modes(gaussian_probe(64, 12.0), (0.2, 0.3, 0.5)).astype(np.complex128)) ** 2
    y, x = np.indices((64, 64)) - 32.0
    spread_x, spread_y = (np.sum(modes * line**2, axis=(1, 2)) / modes.sum(axis=(1, 2)) for line in (x, y))
    # Hermite functions: <x^2> is 1 and 3 times that of the Gaussian
    np.testing.assert_allclose(spread_x / spread_x[0], [1, 3, 1], atol=0.01)
    np.testing.assert_allclose(spread_y / spread_y[0], [1, 1, 3], atol=0.01)


def test_modes_are_added_to_what_is_there() -> None:
    """A single mode is split as `orthogonal_modes` does; several keep their places, and new ones are orthogonal."""
    probe = 3 * zone_plate_probe(32)
    np.testing.assert_allclose(with_modes(probe, 3), orthogonal_modes(probe, (1.0, 0.1, 0.1)), atol=1e-4)
    two = np.stack([probe, np.roll(probe, 2, 0)])
    assert with_modes(two, 2) is two
    four = with_modes(two, 4)
    assert np.linalg.norm(four) == pytest.approx(np.linalg.norm(two), rel=1e-6)
    overlaps = np.einsum("mij,nij->mn", four[:2].conj(), four[2:])
    np.testing.assert_allclose(overlaps / np.linalg.norm(four) ** 2, 0, atol=1e-6)
    ratio = np.linalg.norm(four[:2]) / np.linalg.norm(two)
    np.testing.assert_allclose(four[:2], ratio * two, rtol=1e-5, atol=1e-6)


def test_of_too_many_modes_the_strongest_stay() -> None:
    probe = zone_plate_probe(32)
    mixed = np.stack([0.6 * probe, 0.8 * probe, 0.01 * probe.T[::-1]])
    (one,) = with_modes(mixed, 1)
    assert abs(np.vdot(one, probe)) == pytest.approx(np.linalg.norm(one) * np.linalg.norm(probe), rel=1e-3)
    assert np.linalg.norm(one) == pytest.approx(np.linalg.norm(mixed), rel=1e-6)
    with pytest.raises(ConfigError, match="modes: expected at least 1, found 0"):
        with_modes(probe, 0)


@pytest.mark.parametrize("kind", PROBES)
def test_a_probe_is_made_by_its_name(kind: str) -> None:
    np.testing.assert_array_equal(make_probe(kind, 64), PROBES[kind](64))
    assert np.sum(np.abs(make_probe(kind, 64, energy=3.0)) ** 2) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("square", {}, "probe: expected one of zone_plate, gaussian, disk, diffuser, found 'square'"),
        ("disk", {"fwhm": 3.0}, "disk: expected settings among diameter, sigma, energy, found fwhm"),
        ("zone_plate", {"defocus": "far"}, "zone_plate: expected defocus as in defocus=2.6, found 'far'"),
    ],
)
def test_an_unknown_probe_or_setting_is_named(kind: str, settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_probe(kind, 64, **settings)


def test_modes_need_a_single_probe_and_positive_powers() -> None:
    with pytest.raises(DataError, match=r"found shape \(2, 8, 8\)"):
        orthogonal_modes(np.ones((2, 8, 8), complex), (1.0,))
    with pytest.raises(ConfigError, match=r"found \(1.0, 0.0\)"):
        orthogonal_modes(np.ones((8, 8), complex), (1.0, 0.0))
