"""What slices of an object add up to; `tests/parity/test_slices.py` has the laws of every engine."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.core.physics.near_field import NearField
from ptycho.core.refinement.device.kernels import Measured, Point
from ptycho.core.refinement.device.kernels_numpy import NumpyKernels
from ptycho.core.refinement.device.slices import SlicedKernels
from ptycho.core.refinement.sums.passes import Passes
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData

N, SIZE = 12, 30


def test_a_slice_beside_empty_ones_is_an_object_as_ever(rng) -> None:
    """Wherever it stands, where free space is short; and without slices the kernels are those of the engine."""
    made = make_scan("lines", SIZE, N, 6.0, 0.5, 1e4, 4)
    scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")
    image, kernels = 1 + 0.2 * (rng.standard_normal((SIZE, SIZE)) + 1j), NumpyKernels("amplitude", 1e-9)
    beam = np.ones(len(scan)), np.zeros((N, N))
    thin = Point(image, np.asarray(scan.probeGuess, complex)[None], scan.xcoords, scan.ycoords, *beam)
    common = kernels, scan, [np.arange(len(scan))], np.arange(0), 1, 0
    plain, sliced = Passes(*common), Passes(*common, gap=NearField(1e9), slices=2)
    for pair in ([image, np.ones_like(image)], [np.ones_like(image), image]):
        assert sliced.error(thin._replace(object=np.stack(pair))) == pytest.approx(plain.error(thin), rel=1e-6)
    assert plain.kernels is kernels and plain.stretch_slope(thin) == (0.0, 0.0)


def test_fields_are_not_taken_along_in_a_straight_line(rng) -> None:
    kernels = SlicedKernels(NumpyKernels("amplitude", 1e-9), NearField(0.25))
    probes, patches = rng.standard_normal((2, 1, 1, 8, 8)) + 1j
    rows = cols = np.zeros(1, int)
    thick = kernels.thick(kernels.image(np.stack([patches[0, 0]] * 2)), 1.0, 8)
    fields = kernels.fields(probes, kernels.cut(thick, kernels.corners(rows, cols), 8))
    assert kernels.error(fields, Measured(np.zeros((1, 8, 8)), None)) > 0
    with pytest.raises(NotImplementedError):
        kernels.advanced(fields, fields, 1.0)
