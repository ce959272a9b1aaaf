"""Types that hold amplitudes exactly."""

from functools import partial

import numpy as np
import pytest

from ptycho.core.refinement.device.memory import MemoryPlan
from ptycho.core.refinement.device.packing import fitted, packed, smallest_type, unpacked


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


def plan(memory: int, **changes) -> MemoryPlan:
    """Of patterns 4, fields 20, probes 16, patches 8 bytes a pixel."""
    return MemoryPlan.made(memory, 10, 16, 1, 8, batch_pixels=1, **changes)


@pytest.mark.parametrize(
    "bytes_a_pixel, dtype, expected",
    [
        (48, None, ("float32", 4)),
        (47, np.uint8, ("uint8", 4)),
        (45, np.uint8, ("uint8", 4)),
        (45, np.uint16, ("float32", 3)),
        (45, np.float32, ("float32", 3)),
        (43, None, ("float32", 3)),
        (3, np.uint16, ("uint16", 1)),
        (0, None, ("float32", 0)),
    ],
)
def test_patterns_are_looked_at_and_packed_where_more_is_kept_then(bytes_a_pixel, dtype, expected) -> None:
    def find() -> np.dtype:
        assert dtype is not None
        return np.dtype(dtype)

    found, name = fitted(partial(plan, bytes_a_pixel * 10 * 256), find)
    assert (name.name, found.kinds) == expected


def test_what_is_streamed_is_packed_in_any_case() -> None:
    found, name = fitted(partial(plan, 0), lambda: np.dtype(np.uint8), streams=True)
    assert (name.name, found.kinds) == ("uint8", 0)
