"""A small scan with masks and two modes, and passes over it."""

from dataclasses import dataclass

import numpy as np
import pytest

from ptycho.core.refinement.kernels import Point
from ptycho.core.refinement.kernels_numpy import NumpyKernels
from ptycho.core.refinement.likelihood import intensity_floor
from ptycho.core.refinement.passes import Passes
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData

N, SIZE = 16, 44


@dataclass
class Small:
    """A simulated scan, a point of the search, and passes over it."""

    scan: RawData
    point: Point

    def passes(self, likelihood="amplitude", keep=0, groups=None, unseen=()):
        kernels = NumpyKernels(likelihood, intensity_floor(self.scan, likelihood))
        groups = [np.arange(len(self.scan))] if groups is None else groups
        return Passes(kernels, self.scan, groups, np.asarray(unseen, int), len(self.point.probe), keep)

    def slope(self, passes: Passes, move: Point, step: float = 1e-5) -> float:
        """Derivative of the error along a move, by a central difference."""
        pairs = [(a, step * b) for a, b in zip(self.point, move, strict=True)]
        ends = [Point(*(a + sign * b for a, b in pairs)) for sign in (1, -1)]
        return (passes.error(ends[0]) - passes.error(ends[1])) / (2 * step)


@pytest.fixture(params=[None, "one", "each"], ids=["no mask", "a mask", "masks"])
def small(request, rng) -> Small:
    made = make_scan("lines", SIZE, N, 6.0, 0.5, 1e4, 4)
    mask = None
    if request.param is not None:
        mask = rng.random(made.diffraction.shape if request.param == "each" else (N, N)) > 0.2
    scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, mask=mask, units="amplitude")
    noise = rng.standard_normal((2, 2, SIZE, SIZE))
    image = made.object + 0.1 * (noise[0, 0] + 1j * noise[0, 1])
    probe = np.stack([made.probe, 0.3 * np.roll(made.probe, 2, axis=0)]).astype(complex)
    return Small(scan, Point(image, probe, scan.xcoords, scan.ycoords, np.ones(len(scan)), np.zeros((N, N))))
