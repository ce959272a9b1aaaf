"""The smallest type that holds the amplitudes of a scan exactly, for patterns that a device has little room for.

Amplitudes A are float32. Those of counts c are their roots, correctly rounded; so where `c = rint(A^2)` and
`sqrt(float32(c)) = A` hold for all pixels, the counts are enough, a byte or two each. Others may be numbers of half
precision. What is unpacked has the very bits of what was packed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.refinement.device.memory import MemoryPlan

__all__ = ["SINGLE", "fitted", "packed", "smallest_type", "unpacked"]

Array = NDArray[Any]

SINGLE = np.dtype(np.float32)
"""Of amplitudes that are not packed."""
SMALLER: tuple[np.dtype[Any], ...] = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float16))
"""The smallest first; integers are counts, the others amplitudes."""


def packed(amplitude: NDArray[np.float32], dtype: np.dtype[Any]) -> Array:
    """Amplitudes in a type that holds them.

    >>> packed(np.sqrt(np.float32([0, 2, 255])), np.dtype(np.uint8)).tolist()
    [0, 2, 255]
    """
    if dtype.kind != "u":
        return amplitude.astype(dtype, copy=False)
    return np.rint(amplitude * amplitude).astype(dtype)


def unpacked(values: Array) -> NDArray[np.float32]:
    """The amplitudes again.

    >>> unpacked(np.array([4], np.uint16)).tolist()
    [2.0]
    """
    single = values.astype(SINGLE, copy=False)
    return np.sqrt(single) if values.dtype.kind == "u" else single


def fitted(
    plan: Callable[..., MemoryPlan], find: Callable[[], np.dtype[Any]], streams: bool = False
) -> tuple[MemoryPlan, np.dtype[Any]]:
    """What is kept of a scan, and the type of its patterns: packed where more is kept then, or less goes to the device
    in each pass; else they are not looked at, or left as they are.

    Args:
        plan: the forecast, of patterns of so many `pattern_bytes`.
        find: the smallest type that holds them.
        streams: whether patterns that are not kept go to the device in each pass.
    """
    usual = plan()

    def gains(packed: MemoryPlan) -> bool:
        return packed.kinds > usual.kinds or (streams and not packed.patterns)

    if usual.whole or not gains(plan(pattern_bytes=1)):
        return usual, SINGLE
    dtype = find()
    found = plan(pattern_bytes=dtype.itemsize)
    return (found, dtype) if dtype != SINGLE and gains(found) else (usual, SINGLE)


def smallest_type(
    batches: Iterable[NDArray[np.int64]], read: Callable[[NDArray[np.int64]], NDArray[np.float32]]
) -> np.dtype[Any]:
    """The smallest type that holds all amplitudes exactly; every value is looked at once, until none but float32 is
    left.

    Args:
        batches: indices of patterns.
        read: amplitudes of some of them.
    """
    left: list[np.dtype[Any]] = list(SMALLER)
    for some in batches:
        if not left:
            break
        amplitude = read(some)
        left = [dtype for dtype in left if _holds(dtype, amplitude)]
    return left[0] if left else SINGLE


def _holds(dtype: np.dtype[Any], amplitude: NDArray[np.float32]) -> bool:
    most = np.sqrt(np.float32(np.iinfo(dtype).max)) if dtype.kind == "u" else np.finfo(dtype).max
    if not (amplitude.min(initial=0) >= 0 and amplitude.max(initial=0) <= most):
        return False
    return bool(np.array_equal(unpacked(packed(amplitude, dtype)), amplitude))
