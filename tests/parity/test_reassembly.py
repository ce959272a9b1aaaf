"""Canvases and patches: adjoints, whole pixels, partition of unity, groups; the oracle and both backends."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.core.physics import patches as oracle


def complex_normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def offsets(rng: np.random.Generator, reach: float, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(-reach, reach, shape), rng.uniform(-reach, reach, shape)


@pytest.mark.parametrize("complex_images", [False, True])
def test_translate(backend, agree, complex_images, rng) -> None:
    images = complex_normal(rng, 2, 3, 5, 8)
    images = images if complex_images else images.real
    dx, dy = offsets(rng, 2, 2, 3)
    found = backend.reassembly.translate(backend.array(images), backend.array(dx), backend.array(dy))
    agree("function", "translate", backend.numpy(found), oracle.translate(images, dx, dy))


def test_translate_by_whole_pixels_is_a_roll_of_the_padded_image(backend, agree, rng) -> None:
    images = np.pad(complex_normal(rng, 2, 5, 7), ((0, 0), (3, 3), (3, 3)))
    dx, dy = backend.array(np.array([2.0, -3.0])), backend.array(np.array([-1.0, 3.0]))
    found = backend.numpy(backend.reassembly.translate(backend.array(images), dx, dy))
    expected = np.stack([np.roll(images[0], (-1, 2), (0, 1)), np.roll(images[1], (3, -3), (0, 1))])
    agree("function", "translate by whole pixels = roll", found, expected)


@pytest.mark.parametrize(("n", "size"), [(5, 11), (5, 12), (8, 8)])
def test_place_and_cut_are_adjoint(backend, agree, n, size, rng) -> None:
    patches, canvases = complex_normal(rng, 2, 3, n, n), complex_normal(rng, 2, 3, size, size)
    shift = [backend.array(values) for values in offsets(rng, 4, 2, 3)]
    placed = backend.numpy(backend.reassembly.place(backend.array(patches), *shift, size))
    taken = backend.numpy(backend.reassembly.cut(backend.array(canvases), *shift, n))
    agree("function", "<place x, y> = <x, cut y>", np.vdot(placed, canvases), np.vdot(patches, taken))


def test_cut_takes_back_what_place_put_down(backend, agree, rng) -> None:
    patches, whole = complex_normal(rng, 2, 3, 5, 5), np.array([[1.0, 0, -2], [3, 2, 0]])
    shift = backend.array(whole), backend.array(-whole)
    placed = backend.reassembly.place(backend.array(patches), *shift, 11)
    agree("function", "cut(place)", backend.numpy(backend.reassembly.cut(placed, *shift, 5)), patches)


def test_weights_of_a_pixel_sum_to_one(backend, agree, rng) -> None:
    matrix = backend.numpy(backend.reassembly.placement_matrix(backend.array(rng.uniform(-3, 3, (4, 3))), 5, 13))
    agree("function", "partition of unity", matrix.sum(-2), np.ones((4, 3, 5)))


@pytest.mark.parametrize("size", [12, 13])
def test_groups_on_their_canvas(backend, agree, size, rng) -> None:
    members, weight, (dx, dy) = complex_normal(rng, 2, 3, 5, 5), rng.uniform(0.1, 1, (5, 5)), offsets(rng, 3, 2, 3)
    arguments = backend.array(dx), backend.array(dy), backend.array(weight), size
    found = backend.reassembly.assemble_group(backend.array(members), *arguments)
    agree("function", "assemble_group", backend.numpy(found), oracle.assemble_group(members, dx, dy, weight, size))


def test_constant_members_give_the_constant_where_they_reach_and_vacuum_elsewhere(backend) -> None:
    dx, dy = backend.array(np.array([[-2.0, 2.0]])), backend.array(np.array([[0.0, 0.5]]))
    members = backend.array(np.full((1, 2, 5, 5), 0.5 - 2j))
    canvas = backend.numpy(backend.reassembly.assemble_group(members, dx, dy, backend.array(np.ones((5, 5))), 14))[0]
    reached = abs(canvas - (0.5 - 2j)) < 1e-5
    assert np.array_equal(reached, abs(canvas - 1) > 1e-5)
    # middles at 4.5 +- 2 and half pixels: two rows of pixels more than the patch is high, and 5 + 4 wide
    assert reached.any(axis=1).sum() == 6
    assert reached.any(axis=0).sum() == 10


def test_gradients_of_groups(framework, agree, rng) -> None:
    members, weight, (dx, dy) = complex_normal(rng, 2, 3, 5, 5), rng.uniform(0.1, 1, (5, 5)), offsets(rng, 3, 2, 3)
    target = complex_normal(rng, 2, 3, 5, 5)
    shift = framework.array(dx), framework.array(dy)

    def inner_product(values):
        canvas = framework.reassembly.assemble_group(values, *shift, framework.array(weight), 12)
        patches = framework.reassembly.cut(canvas[:, None], *shift, 5)
        return framework.total(framework.physics.squared_modulus(patches - framework.array(target))) / 2

    def expected(values: np.ndarray) -> float:
        canvas = oracle.assemble_group(values, dx, dy, weight, 12)
        return float((abs(oracle.cut(canvas[:, None], dx, dy, 5) - target) ** 2).sum() / 2)

    gradient = framework.gradient(inner_product, members)
    # a quadratic function: central differences are exact
    units = np.eye(members.size).reshape(-1, *members.shape)
    for index in rng.choice(members.size, 12, replace=False):
        slope = complex(
            *(((expected(members + u) - expected(members - u)) / 2) for u in (units[index], 1j * units[index]))
        )
        assert gradient.ravel()[index] == pytest.approx(slope, rel=1e-4, abs=1e-5)
    direction = complex_normal(rng, *members.shape)
    slope = (expected(members + direction) - expected(members - direction)) / 2
    agree("gradient", "of a group, against the oracle", np.vdot(gradient, direction).real, slope)
