"""Random textures against what is known of each in closed form."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ptycho.core.simulation.objects import make_object, object_from_images
from ptycho.core.simulation.textures import dead_leaves, gaussian_field, perlin, polyhedra
from ptycho.errors import ConfigError, DataError


def covariogram(radius: float, distance: float) -> float:
    """Area that a disk shares with itself moved by `distance`."""
    if distance >= 2 * radius:
        return 0.0
    half = distance / (2 * radius)
    return 2 * radius**2 * (np.arccos(half) - half * np.sqrt(1 - half**2))


def test_two_points_of_dead_leaves_lie_on_one_leaf_as_often_as_the_model_says() -> None:
    """`p(d) = g(d) / (2 g(0) - g(d))`, g the mean covariogram: the topmost leaf over either point covers both."""
    rng = np.random.default_rng(3)
    level = dead_leaves((400, 400), rng, radii=(6.0, 6.0), edge=0.0)[0]
    for distance in (2, 5, 9):
        together = np.mean(level[:, distance:] == level[:, :-distance])
        g = covariogram(6.0, distance)
        # some 400^2 / (pi 36) = 1400 leaves decide
        assert together == pytest.approx(g / (2 * covariogram(6.0, 0.0) - g), abs=0.03)


def test_the_leaves_of_a_power_law_lie_on_each_other_at_every_scale() -> None:
    rng = np.random.default_rng(8)
    smallest, largest = 4.0, 40.0
    level = dead_leaves((500, 500), rng, radii=(smallest, largest), edge=0.0)[0]
    u = (np.arange(2000) + 0.5) / 2000
    radii = (smallest**-2 + u * (largest**-2 - smallest**-2)) ** -0.5  # quantiles of r^-3
    for distance, tolerance in ((4, 0.05), (16, 0.06)):
        shared = np.mean([covariogram(r, distance) for r in radii])
        expected = shared / (2 * np.mean(np.pi * radii**2) - shared)
        assert np.mean(level[distance:] == level[:-distance]) == pytest.approx(expected, abs=tolerance)


def test_amplitude_and_phase_of_a_leaf_are_evenly_distributed_and_unrelated(rng: np.random.Generator) -> None:
    levels = dead_leaves((200, 200), rng, radii=(2.0, 4.0), edge=0.0)
    leaves = np.unique(np.stack(levels).reshape(2, -1), axis=1)
    assert leaves.shape[1] > 1500
    for level in leaves:
        np.testing.assert_allclose(np.quantile(level, (0.25, 0.5, 0.75)), (0.25, 0.5, 0.75), atol=0.05)
    assert abs(np.corrcoef(leaves)[0, 1]) < 0.08


def test_soft_edges_of_leaves_change_nothing_else() -> None:
    sharp, soft = (dead_leaves((64, 64), np.random.default_rng(1), edge=edge)[1] for edge in (0.0, 0.7))
    np.testing.assert_array_equal(soft, gaussian_filter(sharp, 0.7))


@pytest.mark.parametrize("exponent", [0.0, 2.0, 3.5])
def test_the_power_of_a_gaussian_field_falls_as_asked(exponent: float, rng: np.random.Generator) -> None:
    power = sum(np.abs(np.fft.fft2(field)) ** 2 for _ in range(20) for field in gaussian_field((64, 96), rng, exponent))
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(96)[None, :])
    used = (frequency > 0) & (frequency < 0.5)
    slope = np.polyfit(np.log(frequency[used]), np.log(power[used]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.02)


def test_the_two_gaussian_fields_are_unrelated_and_normal(rng: np.random.Generator) -> None:
    amplitude, phase = gaussian_field((256, 256), rng, exponent=0.0)
    assert abs(np.corrcoef(amplitude.ravel(), phase.ravel())[0, 1]) < 0.016
    assert np.mean((amplitude / amplitude.std()) ** 4) == pytest.approx(3.0, abs=0.1)


def test_one_octave_of_perlin_noise_is_zero_on_its_lattice_and_bounded(rng: np.random.Generator) -> None:
    for field in perlin((65, 97), rng, period=8.0, octaves=1):
        assert field.shape == (65, 97)
        np.testing.assert_allclose(field[::8, ::8], 0.0, atol=1e-12)
        assert 0.4 < np.abs(field).max() <= np.sqrt(0.5)


def test_perlin_noise_is_smooth_where_its_cells_meet(rng: np.random.Generator) -> None:
    field = perlin((40, 400), rng, period=100.0, octaves=1)[0]
    # no jump of the second derivative: a cubic fade would have one of 12 / 100^2, the third is at most 60 / 100^3
    assert np.abs(np.diff(field, 3, axis=1)).max() < 2e-4


def test_octaves_add_detail_with_the_weight_asked_for() -> None:
    whole = perlin((64, 64), np.random.default_rng(2), period=32.0, octaves=2, persistence=0.25)[0]
    first = perlin((64, 64), np.random.default_rng(2), period=32.0, octaves=1)[0]
    second = (whole - first) / 0.25
    np.testing.assert_allclose(second[::16, ::16], 0.0, atol=1e-12)
    assert np.abs(second[::8, ::8]).max() > 0.1


def test_octaves_below_two_pixels_are_left_out() -> None:
    same = [perlin((20, 20), np.random.default_rng(4), period=5.0, octaves=octaves)[0] for octaves in (2, 7)]
    np.testing.assert_array_equal(*same)


def test_an_uncut_polyhedron_is_a_cube_whatever_its_orientation() -> None:
    """The projected thickness of a body sums to its volume: the cube with corners at radius r has (2 r / sqrt 3)^3."""
    radius, volumes = 20.0, []
    for seed in range(60):
        thickness = polyhedra((60, 60), np.random.default_rng(seed), radii=(radius, radius), cuts=0, density=1e-9)[1]
        if thickness.any() and not (thickness[[0, -1]].any() or thickness[:, [0, -1]].any()):
            volumes.append(thickness.sum())
    assert len(volumes) >= 5
    np.testing.assert_allclose(volumes, (2 * radius / np.sqrt(3)) ** 3, rtol=0.01)


def test_cuts_make_polyhedra_smaller_and_the_density_counts_them() -> None:
    def mean(cuts: int, density: float) -> float:
        return float(
            np.mean([polyhedra((80, 80), np.random.default_rng(s), cuts=cuts, density=density)[1] for s in range(8)])
        )

    assert mean(0, 2.0) > mean(6, 2.0) > mean(20, 2.0) > 0
    assert mean(6, 4.0) / mean(6, 2.0) == pytest.approx(2.0, abs=0.6)


def test_a_polyhedron_is_one_material(rng: np.random.Generator) -> None:
    drawn = make_object("polyhedra", (64, 64), rng, amplitude=(0.5, 1.0), phase=(0.0, 1.0))
    np.testing.assert_allclose(np.abs(drawn), 1 - 0.5 * np.angle(drawn), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("dead_leaves", {"radii": (5.0, 3.0)}, r"smallest <= largest, found \(5.0, 3.0\)"),
        ("perlin", {"period": 1.0}, "period >= 2"),
        ("perlin", {"octaves": 2.5}, "expected octaves as in octaves=4, found 2.5"),
        ("polyhedra", {"density": 0.0}, "density > 0"),
        ("polyhedra", {"sides": 3}, "expected settings among radii, cuts, density, found sides"),
        ("lines", {"radii": (1.0, 2.0)}, "lines: expected settings among none, found radii"),
    ],
)
def test_settings_that_cannot_be_are_refused(kind: str, settings: dict, words: str, rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match=words):
        make_object(kind, (32, 32), rng, **settings)


def test_pictures_become_amplitude_and_phase() -> None:
    first = np.arange(12, dtype=np.uint8).reshape(3, 4)
    made = object_from_images(first, first[::-1], amplitude=(0.0, 1.1), phase=(-0.5, 0.6))
    np.testing.assert_allclose(np.abs(made), first / 10, atol=1e-6)
    np.testing.assert_allclose(np.angle(made)[1:], first[::-1][1:] / 10 - 0.5, atol=1e-6)


def test_a_picture_is_resized_without_a_shift() -> None:
    y, x = np.indices((30, 50))
    ramp = (x + 0.5) / 50
    made = np.abs(object_from_images(ramp, np.hypot(y, x), (60, 25), amplitude=(0.0, 1.0)))
    assert made.shape == (60, 25)
    expected = (np.arange(25) + 0.5) / 25
    np.testing.assert_allclose(made[30, 3:-3], ((expected - 0.02) / 0.96)[3:-3], atol=2e-3)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.ones((3, 4, 5)), r"at least 2 x 2, found float64 \(3, 4, 5\)"),
        (np.ones((3, 4), complex), "found complex128"),
        (np.array([[1.0, np.nan], [0, 1]]), "found NaN"),
    ],
)
def test_a_picture_that_is_none_is_refused(image: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        object_from_images(image, np.eye(3))
