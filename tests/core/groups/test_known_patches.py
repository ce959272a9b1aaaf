"""Labels cut from a known object: where they lie, on which canvas, and what is no label."""

import numpy as np
import pytest

from ptycho.core.groups.container import GroupContainer
from ptycho.core.groups.known_patches import ObjectLabels, object_labels
from ptycho.core.groups.neighbourhood import make_neighbourhoods
from ptycho.core.physics.patches import extract
from ptycho.errors import DataError
from ptycho.raw_data import RawData


class NumpyContainer(GroupContainer):
    """A container of arrays."""

    def tensor(self, array):
        return array


@pytest.fixture
def known(rng: np.random.Generator) -> np.ndarray:
    return (rng.normal(size=(9, 12)) + 1j * rng.normal(size=(9, 12))).astype(np.complex64)


def test_patches_lie_around_their_positions(known) -> None:
    """Points 0 and 2 at whole pixels, point 1 between two columns; members last."""
    labels = object_labels(known, [3, 5.5, 6], [2, 4, 5])
    found = labels.at(np.array([[0, 1], [2, 0]]), 4)
    assert (found.shape, found.dtype) == ((2, 4, 4, 2), np.complex64)
    np.testing.assert_array_equal(found[0, ..., 0], known[0:4, 1:5])
    np.testing.assert_array_equal(found[1, ..., 0], known[3:7, 4:8])
    np.testing.assert_allclose(found[0, ..., 1], (known[2:6, 3:7] + known[2:6, 4:8]) / 2, rtol=1e-6)


@pytest.mark.parametrize(("middle", "column"), [(3, 5), (4, 6)])
def test_on_a_canvas_half_pixels_go_where_the_canvas_rounds_them(known, middle, column) -> None:
    """The point at 5.5 is 2.5 or 1.5 pixels from the canvas' middle: either goes to 2, the nearest even number."""
    labels = ObjectLabels(known, np.array([5.5]), np.array([4.0]))
    positions = np.array([middle - 5.5, 4 - 4.0], np.float32).reshape(1, 1, 2, 1)
    found = labels.on_grid(np.array([[0]]), positions, 4)
    np.testing.assert_array_equal(found[0, ..., 0], known[2:6, column - 2 : column + 2])


def test_the_first_layer_is_the_object_and_a_flat_one_teaches_nothing(known) -> None:
    layered = object_labels(np.stack([known, 0 * known]), [3], [2])
    np.testing.assert_array_equal(layered.object, known)
    assert object_labels(None, [3], [2]) is None
    with pytest.raises(DataError, match="found one that is the same everywhere: put the true object there, add Y"):
        object_labels(np.full((9, 12), 1 + 2j), [3], [2])


def test_a_container_brings_the_labels_of_its_batch(scan: RawData) -> None:
    labels = object_labels(scan.objectGuess, scan.xcoords, scan.ycoords)
    grouped = scan.generate_grouped_data(64, K=6, nsamples=5, gridsize=2, seed=1)
    container = NumpyContainer(grouped, scan.probeGuess, labels=labels)
    container.check_truth()
    truth = container.arrays([3, 1], truth=True)[3]
    for row, group in enumerate((3, 1)):
        x, y = grouped["coords_nn"][group, 0]
        np.testing.assert_array_equal(np.moveaxis(truth[row], -1, 0), extract(scan.objectGuess, x, y, 64))
    with pytest.raises(DataError, match=r"needs ground-truth patches, found a scan without: add Y \(n, N, N\)"):
        NumpyContainer(grouped, scan.probeGuess).check_truth()


def test_patches_of_the_file_come_before_the_object(scan: RawData) -> None:
    own = np.full((64, 64, 64), 2j, np.complex64)
    other = RawData(scan.xcoords, scan.ycoords, None, None, scan.diff3d, scan.probeGuess, Y=own, units=scan.units)
    labels = object_labels(scan.objectGuess, scan.xcoords, scan.ycoords)
    container = NumpyContainer(other.generate_grouped_data(64, nsamples=2, gridsize=1), scan.probeGuess, labels=labels)
    assert np.all(container.arrays([0], truth=True)[3] == 2j)


def test_drawn_neighbours_have_labels_of_one_object(scan: RawData) -> None:
    """Two members of a canvas agree where both see it: they are cut at the whole pixels at which it has them."""
    grouped = scan.generate_grouped_data(64, nsamples=3, gridsize=1, seed=1)
    seeds = grouped["nn_indices"][:, 0]
    drawn = make_neighbourhoods(scan.xcoords, scan.ycoords, seeds, 5, seed=2)
    labels = object_labels(scan.objectGuess, scan.xcoords, scan.ycoords)
    container = NumpyContainer(grouped, scan.probeGuess, neighbourhoods=drawn, labels=labels)
    _, positions, _, truth = container.arrays([0, 2], truth=True)
    assert truth.shape == (2, 64, 64, 5)
    places = np.rint(-positions[:, 0]).astype(int)
    for group in range(2):
        for member in range(1, 5):
            right, down = places[group, :, member] - places[group, :, 0]
            first, other = (truth[group, ..., one] for one in (0, member))
            ours = first[max(down, 0) : 64 + min(down, 0), max(right, 0) : 64 + min(right, 0)]
            theirs = other[max(-down, 0) : 64 + min(-down, 0), max(-right, 0) : 64 + min(-right, 0)]
            np.testing.assert_array_equal(ours, theirs)
            assert ours.size > 32**2
            assert np.ptp(np.abs(ours)) > 0.1
