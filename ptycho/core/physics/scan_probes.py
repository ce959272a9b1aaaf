"""One object from several scans: each has its own probe, and every pattern that of its scan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.errors import DataError

__all__ = ["ScanProbes", "check_scan_probes"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ScanProbes:
    """The probes of S scans of one object, for n patterns; that of the first scan is the probe of the result."""

    others: NDArray[np.complexfloating[Any, Any]]
    """(S - 1, M, N, N) of the second scan and those after it, in the unit of the first's."""
    scan: NDArray[np.int64]
    """(n,) which scan each pattern is of, counted from 0."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ScanProbes):
            return NotImplemented
        return np.array_equal(self.others, other.others) and np.array_equal(self.scan, other.scan)

    @property
    def count(self) -> int:
        """S."""
        return 1 + len(self.others)

    def of(self, some: NDArray[np.integer[Any]] | slice) -> ScanProbes:
        """Those of some of the patterns."""
        return replace(self, scan=self.scan[some])

    def all(self, probe: Array) -> Array:
        """(S, M, N, N) the probe of every scan, from that of the first `(M, N, N)`."""
        return np.concatenate([probe[None], self.others])

    def probes(self, probe: Array) -> Array:
        """The probe `(n, M, N, N)` of every pattern, from that of the first scan `(M, N, N)`."""
        return np.asarray(self.all(probe)[self.scan])


def check_scan_probes(found: ScanProbes, count: int, n: int) -> ScanProbes:
    """The probes of scans of so many patterns of n pixels.

    Raises:
        DataError: other shapes, a scan that is not there, or numbers that are not finite.
    """
    others, scan = found.others, found.scan
    if others.ndim != 4 or others.shape[2:] != (n, n) or scan.shape != (count,):
        raise DataError(
            f"scan probes: expected others (S - 1, M, {n}, {n}) and scan ({count},), found {others.shape} and "
            f"{scan.shape}; give the scan of each pattern"
        )
    if scan.dtype.kind not in "iu" or (count and not 0 <= int(scan.min()) <= int(scan.max()) < found.count):
        raise DataError(f"scan probes: expected scans 0 to {found.count - 1}, found others; give each its probe")
    if not np.isfinite(others).all():
        raise DataError("scan probes: expected finite numbers, found NaN or infinity; correct them")
    return found
