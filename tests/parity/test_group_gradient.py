"""Gradient steps on a group's canvas, and sums of what members put on it: both backends against the oracle."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from ptycho.core.physics import group_gradient as oracle
from ptycho.core.physics import patches as core_patches
from ptycho.core.physics.detector_blur import blur_matrix
from ptycho.tf import group_gradient as tf_group_gradient
from ptycho_torch import group_gradient as torch_group_gradient

N, CANVAS = 8, 14


def complex_normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def functions(backend) -> ModuleType:
    return {"numpy": oracle, "pytorch": torch_group_gradient, "tensorflow": tf_group_gradient}[backend.name]


@pytest.fixture
def group(rng) -> dict[str, np.ndarray]:
    """Two small groups of three members, two modes."""
    whole = rng.integers(-3, 4, (2, 3, 2)).astype(float)
    remainder = rng.uniform(-0.5, 0.5, (2, 3, 2))
    return {
        "canvas": complex_normal(rng, 2, CANVAS, CANVAS),
        "amplitudes": rng.uniform(0, 3, (2, 3, N, N)),
        "probe": complex_normal(rng, 2, N, N),
        "whole": whole,
        "remainder": remainder,
        "mask": rng.random((2, 3, N, N)) > 0.2,
    }


def test_positions_are_split_alike(backend, rng) -> None:
    """Halves too: all three round them to even."""
    halves = [[[0.5, -0.5], [1.5, -2.5], [3.0, -3.5]]]
    positions = np.concatenate([rng.uniform(-9, 9, (2, 3, 2)), halves])
    whole, remainder = (backend.numpy(part) for part in functions(backend).split_positions(backend.array(positions)))
    np.testing.assert_array_equal(whole, np.rint(-positions))
    np.testing.assert_allclose(remainder, -positions - whole, atol=1e-6)


def test_probes_at_their_remainders(backend, agree, group) -> None:
    found = functions(backend).shifted_probes(backend.array(group["probe"]), backend.array(group["remainder"]))
    agree("network", "shifted_probes", backend.numpy(found), oracle.shifted_probes(group["probe"], group["remainder"]))


def test_the_light_on_a_canvas(backend, agree, group) -> None:
    probes = oracle.shifted_probes(group["probe"], group["remainder"])
    found = functions(backend).group_illumination(backend.array(probes), backend.array(group["whole"]), CANVAS)
    agree(
        "network", "group_illumination", backend.numpy(found), oracle.group_illumination(probes, group["whole"], CANVAS)
    )


@pytest.mark.parametrize("sigma_px", [0.0, 0.7])
@pytest.mark.parametrize("masked", [False, True])
def test_a_step_on_the_canvas(backend, agree, group, masked, sigma_px) -> None:
    probes = oracle.shifted_probes(group["probe"], group["remainder"])
    arrays = [group["canvas"], group["amplitudes"], probes, group["whole"]]
    mask = group["mask"] if masked else None
    given = None if mask is None else backend.array(mask)
    found = functions(backend).amplitude_step(*map(backend.array, arrays), given, sigma_px)
    for what, one, other in zip(("step", "light"), found, oracle.amplitude_step(*arrays, mask, sigma_px), strict=True):
        agree("network", f"amplitude_step, {what}", backend.numpy(one), other)


@pytest.mark.parametrize("sigma", [0.0, 0.9])
@pytest.mark.parametrize("by", ["canvas", "probe"])
def test_gradients_of_a_step(both, dtype, agree, group, by, sigma, rng) -> None:
    """Of a number made of step and light, by the canvas and by the probe; between the frameworks and the oracle."""
    target, glow = complex_normal(rng, 2, CANVAS, CANVAS), rng.random((2, CANVAS, CANVAS))
    blur = blur_matrix(N, sigma) if sigma else None

    def value(backend, values):
        module, array = functions(backend), backend.array
        canvas, probe = array(group["canvas"]), array(group["probe"])
        canvas, probe = (values, probe) if by == "canvas" else (canvas, values)
        probes = module.shifted_probes(probe, array(group["remainder"]))
        mask, whole, amplitudes = (array(group[name]) for name in ("mask", "whole", "amplitudes"))
        given = None if blur is None else array(blur)
        step, light = module.amplitude_step(canvas, amplitudes, probes, whole, mask, blur=given)
        power = backend.physics.squared_modulus(step - array(target))
        return backend.total(power) + backend.total(array(glow) * light)

    def expected(values: np.ndarray) -> float:
        canvas, probe = (values, group["probe"]) if by == "canvas" else (group["canvas"], values)
        probes = oracle.shifted_probes(probe, group["remainder"])
        fixed = group["amplitudes"], probes, group["whole"], group["mask"]
        step, light = oracle.amplitude_step(canvas, *fixed, blur=blur)
        return float((abs(step - target) ** 2).sum() + (glow * light).sum())

    gradients = [backend.gradient(lambda values, b=backend: value(b, values), group[by]) for backend in both]
    agree("network gradient", f"of amplitude_step, by {by}", gradients[1], gradients[0])
    direction = complex_normal(rng, *group[by].shape)
    slope = (expected(group[by] + 1e-6 * direction) - expected(group[by] - 1e-6 * direction)) / 2e-6
    limit = 1e-3 if dtype == "float32" else 1e-6
    assert np.vdot(gradients[0], direction).real == pytest.approx(slope, rel=limit)


@pytest.mark.parametrize("complex_images", [False, True])
def test_place_sum_is_the_sum_of_what_place_puts_down(framework, agree, complex_images, rng) -> None:
    patches = complex_normal(rng, 2, 3, 5, 5)
    patches = patches if complex_images else patches.real
    dx, dy = rng.uniform(-4, 4, (2, 2, 3))
    found = framework.reassembly.place_sum(*map(framework.array, (patches, dx, dy)), 12)
    agree("function", "place_sum", framework.numpy(found), core_patches.place(patches, dx, dy, 12).sum(axis=1))


def test_place_sum_and_cut_are_adjoint(framework, agree, rng) -> None:
    patches, canvas = complex_normal(rng, 2, 3, 5, 5), complex_normal(rng, 2, 11, 11)
    shift = [framework.array(values) for values in rng.uniform(-4, 4, (2, 2, 3))]
    placed = framework.numpy(framework.reassembly.place_sum(framework.array(patches), *shift, 11))
    taken = framework.numpy(framework.reassembly.cut(framework.array(canvas)[:, None], *shift, 5))
    agree("function", "<place_sum x, y> = <x, cut y>", np.vdot(placed, canvas), np.vdot(patches, taken))


def test_a_step_that_knows_flux_and_blur(backend, agree, group, rng) -> None:
    """A flux of 1 is no change of a single bit."""
    probes = oracle.shifted_probes(group["probe"], group["remainder"])
    arrays = [group["canvas"], group["amplitudes"], probes, group["whole"]]
    flux = rng.uniform(0.5, 1.5, (2, 3, 1, 1))
    step = functions(backend).amplitude_step
    given = [*map(backend.array, arrays), None, 0.0]
    found = step(*given, backend.array(flux))
    expected = oracle.amplitude_step(*arrays, None, 0.0, flux)
    for what, one, other in zip(("step", "light"), found, expected, strict=True):
        agree("network", f"amplitude_step, recorded, {what}", backend.numpy(one), other)
    found = step(*given, backend.array(flux), backend.array(blur_matrix(N, 1.1)))
    expected = oracle.amplitude_step(*arrays, None, 0.0, flux, blur_matrix(N, 1.1))
    agree("network", "amplitude_step, blurred", backend.numpy(found[0]), expected[0])
    back = functions(backend).way_back(backend.array(blur_matrix(7, 1.1)))
    agree("function", "way_back", backend.numpy(back), oracle.way_back(blur_matrix(7, 1.1)))
    plain = step(*given), step(*given, backend.array(np.ones((2, 3, 1, 1))))
    for one, other in zip(*plain, strict=True):
        np.testing.assert_array_equal(backend.numpy(one), backend.numpy(other))
