"""Steps are mapped slice by slice, each as lit as free space has it."""

from __future__ import annotations

import numpy as np

from ptycho.core.physics.near_field import NearField
from ptycho.core.refinement.steps.preconditioner import Preconditioner
from ptycho.core.refinement.steps.sliced_preconditioner import SlicedPreconditioner

GAP = NearField(0.25)


def test_each_slice_is_mapped_as_one_that_is_lit_by_the_probe_there(rng) -> None:
    image = 1 + 0.1 * (rng.standard_normal((2, 21, 20)) + 1j)
    probe = np.exp(-((np.indices((12, 12)) - 6.0) ** 2).sum(axis=0) / 12)[None].astype(complex)
    gap = GAP.transfer_function(12)
    at = np.array([0, 5, 8]), np.array([0, 4, 8])
    gradient = rng.standard_normal((2, 21, 20)) + 1j
    step = SlicedPreconditioner(image, probe, *at, True, gap)
    behind = np.fft.ifft2(np.fft.fft2(probe) * gap)
    for k, lit in enumerate((probe, behind)):
        expected = Preconditioner(image[k], lit, *at, False).object_step(gradient[k], image[k])
        np.testing.assert_allclose(step.object_step(gradient, image)[k], expected, rtol=1e-6)
    assert np.vdot(gradient, step.object_step(gradient, image)).real > 0
    first = Preconditioner(image[0], probe, *at, True).probe_step(probe, probe)
    np.testing.assert_allclose(step.probe_step(probe, probe), first)
