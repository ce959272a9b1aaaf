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


@pytest.mark.parametrize("holds", [True, False])
def test_choices_are_those_of_python(holds) -> None:
    chosen = TorchNumbers().choose(scalar(1.0) > (0.0 if holds else 2.0), scalar(0.3), 0.0)
    assert chosen.dtype == torch.float64
    assert float(chosen) == PlainNumbers().choose(holds, 0.3, 0.0)
    assert TorchNumbers().choose(holds, 0.3, 0.0) == float(chosen)
    assert TorchNumbers().of(chosen) is chosen and PlainNumbers().of(chosen) == float(chosen)
