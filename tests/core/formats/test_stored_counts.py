"""Counts are stored in the smallest type that others read, and not changed."""

import numpy as np
import pytest

from ptycho.core.formats.stored_counts import stored_counts
from ptycho.core.scan.stream import Frames


def test_types() -> None:
    counts = np.array([[[0, 7], [3, 200]]])
    for dtype in (np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64):
        found = stored_counts(Frames.of(counts.astype(dtype)))
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found.whole(), counts)
    large = counts.astype(np.uint32)
    large[0, 0, 0] = 2**31
    assert stored_counts(Frames.of(large)).dtype == np.int64
    np.testing.assert_array_equal(stored_counts(Frames.of(large)).whole(), large)


def test_squares_of_roots_are_whole_and_other_numbers_stay() -> None:
    counts = np.array([[[0, 7], [3, 123457]]])
    roots = np.sqrt(counts).astype(np.float32)
    np.testing.assert_array_equal(stored_counts(Frames.of(roots**2)).whole(), counts)
    for share in (0.5, 3.001):
        frames = Frames.of(np.array([[[1.0, share]]]))
        assert stored_counts(frames) is frames


@pytest.mark.parametrize("per_frame", [False, True])
def test_masked_pixels_hold_nothing_that_does_not_fit(per_frame: bool) -> None:
    mask = np.array([[True, False, False]])
    patterns = np.array([[[5, 2**32 - 1, 9]]], np.uint32)
    found = stored_counts(Frames.of(patterns), np.stack([mask]) if per_frame else mask)
    assert found.dtype == np.int32
    assert found.whole().tolist() == [[[5, 0, 9]]]
    infinite = np.array([[[5, np.nan, np.inf]]])
    assert stored_counts(Frames.of(infinite), mask).whole().tolist() == [[[5, 0, 0]]]


def test_what_a_subtracted_background_left_below_0_stays() -> None:
    counts = np.array([[[-3.0, 7.0], [0.0, 200.0]]])
    found = stored_counts(Frames.of(counts))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found.whole(), counts)
