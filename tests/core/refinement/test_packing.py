"""Types that hold amplitudes exactly."""

import numpy as np
import pytest

from ptycho.core.refinement.packing import packed, smallest_type, unpacked


def found(*batches: np.ndarray) -> tuple[str, list[int]]:
    """The type of some batches of amplitudes, and which of them were looked at."""
    looked: list[int] = []

    def read(some: np.ndarray) -> np.ndarray:
        looked.append(int(some[0]))
        return np.asarray(batches[int(some[0])], np.float32)

    return smallest_type([np.array([k]) for k in range(len(batches))], read).name, looked


def roots(*counts: float) -> np.ndarray:
    return np.sqrt(np.array(counts, np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_count_that_fits_comes_back_to_the_bit(dtype) -> None:
    counts = np.arange(np.iinfo(dtype).max + 1)
    for amplitude in (np.sqrt(counts.astype(np.float32)), np.sqrt(counts.astype(np.float64)).astype(np.float32)):
        small = packed(amplitude, np.dtype(dtype))
        assert small.dtype == dtype
        np.testing.assert_array_equal(unpacked(small), amplitude)


@pytest.mark.parametrize(
    "batches, name",
    [
        ([roots(0, 255), roots(3)], "uint8"),
        ([roots(0, 256), roots(3)], "uint16"),
        ([roots(1, 65535)], "uint16"),
        ([np.array([256.0, 0.5])], "float16"),
        ([roots(1, 65537)], "float32"),
        ([np.array([0.1])], "float32"),
        ([np.array([-1.0])], "float32"),
        ([np.array([np.nan])], "float32"),
        ([np.array([1e30])], "float32"),
        ([], "uint8"),
    ],
)
def test_the_smallest_type_that_holds_all_is_taken(batches, name) -> None:
    assert found(*batches)[0] == name


def test_a_later_batch_may_ask_for_more_and_the_look_ends_where_nothing_smaller_is_left() -> None:
    assert found(roots(2), roots(300), roots(5)) == ("uint16", [0, 1, 2])
    assert found(roots(4), np.array([2.5]), roots(4)) == ("float16", [0, 1, 2])
    assert found(roots(4), np.array([0.1]), roots(4)) == ("float32", [0, 1])
    assert found(roots(2), np.array([0.5]), roots(4)) == ("float32", [0, 1])
