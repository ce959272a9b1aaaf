"""Objects that several tests of the core compare with."""

import numpy as np
import pytest

from ptycho.core.simulation.objects import make_object


@pytest.fixture
def truth() -> np.ndarray:
    """A band-limited object, so that a sub-pixel shift of it is exact."""
    drawn = make_object("smooth", (75, 90), np.random.default_rng(11)).astype(np.complex128)
    radius = np.hypot(np.fft.fftfreq(75)[:, None], np.fft.fftfreq(90)[None, :])
    return np.fft.ifft2(np.fft.fft2(drawn) * (radius < 0.3))
