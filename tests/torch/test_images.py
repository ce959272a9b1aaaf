"""Images on a device of PyTorch against those in NumPy."""

import numpy as np
import pytest
import torch

from ptycho.core.refinement.images import NumpyImages, Resident
from ptycho.core.refinement.preconditioner import Preconditioner
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
    pairs = [(gradient, other), (probe, slope)]
    assert ours.dot(pairs) == pytest.approx(oracle.dot(pairs), rel=50 * TOLERANCE[dtype])
    made = [Preconditioner(image, probe, rows, cols, True, images=images) for images in (ours, oracle)]
    there, here = (each.object_step(gradient, image) for each in made)
    close(there, here)
    close(*(each.probe_step(slope, probe) for each in made))
    close(made[0].object_step(there, image), made[1].object_step(here, image))
