"""The gradient on a group's canvas: finite differences, fixed points, whole pixels, and how far the light reaches."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.core.physics import group_gradient
from ptycho.core.physics.detector_blur import blur_matrix, blurred
from ptycho.core.physics.diffraction import diffract, far_field, intensity, smooth
from ptycho.core.physics.group_gradient import (
    BLUR_FLOOR,
    FIELD_FLOOR,
    ILLUMINATION_FLOOR,
    LIGHT,
    amplitude_step,
    group_illumination,
    light_extent,
    shifted_probes,
    split_positions,
    way_back,
    worked_margin,
)

N, SIZE = 8, 14
WHOLE = np.array([[[0, 0], [3, -1], [-2, 2]], [[1, 1], [-3, -3], [0, 2]]], float)
"""Two groups of three members, (x, y); the farthest touch the edge of the canvas."""


def complex_normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def windows(size: int, n: int) -> list[list[tuple[slice, slice]]]:
    """Where the members of `WHOLE` lie on their canvas, without a matrix."""
    start = (WHOLE + (size - n) / 2).astype(int)
    return [[np.s_[y : y + n, x : x + n] for x, y in group] for group in start]


@pytest.fixture
def group(rng):
    """Canvas, amplitudes and probes (two modes, each member's at a remainder of its own)."""
    remainder = rng.uniform(-0.5, 0.5, (2, 3, 2))
    probes = shifted_probes(complex_normal(rng, 2, N, N), remainder)
    return complex_normal(rng, 2, SIZE, SIZE), rng.uniform(0, 3, (2, 3, N, N)), probes


def loss(canvas, amplitudes, probes, mask, sigma_px) -> float:
    """`1/2 sum (|F| - A)^2` over the valid pixels, written out member by member."""
    total = 0.0
    for b, members in enumerate(windows(SIZE, N)):
        for c, window in enumerate(members):
            waves = smooth(probes[b, c] * canvas[b][window], sigma_px)
            modulus = np.sqrt(intensity(waves) + FIELD_FLOOR)
            total += 0.5 * ((modulus - amplitudes[b, c]) ** 2)[mask[b, c]].sum()
    return total


@pytest.mark.parametrize("sigma_px", [0.0, 0.7])
@pytest.mark.parametrize("masked", [False, True])
def test_the_step_is_the_preconditioned_gradient(group, sigma_px, masked, rng) -> None:
    canvas, amplitudes, probes = group
    mask = rng.random((2, 3, N, N)) > 0.3 if masked else np.ones((2, 3, N, N), bool)
    step, light = amplitude_step(canvas, amplitudes, probes, WHOLE, mask if masked else None, sigma_px)
    power = np.zeros((2, SIZE, SIZE))
    for b, members in enumerate(windows(SIZE, N)):
        for c, window in enumerate(members):
            power[b][window] += (abs(probes[b, c]) ** 2).sum(axis=0)
    peak = power.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(light, power / peak, atol=1e-13)
    gradient = -step * (power + ILLUMINATION_FLOOR * peak)
    assert np.count_nonzero(power == 0), "part of the canvas is dark"
    for direction in [complex_normal(rng, *canvas.shape) for _ in range(3)]:
        change = 1e-5 * direction
        up, down = (loss(canvas + move, amplitudes, probes, mask, sigma_px) for move in (change, -change))
        assert np.vdot(gradient, direction).real == pytest.approx((up - down) / 2e-5, rel=1e-6)
    for place in [(0, 5, 6), (1, 2, 3), (1, 12, 9)]:
        slopes = []
        for unit in (1e-5, 1e-5j):
            change = np.zeros_like(canvas)
            change[place] = unit
            up, down = (loss(canvas + move, amplitudes, probes, mask, sigma_px) for move in (change, -change))
            slopes.append((up - down) / 2e-5)
        assert gradient[place] == pytest.approx(complex(*slopes), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("sigma_px", [0.0, 0.7])
def test_a_correct_canvas_stays(group, sigma_px, rng) -> None:
    """Also where masked pixels hold garbage."""
    canvas, _, probes = group
    measured = np.zeros((2, 3, N, N))
    for b, members in enumerate(windows(SIZE, N)):
        for c, window in enumerate(members):
            measured[b, c] = np.sqrt(intensity(smooth(probes[b, c] * canvas[b][window], sigma_px)) + FIELD_FLOOR)
    step, _ = amplitude_step(canvas, measured, probes, WHOLE, sigma_px=sigma_px)
    assert abs(step).max() < 1e-12
    mask = rng.random((N, N)) > 0.3
    measured[..., ~mask] = 1e6
    assert abs(amplitude_step(canvas, measured, probes, WHOLE, mask, sigma_px)[0]).max() < 1e-12
    assert abs(amplitude_step(canvas, measured, probes, WHOLE, None, sigma_px)[0]).max() > 1


def test_the_step_of_a_known_beam(group, rng) -> None:
    """The gradient of `1/2 sum (sqrt(f |F|^2) - A)^2`, over the light that fell."""
    canvas, amplitudes, probes = group
    flux = rng.uniform(0.5, 1.5, (2, 3, 1, 1))

    def misfit(canvas) -> float:
        total = 0.0
        for b, members in enumerate(windows(SIZE, N)):
            for c, window in enumerate(members):
                light = flux[b, c] * intensity(probes[b, c] * canvas[b][window])
                total += 0.5 * ((np.sqrt(light + FIELD_FLOOR) - amplitudes[b, c]) ** 2).sum()
        return total

    step, _ = amplitude_step(canvas, amplitudes, probes, WHOLE, flux=flux)
    power = group_illumination(np.sqrt(flux)[:, :, None] * probes, WHOLE, SIZE)
    gradient = -step * (power + ILLUMINATION_FLOOR * power.max(axis=(1, 2), keepdims=True))
    direction = complex_normal(rng, *canvas.shape)
    slope = (misfit(canvas + 1e-5 * direction) - misfit(canvas - 1e-5 * direction)) / 2e-5
    assert np.vdot(gradient, direction).real == pytest.approx(slope, rel=1e-6)


def test_the_step_of_a_blurred_detector(rng, monkeypatch) -> None:
    """Along the gradient of `1/2 sum (sqrt(f K |F|^2 K) - A)^2` over the valid pixels, with two modes and odd sides,
    where the floor is high; downhill, and nowhere from what explains the patterns, where it is not.
    """
    n, size = 7, 13
    probes = shifted_probes(complex_normal(rng, 2, n, n), rng.uniform(-0.5, 0.5, (2, 3, 2)))
    canvas, amplitudes = complex_normal(rng, 2, size, size), rng.uniform(0, 3, (2, 3, n, n))
    flux, mask = rng.uniform(0.5, 1.5, (2, 3, 1, 1)), rng.random((2, 3, n, n)) > 0.2

    def misfit(canvas) -> float:
        total = 0.0
        for b, members in enumerate(windows(size, n)):
            for c, window in enumerate(members):
                light = blurred(flux[b, c] * intensity(probes[b, c] * canvas[b][window]), 0.8)
                total += 0.5 * ((np.sqrt(light + FIELD_FLOOR) - amplitudes[b, c]) ** 2)[mask[b, c]].sum()
        return total

    given = (probes, WHOLE, mask, 0.0, flux, blur_matrix(n, 0.8))
    downhill, _ = amplitude_step(canvas, amplitudes, *given)
    assert misfit(canvas + 0.1 * downhill) < misfit(canvas)
    patches = np.array([[each[w] for w in ws] for each, ws in zip(canvas, windows(size, n), strict=True)])
    light = blurred(flux * intensity(probes * patches[:, :, None]), 0.8)
    assert abs(amplitude_step(canvas, np.sqrt(light + FIELD_FLOOR), *given)[0]).max() < 1e-12
    monkeypatch.setattr(group_gradient, "BLUR_FLOOR", 1e12)
    step, _ = amplitude_step(canvas, amplitudes, *given)
    power = group_illumination(probes, WHOLE, size, flux)
    gradient = -step * (power + ILLUMINATION_FLOOR * power.max(axis=(1, 2), keepdims=True))
    direction = complex_normal(rng, *canvas.shape)
    slope = (misfit(canvas + 1e-5 * direction) - misfit(canvas - 1e-5 * direction)) / 2e-5
    assert np.vdot(gradient, direction).real == pytest.approx(slope, rel=1e-6)
    sharp = amplitude_step(canvas, amplitudes, probes, WHOLE, mask, flux=flux)[0]
    found = amplitude_step(canvas, amplitudes, probes, WHOLE, mask, 0, flux, np.eye(n))[0]
    np.testing.assert_allclose(found, sharp, atol=1e-13)


def test_the_way_back_from_a_blur() -> None:
    """`(1 + e) l / (l^2 + e)` of its eigenvalues l: more of what is hidden most."""
    matrix = blur_matrix(9, 1.2)
    values, vectors = np.linalg.eigh(matrix)
    found = vectors.T @ way_back(matrix) @ vectors
    np.testing.assert_allclose(found, np.diag((1 + BLUR_FLOOR) * values / (values**2 + BLUR_FLOOR)), atol=1e-13)
    np.testing.assert_array_equal(way_back(np.eye(3)), np.eye(3))


def test_one_pattern_and_a_probe_of_constant_intensity_take_one_step(rng) -> None:
    """But for the floors, the step carries the wave onto the measured amplitude."""
    probes = 3 * np.exp(1j * rng.uniform(-np.pi, np.pi, (1, 1, 1, N, N)))
    canvas, amplitudes = complex_normal(rng, 1, N, N), rng.uniform(0.5, 3, (1, 1, N, N))
    step, light = amplitude_step(canvas, amplitudes, probes, np.zeros((1, 1, 2)))
    np.testing.assert_allclose(light, 1, rtol=1e-13)
    before, after = (
        far_field(probes[0, 0, 0] * found[0]) for found in (canvas, canvas + (1 + ILLUMINATION_FLOOR) * step)
    )
    expected = amplitudes[0, 0] * before / np.sqrt(abs(before) ** 2 + FIELD_FLOOR)
    np.testing.assert_allclose(after, expected, rtol=1e-12)


def test_whole_pixels_and_remainders_by_hand() -> None:
    positions = np.array([[[-2.25, 3.75], [0.0, -0.5], [1.5, -1.5]]])
    whole, remainder = split_positions(positions)
    np.testing.assert_array_equal(whole, [[[2, -4], [0, 0], [-2, 2]]])
    np.testing.assert_array_equal(remainder, [[[0.25, 0.25], [0, 0.5], [0.5, -0.5]]])


def test_whole_pixels_and_remainders_make_up_the_position(rng) -> None:
    positions = rng.uniform(-20, 20, (3, 5, 2))
    whole, remainder = split_positions(positions)
    np.testing.assert_array_equal(whole, np.rint(whole))
    np.testing.assert_allclose(whole + remainder, -positions, atol=1e-14)
    assert abs(remainder).max() <= 0.5


def test_probes_at_their_remainders_are_those_of_the_forward_model(rng) -> None:
    probe, patches = complex_normal(rng, 2, N, N), complex_normal(rng, 2, 3, N, N)
    remainder = rng.uniform(-0.5, 0.5, (2, 3, 2))
    probes = shifted_probes(probe, remainder)
    expected = diffract(probe, patches.reshape(6, N, N), *remainder.reshape(6, 2).T).reshape(2, 3, N, N)
    np.testing.assert_allclose(intensity(probes * patches[:, :, None]), expected, rtol=1e-12)
    by_whole_pixels = shifted_probes(probe, np.array([[[2.0, -1.0]]]))[0, 0]
    np.testing.assert_allclose(by_whole_pixels, np.roll(probe, (-1, 2), (-2, -1)), atol=1e-14)


def test_the_illumination_by_hand() -> None:
    """Two members side by side, of 2 and 3 photons a pixel in two modes."""
    probes = np.sqrt(np.array([2.0, 3.0])[None, :, None, None, None] / 2) * np.ones((1, 2, 2, 2, 2))
    found = group_illumination(probes, np.array([[[-1.0, 0], [0, 1]]]), 4)
    np.testing.assert_allclose(found[0], [[0, 0, 0, 0], [2, 2, 0, 0], [2, 5, 3, 0], [0, 3, 3, 0]], atol=1e-14)


def square(n: int, side: int, power: float = 1.0) -> np.ndarray:
    """A probe with all its energy, `power`, in the central square."""
    probe, margin = np.zeros((n, n), complex), (n - side) // 2
    probe[margin : n - margin, margin : n - margin] = np.sqrt(power) / side
    return probe


@pytest.mark.parametrize(
    ("probe", "side"),
    [
        (square(32, 2), 8),
        (square(32, 8), 8),
        (square(32, 10), 16),
        (square(32, 16), 16),
        (square(32, 32), 32),
        (square(32, 8, 1 - 0.5 * (1 - LIGHT)) + 1j * square(32, 32, 0.5 * (1 - LIGHT)), 8),
        (square(32, 8, 0.9) + 1j * square(32, 32, 0.1), 32),
        (np.stack([square(32, 8, 0.9), square(32, 20, 0.1)]), 24),
        (np.stack([square(32, 8, 0.999), square(32, 20, 0.001)]), 8),
        (np.roll(square(32, 8), (12, 12), (0, 1)), 32),
        (np.roll(square(32, 8), 3, 1), 16),
    ],
    ids=["point", "8", "10", "16", "all", "weak halo", "halo", "wide mode", "weak mode", "corner", "off centre"],
)
def test_how_far_the_light_reaches(probe, side) -> None:
    assert light_extent(probe) == side
    assert light_extent(7e3 * probe) == side


@pytest.mark.parametrize(
    ("size", "extent", "margin"), [(64, 64, 0), (80, 64, 0), (80, 48, 8), (64, 8, 28), (72, 8, 28), (128, 56, 4)]
)
def test_the_margin_by_hand(size, extent, margin) -> None:
    assert worked_margin(size, 64, extent) == margin


@pytest.mark.parametrize("n", [64, 128, 256])
def test_corrections_see_all_light_in_blocks_of_8(n) -> None:
    for size in range(n, n + 80, 8):
        for extent in range(8, n + 1, 8):
            margin = worked_margin(size, n, extent)
            side = size - 2 * margin
            assert margin >= 0
            assert margin % 4 == 0
            assert side % 8 == 0
            assert size - n + extent <= side < size - n + extent + 8
