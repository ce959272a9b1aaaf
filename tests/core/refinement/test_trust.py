"""Patterns held against a result: read once, kept nowhere, and dark outside the object."""

import numpy as np
import pytest

from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.recording import Recording
from ptycho.core.quality.trust import Trust
from ptycho.core.refinement.device.kernels_numpy import NumpyKernels
from ptycho.core.refinement.trust import TrustEngine, measure_trust
from ptycho.core.simulation.plan import make_scan
from ptycho.errors import DataError

N, SIZE = 16, 44


class Watched(NumpyKernels):
    """Few patterns at once; what is fetched and closed is counted."""

    batch_pixels = 10 * N * N
    fetched, closed = 0, 0

    def numpy(self, values):
        Watched.fetched += 1
        return super().numpy(values)

    def close(self):
        Watched.closed += 1


@pytest.fixture
def made():
    return make_scan("lines", SIZE, N, 5.0, 0.5, 1e4, 4)


def trust(made, **changes) -> Trust:
    given = {
        "object": made.object, "probe": made.probe, "xcoords": made.xcoords, "ycoords": made.ycoords,
        "amplitude": lambda some: made.diffraction[some], "photon_scale": 1.0, "dose": "measured",
    }  # fmt: skip
    return measure_trust(**{**given, **changes})


def test_patterns_are_read_once_and_what_is_found_is_fetched_once(made):
    read = []

    def amplitude(some):
        read.append(some)
        return made.diffraction[some]

    Watched.fetched = Watched.closed = 0
    found = trust(made, amplitude=amplitude, engine=TrustEngine(lambda: Watched("amplitude", 0.0)))
    assert np.concatenate(read).tolist() == list(range(len(made.xcoords))) and max(map(len, read)) == 9
    assert (Watched.fetched, Watched.closed) == (1, 1)
    np.testing.assert_allclose(found.deviance, trust(made).deviance, rtol=1e-12)


def test_kernels_are_closed_where_reading_fails(made):
    def amplitude(some):
        raise OSError("gone")

    Watched.closed = 0
    with pytest.raises(OSError, match="gone"):
        trust(made, amplitude=amplitude, engine=TrustEngine(lambda: Watched("amplitude", 0.0)))
    assert Watched.closed == 1


@pytest.mark.parametrize("slices", [1, 2])
def test_the_object_is_0_outside(made, slices):
    """As with a rim of zeros of any width, also where a position is half a pixel off."""
    rim, x, y = 6, made.xcoords - 8.5, made.ycoords - 4.5
    x[0], y[0] = made.xcoords[0] + 1.5, made.ycoords[0] + 4.0
    image = made.object if slices == 1 else np.stack([made.object, made.object[::-1]])
    wide = np.pad(image, [(0, 0)] * (slices - 1) + [(2 * rim, 2 * rim)] * 2)
    gap = None if slices == 1 else NearField(0.4)
    known = {"recording": Recording(gap=gap)}
    found = trust(made, object=image, xcoords=x, ycoords=y, **known)
    around = trust(made, object=wide, xcoords=x + 2 * rim, ycoords=y + 2 * rim, **known)
    np.testing.assert_allclose(found.deviance, around.deviance, rtol=1e-10)


def test_what_is_far_outside_takes_no_memory(made):
    far, near = made.xcoords.copy(), made.xcoords.copy()
    far[3], near[3] = 1e12, SIZE + 2 * N
    found = trust(made, xcoords=far)
    np.testing.assert_array_equal(found.deviance, trust(made, xcoords=near).deviance)
    assert found.deviance[3] > 100 * found.deviance[0]
    far[3] = np.nan
    with pytest.raises(DataError, match="positions: expected finite values"):
        trust(made, xcoords=far)


def test_a_pattern_of_which_nothing_is_predicted_is_finite(made):
    dark = made.object.copy()
    dark[:24, :24] = 0
    found = trust(made, object=dark)
    assert np.isfinite(found.deviance).all() and found.ratio.max() > 100


def test_values_that_are_not_finite_are_refused(made):
    made.diffraction[3, 4, 5] = np.nan
    with pytest.raises(DataError, match="expected finite values in valid pixels"):
        trust(made)
    mask = np.ones((N, N), bool)
    mask[4, 5] = False
    assert np.isfinite(trust(made, mask=mask).deviance).all()


def test_there_has_to_be_a_pattern(made):
    with pytest.raises(DataError, match="expected light in the valid pixels of 0 patterns"):
        trust(made, xcoords=made.xcoords[:0], ycoords=made.ycoords[:0])
