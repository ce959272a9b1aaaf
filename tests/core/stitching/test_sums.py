"""Sums of patches on a canvas: a backend may bring its own, and is given each patch once."""

import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame
from ptycho.core.stitching.overlaps import Turns
from ptycho.core.stitching.stitch import stitch, stitch_variants
from ptycho.core.stitching.sums import Layout, NumpySums, Piece, splat


def test_patches_by_hand():
    """Two patches of 1 x 2, one of them a quarter of a pixel to the right, with the phase i in the second variant."""
    sums = NumpySums(Layout((3, 4), np.array([[1.0, 2.0]]), variants=2, seconds=1))
    patches = np.array([[[1, 1]], [[2, 4j]]], np.complex128)
    turn = Turns(np.array([1, 1j])).factors(np.arange(2), slice(0, 1), slice(0, 2), 2, patches.dtype)
    sums.add(Piece(patches, np.array([0, 1]), np.array([0, 1]), np.array([0, 0.25]), np.zeros(2), [None, turn]))
    found = sums.totals()
    np.testing.assert_array_equal(found.weights, [[1, 2, 0, 0], [0, 0.75, 1.75, 0.5], [0, 0, 0, 0]])
    np.testing.assert_array_equal(found.squared[1], [0, 0.75**2, 1.75**2, 0.25])
    np.testing.assert_array_equal(found.first[0], [[1, 2, 0, 0], [0, 1.5, 0.5 + 6j, 2j], [0, 0, 0, 0]])
    np.testing.assert_array_equal(found.first[1], [[1, 2, 0, 0], [0, 1.5j, 0.5j - 6, -2], [0, 0, 0, 0]])
    np.testing.assert_allclose(found.second[0, 1], [0, 1.5**2 / 0.75, (0.25 + 36) / 1.75, 4 / 0.5])


def test_a_moved_window_keeps_its_sum(rng):
    values = rng.standard_normal((3, 4, 6))
    dx, dy = rng.random((2, 3, 1, 1))
    windows = splat(values, dx, dy)
    assert windows.shape == (3, 5, 7)
    np.testing.assert_allclose(windows.sum(axis=(1, 2)), values.sum(axis=(1, 2)))
    np.testing.assert_array_equal(splat(values, 0 * dx, 0 * dy)[:, :4, :6], values)


@pytest.mark.parametrize("pixels", [1, 200, 1 << 20])
def test_sums_of_another_are_given_each_patch_that_reaches_the_frame_once(rng, pixels):
    """In order, with a window that lies on the canvas, at most as many at once as they ask for."""
    n, N = 31, 9
    x, y = rng.uniform(-20, 40, (2, n))
    frame, given = ObjectFrame(17, 25, 0, 0), []

    class Told(NumpySums):
        def __init__(self, layout: Layout) -> None:
            super().__init__(layout)
            self.pixels, self.layout = pixels, layout

        def add(self, piece: Piece) -> None:
            assert 1 <= len(piece.patches) <= max(1, pixels // 81)
            for rows, fractions, size in (
                (piece.rows, piece.dy, self.layout.shape[0]),
                (piece.cols, piece.dx, self.layout.shape[1]),
            ):
                assert (rows >= 0).all() and (rows + N + 1 <= size).all()
                assert (fractions >= 0).all() and (fractions < 1).all()
            given.extend(piece.patches[:, 0, 0].real.tolist())
            super().add(piece)

    patches = np.arange(1, n + 1)[:, None, None] * np.ones((n, N, N), np.complex64)
    batches = (patches[k : k + 10] for k in range(0, n, 10))
    found = stitch_variants(batches, x, y, np.ones((N, N)), frame, [None], sums=Told)[0]
    reaches = (np.abs(x - 12.5) < 12.5 + N / 2) & (np.abs(y - 8.5) < 8.5 + N / 2)
    assert given == (1 + np.flatnonzero(reaches)).tolist()
    expected = stitch(patches, x, y, np.ones((N, N)), frame)
    for one, other in zip((found.object, found.coverage), expected, strict=True):
        np.testing.assert_array_equal(one, other)
