"""A sample and its spectrum are one result in two forms."""

import numpy as np

from ptycho.core.fourier_result import as_sample, as_spectrum
from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.fourier_ptychography import KEY
from ptycho.core.reconstruction import Reconstruction


def test_there_and_back() -> None:
    """A pupil of 4 pixels at one place of a spectrum of 6: the light is its own, pixels are no metres."""
    rng = np.random.default_rng(0)
    spectrum = (rng.normal(size=(6, 6)) + 1j * rng.normal(size=(6, 6))).astype(np.complex64)
    pupil = (1 + 1j * rng.normal(size=(1, 4, 4))).astype(np.complex64)
    solved = Reconstruction(
        object=spectrum,
        coverage=np.ones((6, 6), np.float32),
        probe=pupil,
        xcoords=np.array([3.0]),
        ycoords=np.array([2.0]),
        frame=ObjectFrame(6, 6, 0, 0),
        backend="numpy",
        method="refined",
        subpixel="fourier",
        network_object=None,
        error_history=(),
        timings={},
        synchronised=False,
        agreement=(float("nan"), float("nan")),
    )
    sample = as_sample(solved, {"na": 0.1}, 5e-7)
    assert sample.pixel_m == 5e-7 and sample.metadata[KEY] == {"na": 0.1}
    np.testing.assert_array_equal(sample.probe, pupil.conj())
    back = as_spectrum(sample)
    np.testing.assert_allclose(back.object, spectrum, atol=1e-6)
    np.testing.assert_array_equal(back.probe, pupil)
    assert back.pixel_m is None
    np.testing.assert_allclose(back.coverage[0:4, 1:5], np.abs(pupil[0]) ** 2, rtol=1e-6)
    assert np.count_nonzero(back.coverage) == 16
