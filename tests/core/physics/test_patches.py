"""Patches and canvases: adjoints, rolls, constants, and a slow loop as the oracle."""

import numpy as np
import pytest

from ptycho.core.physics import patches as p


def complex_normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def slow_patch(canvas: np.ndarray, x: float, y: float, N: int) -> np.ndarray:
    patch = np.zeros((N, N), complex)
    for r in range(N):
        for c in range(N):
            row, col = y - N / 2 + r, x - N / 2 + c
            i, j = int(np.floor(row)), int(np.floor(col))
            for a, wa in ((i, 1 - row + i), (i + 1, row - i)):
                for b, wb in ((j, 1 - col + j), (j + 1, col - j)):
                    if 0 <= a < canvas.shape[0] and 0 <= b < canvas.shape[1]:
                        patch[r, c] += wa * wb * canvas[a, b]
    return patch


X = np.array([4.0, 6.25, 2.5, -1.3, 9.9])
Y = np.array([3.0, 5.5, 7.75, 2.2, 12.6])


@pytest.mark.parametrize("N", [4, 5])
def test_extract_agrees_with_a_loop_and_is_zero_outside(N: int, rng: np.random.Generator) -> None:
    canvas = complex_normal(rng, 13, 9)
    expected = [slow_patch(canvas, x, y, N) for x, y in zip(X, Y, strict=True)]
    np.testing.assert_allclose(p.extract(canvas, X, Y, N), expected, atol=1e-14)


def test_a_patch_is_centred_at_its_position() -> None:
    canvas = np.arange(70.0).reshape(7, 10)
    np.testing.assert_array_equal(p.extract(canvas, [5.0], [3.0], 4)[0], canvas[1:5, 3:7])


@pytest.mark.parametrize("N", [4, 5])
def test_assemble_is_the_adjoint_of_extract(N: int, rng: np.random.Generator) -> None:
    canvas, patches = complex_normal(rng, 13, 9), complex_normal(rng, 5, N, N)
    left = np.vdot(patches, p.extract(canvas, X, Y, N))
    assert left == pytest.approx(np.vdot(p.assemble(patches, X, Y, canvas.shape), canvas), rel=1e-13)


def test_constant_patches_assemble_to_the_constant_wherever_they_reach() -> None:
    numerator = p.assemble(np.full((5, 4, 4), 3 - 2j), X, Y, (13, 9))
    weight = p.assemble(np.ones((5, 4, 4)), X, Y, (13, 9))
    np.testing.assert_allclose((numerator / np.where(weight > 0, weight, 1))[weight > 0], 3 - 2j, rtol=1e-14)


def test_extract_rounded_leaves_the_remainder_to_the_probe(rng: np.random.Generator) -> None:
    canvas = complex_normal(rng, 13, 9)
    patches, dx, dy = p.extract_rounded(canvas, X, Y, 4)
    np.testing.assert_allclose(p.extract(canvas, np.rint(X), np.rint(Y), 4), patches, atol=1e-15)
    np.testing.assert_allclose(dx, [0, 0.25, 0.5, -0.3, -0.1], atol=1e-12)
    np.testing.assert_allclose(np.rint(Y) + dy, Y)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (2, -1), (-3, 4)])
def test_translate_by_whole_pixels_is_a_roll_of_the_padded_image(dx: int, dy: int, rng: np.random.Generator) -> None:
    image = np.pad(complex_normal(rng, 5, 6), 5)
    np.testing.assert_allclose(p.translate(image, dx, dy), np.roll(image, (dy, dx), (0, 1)), atol=1e-15)


def test_translate_between_pixels_by_hand() -> None:
    image = np.zeros((3, 4))
    image[1, 1] = 8
    expected = [[0, 0, 0, 0], [0, 4.5, 1.5, 0], [0, 1.5, 0.5, 0]]
    np.testing.assert_allclose(p.translate(image, 0.25, 0.25), expected)


def test_cut_is_the_adjoint_of_place(rng: np.random.Generator) -> None:
    dx, dy = rng.uniform(-3, 3, (2, 3)), rng.uniform(-3, 3, (2, 3))
    patches, canvases = complex_normal(rng, 2, 3, 5, 5), complex_normal(rng, 2, 3, 11, 11)
    left = np.vdot(canvases, p.place(patches, dx, dy, 11))
    assert left == pytest.approx(np.vdot(p.cut(canvases, dx, dy, 5), patches), rel=1e-13)


def test_place_puts_what_cut_takes_and_extract_agrees(rng: np.random.Generator) -> None:
    """`cut` at an offset from the middle of a canvas is `extract` at the middle plus the offset."""
    canvas = complex_normal(rng, 12, 12)
    offset = np.array([1.25, -0.5]), np.array([0.75, 2.0])
    expected = p.extract(canvas, 6 + offset[0], 6 + offset[1], 6)
    np.testing.assert_allclose(p.cut(canvas, *offset, 6), expected, atol=1e-14)


@pytest.mark.parametrize("size", [12, 13])
def test_a_group_of_constants_is_the_constant_and_vacuum_where_none_reaches(
    size: int, rng: np.random.Generator
) -> None:
    dx, dy = rng.uniform(-2, 2, (2, 4)), rng.uniform(-2, 2, (2, 4))
    canvas = p.assemble_group(np.full((2, 4, 5, 5), 0.3 + 2j), dx, dy, rng.uniform(0.1, 1, (5, 5)), size)
    middle = size // 2
    np.testing.assert_allclose(canvas[:, middle, middle], 0.3 + 2j)
    assert set(np.round(canvas.ravel(), 12)) == {1 + 0j, 0.3 + 2j}


def test_a_group_of_patches_of_one_object_gives_the_object(rng: np.random.Generator) -> None:
    whole = complex_normal(rng, 20, 20)
    dx, dy = np.array([[0, 3, -2, 1]]), np.array([[1, -2, 0, 3]])
    patches = p.extract(whole, 10.0 + dx[0], 10.0 + dy[0], 8)[None]
    canvas = p.assemble_group(patches, dx, dy, rng.uniform(0.1, 1, (8, 8)), 16)[0]
    reached = p.place(np.ones((4, 8, 8)), dx[0], dy[0], 16).sum(0) > 0
    np.testing.assert_allclose(canvas[reached], whole[2:18, 2:18][reached], atol=1e-13)


def test_group_weight_follows_the_light_of_all_modes() -> None:
    probe = np.zeros((2, 4, 4), complex)
    probe[0, 1, 1], probe[1, 2, 2] = 2j, 1
    weight = p.group_weight(probe)
    assert (weight[1, 1], weight[2, 2], weight[0, 0]) == pytest.approx((1.001, 0.251, 0.001))
