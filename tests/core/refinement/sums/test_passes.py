"""The oracle's errors, gradients and curvatures on a small scan."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.refinement.device.kernels import Direction, Point
from ptycho.raw_data import RawData

N, SIZE = 16, 44


@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
def test_gradients_of_the_oracle(small, likelihood, rng) -> None:
    passes, point = small.passes(likelihood), small.point
    error, gradient = passes.gradient(point, with_probe=True)
    assert error == pytest.approx(passes.error(point), rel=1e-12)
    energy = float((small.scan.amplitude().astype(float) ** 2).sum())
    zero = Point(*(np.zeros_like(a) for a in point))
    for _ in range(2):
        image = rng.standard_normal((SIZE, SIZE)) + 1j * rng.standard_normal((SIZE, SIZE))
        probe = rng.standard_normal(point.probe.shape) + 1j * rng.standard_normal(point.probe.shape)
        # f changes by 2 Re <df/d conj z, dz>
        along_object = 2 * np.vdot(gradient.object, image).real / energy
        along_probe = 2 * np.vdot(gradient.probe, probe).real / energy
        assert small.slope(passes, zero._replace(object=image)) == pytest.approx(along_object, rel=1e-5)
        assert small.slope(passes, zero._replace(probe=probe)) == pytest.approx(along_probe, rel=1e-5)


def test_the_curvature_is_that_of_the_error_where_the_data_are_explained(small, rng) -> None:
    """At an exact fit the Gauss-Newton curvature is the second derivative."""
    point, scan = small.point, small.scan
    patches, dx, dy = extract_rounded(point.object, point.x, point.y, N)
    exact = RawData(
        point.x, point.y, None, None, np.sqrt(diffract(point.probe, patches, dx, dy)), scan.probeGuess,
        mask=scan.mask, units="amplitude",
    )  # fmt: skip
    passes = replace(small, scan=exact).passes()
    move = Direction(
        rng.standard_normal((SIZE, SIZE)) + 1j * rng.standard_normal((SIZE, SIZE)),
        0.1 * (rng.standard_normal(point.probe.shape) + 1j * rng.standard_normal(point.probe.shape)),
    )
    step, energy = 1e-4, float((exact.amplitude().astype(float) ** 2).sum())
    ends = [Point(point.object + s * move.object, point.probe + s * move.probe, *point[2:]) for s in (step, -step)]
    second = (passes.error(ends[0]) + passes.error(ends[1]) - 2 * passes.error(point)) / step**2
    assert second == pytest.approx(2 * passes.curvature(point, move) / energy, rel=1e-3)
