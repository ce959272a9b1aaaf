"""Images and numbers on a device of PyTorch against NumPy's and Python's."""

import numpy as np
import pytest
import torch

from ptycho.core.refinement.device.images import NumpyImages, Resident
from ptycho.core.refinement.device.numbers import PlainNumbers
from ptycho.core.refinement.steps.preconditioner import Preconditioner
from ptycho_torch.images import TorchNumbers
from ptycho_torch.refinement_kernels import RefinementKernels

N, SIZE = 16, 37
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-13}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_they_are_those_in_numpy(dtype, rng) -> None:
    kernels = RefinementKernels("amplitude", 0.0, dtype=dtype)
    ours, oracle = kernels.images, NumpyImages()
    image, gradient, other = rng.standard_normal((3, SIZE, SIZE)) + 1j * rng.standard_normal((3, SIZE, SIZE))
    image[:5] *= 1e-9  # dark, where the phase is not asked
    probe, slope = rng.standard_normal((2, 2, N, N)) + 1j * rng.standard_normal((2, 2, N, N))
    rows, cols = rng.integers(0, SIZE - N + 1, (2, 30))

    def close(found, expected) -> None:
        assert isinstance(found, Resident)
        assert found.dtype == (np.complex64 if dtype == torch.float32 else np.complex128)
        assert np.linalg.norm(found - expected) <= TOLERANCE[dtype] * np.linalg.norm(expected)

    close(ours.blend(-1.0, gradient, 0.3, ours.of(kernels.image(other))), oracle.blend(-1.0, gradient, 0.3, other))
    factor = torch.tensor(0.3, dtype=torch.float64)  # as it is where it stays on a device
    np.testing.assert_array_equal(ours.blend(-1.0, gradient, factor, other), ours.blend(-1.0, gradient, 0.3, other))
    pairs = [(gradient, other), (probe, slope)]
    assert ours.dot(pairs) == pytest.approx(oracle.dot(pairs), rel=50 * TOLERANCE[dtype])
    made = [Preconditioner(image, probe, rows, cols, True, images=images) for images in (ours, oracle)]
    there, here = (each.object_step(gradient, image) for each in made)
    close(there, here)
    close(*(each.probe_step(slope, probe) for each in made))
    close(made[0].object_step(there, image), made[1].object_step(here, image))


@pytest.mark.parametrize("shape", [(5, 7), (2, 4, 6), (2, 0, 6), (5, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_strips_are_filtered_by_is_that_in_numpy(shape, dtype, rng) -> None:
    """Rows are 0 in number where a process owns none, columns where it has none of the spectrum."""
    ours, oracle = RefinementKernels("amplitude", 0.0, dtype=dtype).images, NumpyImages()
    values = rng.standard_normal(shape).astype(torch.empty(0, dtype=dtype).numpy().dtype)
    most = {"rtol": 0, "atol": 30 * TOLERANCE[dtype]}

    def close(found, expected) -> None:
        assert found.dtype in (dtype, dtype.to_complex()) and found.shape == expected.shape
        np.testing.assert_allclose(found.numpy(), expected, **most)

    if values.size:
        padded = shape[-2] + 1, 9
        factor = rng.random((padded[0], 5)).astype(values.dtype)
        smoothed = oracle.smoothed(values, factor, padded)
        close(ours.smoothed(torch.from_numpy(values), torch.from_numpy(factor), padded), smoothed)
    if shape[-1]:
        spectra = oracle.row_spectra(values, 9)
        close(ours.row_spectra(torch.from_numpy(values), 9), spectra)
        if values.size:
            close(ours.rows_of(torch.from_numpy(spectra), 9), oracle.rows_of(spectra.copy(), 9))
    columns = values + 1j * values[::-1]
    factor = rng.random(shape).astype(values.dtype)
    found = ours.smoothed_columns(torch.from_numpy(columns.copy()), torch.from_numpy(factor))
    close(found, oracle.smoothed_columns(columns.copy(), factor) if values.size else columns)
    assert ours.zeros((2, 3), found).dtype == found.dtype
    assert oracle.zeros((2, 3), columns).dtype == columns.dtype


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("below", [2.0, 0.0, -1.0, np.nan])
def test_ratios_are_those_of_python(below) -> None:
    """A slope that comes from a file is Python's."""
    expected = PlainNumbers().ratio(3.0, below)
    for one, other in ((scalar(3.0), scalar(below)), (scalar(3.0), below), (3.0, scalar(below))):
        found = TorchNumbers().ratio(one, other)
        assert found.dtype == torch.float64
        assert float(found) == expected
    assert TorchNumbers().ratio(3.0, below) == expected  # sums of several processes


@pytest.mark.parametrize("holds", [True, False])
def test_choices_are_those_of_python(holds) -> None:
    chosen = TorchNumbers().choose(scalar(1.0) > (0.0 if holds else 2.0), scalar(0.3), 0.0)
    assert chosen.dtype == torch.float64
    assert float(chosen) == PlainNumbers().choose(holds, 0.3, 0.0)
    assert TorchNumbers().choose(holds, 0.3, 0.0) == float(chosen)
    assert TorchNumbers().of(chosen) is chosen and PlainNumbers().of(chosen) == float(chosen)
