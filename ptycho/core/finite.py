"""Whether arrays hold finite numbers only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["non_finite"]


def non_finite(arrays: Iterable[tuple[str, Any]]) -> str:
    """What is NaN or infinite in named arrays, in words; empty where nothing is.

    >>> non_finite([("kernel", np.array([1.0, np.nan])), ("bias", np.ones(2))])
    '1 of 4 numbers that are not (the first in kernel)'
    """
    bad, total, first = 0, 0, ""
    for name, array in arrays:
        values = np.asarray(array)
        found = int(np.count_nonzero(~np.isfinite(values)))
        bad, total, first = bad + found, total + values.size, first or (name if found else "")
    return f"{bad:,} of {total:,} numbers that are not (the first in {first})" if bad else ""
