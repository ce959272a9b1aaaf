"""Laws of the forward model, held by the oracle and by both backends; odd and unequal sizes where they may be."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.core.physics import diffraction, projection


def complex_normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def test_far_field_and_back(backend, agree, rng) -> None:
    waves = complex_normal(rng, 2, 3, 5, 8)
    physics = backend.physics
    field = physics.far_field(backend.array(waves))
    agree("function", "far_field", backend.numpy(field), diffraction.far_field(waves))
    agree("function", "propagate_back(far_field)", backend.numpy(physics.propagate_back(field)), waves)


def test_the_zero_frequency_is_in_the_middle(backend) -> None:
    field = backend.numpy(backend.physics.far_field(backend.array(np.ones((4, 6), complex))))
    expected = np.zeros((4, 6))
    expected[2, 3] = np.sqrt(24)
    np.testing.assert_allclose(field, expected, atol=1e-6)


def test_parseval_and_adjoint(backend, agree, rng) -> None:
    waves, other = complex_normal(rng, 3, 7, 9), complex_normal(rng, 3, 7, 9)
    field = backend.numpy(backend.physics.far_field(backend.array(waves)))
    back = backend.numpy(backend.physics.propagate_back(backend.array(other)))
    agree("function", "Parseval", np.linalg.norm(field), np.linalg.norm(waves))
    agree("function", "<F x, y> = <x, F^H y>", np.vdot(field, other), np.vdot(waves, back))


def test_fourier_shift(backend, agree, rng) -> None:
    images, dx, dy = complex_normal(rng, 2, 3, 5, 8), rng.uniform(-2, 2, (2, 3)), rng.uniform(-2, 2, (2, 3))
    shift = backend.physics.fourier_shift
    found = shift(backend.array(images), backend.array(dx), backend.array(dy))
    agree("function", "fourier_shift", backend.numpy(found), diffraction.fourier_shift(images, dx, dy))
    whole = shift(backend.array(images), backend.array(np.full((2, 3), 2.0)), backend.array(np.full((2, 3), -1.0)))
    agree("function", "fourier_shift by whole pixels = roll", backend.numpy(whole), np.roll(images, (-1, 2), (-2, -1)))


@pytest.mark.parametrize("masked", [False, True])
def test_illumination_with_modes_and_a_mask(backend, agree, masked, rng) -> None:
    probe, objects = complex_normal(rng, 3, 8, 8), complex_normal(rng, 2, 4, 8, 8)
    if masked:
        probe = probe * (rng.random((8, 8)) > 0.4)
    physics = backend.physics
    waves = physics.smooth(physics.illuminate(backend.array(probe), backend.array(objects)), 0.7)
    expected = diffraction.smooth(probe * objects[:, :, None], 0.7)
    agree("function", "illuminate, smooth", backend.numpy(waves), expected)
    field = np.fft.fftshift(np.fft.fft2(expected), axes=(-2, -1)) / 8
    agree("function", "intensity of modes", backend.numpy(physics.intensity(waves)), (abs(field) ** 2).sum(-3))


def test_a_probe_of_its_own_for_every_patch(backend, agree, rng) -> None:
    probe, objects = complex_normal(rng, 2, 4, 3, 8, 8), complex_normal(rng, 2, 4, 8, 8)
    found = backend.physics.illuminate(backend.array(probe), backend.array(objects))
    agree("function", "illuminate, a probe per patch", backend.numpy(found), probe * objects[:, :, None])


@pytest.mark.parametrize("masked", [False, True])
def test_projection(backend, agree, masked, rng) -> None:
    probe, amplitudes = complex_normal(rng, 2, 8, 8), rng.random((3, 5, 8, 8))
    mask = rng.random((8, 8)) > 0.3 if masked else None
    constants = backend.physics.projection_constants(backend.array(probe))
    valid = None if mask is None else backend.array(mask)
    found = backend.physics.project_from_vacuum(backend.array(amplitudes), constants, valid)
    expected = projection.project_from_vacuum(amplitudes, probe, mask)
    agree("function", "project_from_vacuum", backend.numpy(found), expected)


def test_an_empty_sample_projects_to_nothing(backend, rng) -> None:
    probe = complex_normal(rng, 2, 8, 8)
    amplitudes = np.sqrt(diffraction.intensity(probe))
    constants = backend.physics.projection_constants(backend.array(probe))
    found = backend.numpy(backend.physics.project_from_vacuum(backend.array(amplitudes), constants))
    # what is left is the floor in the phases of the vacuum, 1e-3 of its maximum
    assert abs(found).max() < 0.02


def test_gradients_of_the_forward_model(framework, agree, rng) -> None:
    """Of a weighted sum of the intensities, along random directions, against differences of the oracle."""
    probe, objects, weight = complex_normal(rng, 2, 5, 5), complex_normal(rng, 3, 5, 5), rng.random((3, 5, 5))
    physics, step = framework.physics, 1e-5

    def oracle(patches: np.ndarray) -> float:
        return float((weight * diffraction.diffract(probe, patches)).sum())

    def ours(patches):
        waves = physics.illuminate(framework.array(probe), patches)
        return framework.total(framework.array(weight) * physics.intensity(waves))

    gradient = framework.gradient(ours, objects)
    for _ in range(3):
        direction = complex_normal(rng, 3, 5, 5)
        slope = (oracle(objects + step * direction) - oracle(objects - step * direction)) / (2 * step)
        assert np.vdot(gradient, direction).real == pytest.approx(slope, rel=2e-5)
    fields = diffraction.far_field(diffraction.illuminate(probe, objects)) * weight[:, None]
    exact = 2 * (np.conj(probe) * diffraction.propagate_back(fields)).sum(-3)
    agree("gradient", "of intensity, against A^H", gradient, exact)


def test_root_and_modulus_have_a_gradient_of_zero_at_zero(framework) -> None:
    physics, total = framework.physics, framework.total
    assert framework.gradient(lambda x: total(physics.safe_sqrt(x)), np.array([0.0, 4.0])).tolist() == [0.0, 0.25]
    slope = framework.gradient(lambda x: total(physics.squared_modulus(x)), np.array([0j, 1 - 2j]))
    assert slope.tolist() == [0, 2 - 4j]
