"""PyTorch physics and group canvases against the NumPy oracle, in double and single precision."""

import numpy as np
import pytest
import torch

from ptycho.core.physics import diffraction, patches, projection
from ptycho_torch import physics, reassembly

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6}
DTYPES = list(TOLERANCE)


def complex_normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def tensor(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    kind = dtype.to_complex() if np.iscomplexobj(array) else dtype
    return torch.as_tensor(array).to(kind)


def assert_same(found: torch.Tensor, expected: np.ndarray, dtype: torch.dtype) -> None:
    assert found.shape == expected.shape
    error = np.linalg.norm(found.detach().numpy() - expected) / np.linalg.norm(expected)
    assert error < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_model(dtype: torch.dtype, rng: np.random.Generator) -> None:
    probe, object_patches = complex_normal(rng, 3, 8, 8), complex_normal(rng, 2, 4, 8, 8)
    dx, dy = rng.uniform(-0.5, 0.5, (2, 4)), rng.uniform(-0.5, 0.5, (2, 4))
    expected = diffraction.diffract(probe, object_patches, dx, dy)
    moved = physics.fourier_shift(tensor(probe, dtype), tensor(dx, dtype)[..., None], tensor(dy, dtype)[..., None])
    found = physics.intensity(physics.illuminate(moved, tensor(object_patches, dtype)))
    assert_same(found, expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_far_field_its_inverse_and_smoothing(dtype: torch.dtype, rng: np.random.Generator) -> None:
    waves = complex_normal(rng, 2, 8, 8)
    assert_same(physics.far_field(tensor(waves, dtype)), diffraction.far_field(waves), dtype)
    assert_same(physics.propagate_back(tensor(waves, dtype)), diffraction.propagate_back(waves), dtype)
    assert_same(physics.smooth(tensor(waves, dtype), 0.7), diffraction.smooth(waves, 0.7), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masked", [False, True])
def test_projection(dtype: torch.dtype, masked: bool, rng: np.random.Generator) -> None:
    probe, amplitude = complex_normal(rng, 2, 8, 8), rng.random((3, 8, 8))
    mask = rng.random((8, 8)) > 0.3 if masked else None
    expected = projection.project_from_vacuum(amplitude, probe, mask)
    constants = physics.projection_constants(tensor(probe, dtype))
    found = physics.project_from_vacuum(
        tensor(amplitude, dtype), constants, None if mask is None else torch.as_tensor(mask)
    )
    assert_same(found, expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_canvases(dtype: torch.dtype, rng: np.random.Generator) -> None:
    dx, dy = rng.uniform(-2, 2, (2, 3)), rng.uniform(-2, 2, (2, 3))
    members, canvas, weight = (
        complex_normal(rng, 2, 3, 5, 5),
        complex_normal(rng, 2, 3, 10, 10),
        rng.uniform(0.1, 1, (5, 5)),
    )
    shifts = tensor(dx, dtype), tensor(dy, dtype)
    assert_same(reassembly.translate(tensor(members, dtype), *shifts), patches.translate(members, dx, dy), dtype)
    assert_same(reassembly.place(tensor(members, dtype), *shifts, 10), patches.place(members, dx, dy, 10), dtype)
    assert_same(reassembly.cut(tensor(canvas, dtype), *shifts, 5), patches.cut(canvas, dx, dy, 5), dtype)
    found = reassembly.assemble_group(tensor(members, dtype), *shifts, tensor(weight, dtype), 10)
    assert_same(found, patches.assemble_group(members, dx, dy, weight, 10), dtype)


def test_gradients_of_canvases_and_far_field() -> None:
    generator = torch.Generator().manual_seed(0)
    members = torch.randn(1, 2, 4, 4, dtype=torch.complex128, generator=generator, requires_grad=True)
    shift = torch.rand(1, 2, dtype=torch.float64, generator=generator)
    weight = torch.rand(4, 4, dtype=torch.float64, generator=generator) + 0.1

    def counts(values: torch.Tensor) -> torch.Tensor:
        canvas = reassembly.assemble_group(values, shift, -shift, weight, 8)
        return physics.intensity(reassembly.cut(canvas[:, None], shift, -shift, 4)[:, :, None])

    assert torch.autograd.gradcheck(counts, members)


def test_root_and_modulus_have_a_gradient_of_zero_at_zero() -> None:
    field = torch.zeros(2, dtype=torch.complex128, requires_grad=True)
    values = torch.tensor([0.0, 4.0], dtype=torch.float64, requires_grad=True)
    (physics.squared_modulus(field).sum() + physics.safe_sqrt(values).sum()).backward()
    assert torch.equal(field.grad, torch.zeros_like(field))
    assert values.grad.tolist() == [0.0, 0.25]
