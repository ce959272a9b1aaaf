"""What tells a scan from another one, without reading all of its patterns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.scan.scan import ScanFile

__all__ = ["ScanIdentity", "scan_identity"]

SAMPLE = 32
"""Frames of a stack, spread over the scan, that are looked at."""

_STACKS = ("diff3d", "Y", "mask")
_WHOLE = ("xcoords", "ycoords", "xcoords_start", "ycoords_start", "probeGuess")


@dataclass(frozen=True)
class ScanIdentity:
    """A scan by its content; the name is for people and is not compared."""

    name: str
    sha256: str
    """Hexadecimal."""

    def __str__(self) -> str:
        return f"{self.name} (sha256 {self.sha256[:12]})"

    def derived(self, how: str) -> ScanIdentity:
        """That of a scan which was made of this one; `how` says with which settings.

        Its own numbers do not tell: made again, on another machine, the last digits may be others.
        """
        return ScanIdentity(f"{self.name}, {how}", hashlib.sha256(f"{self.sha256} {how}".encode()).hexdigest())


def scan_identity(scan: ScanFile, name: str) -> ScanIdentity:
    """The identity of a scan: sha256 of the numbers that a training sees.

    Positions, probe, units and dose as a whole; of patterns, `Y` and masks per pattern shape, type and `SAMPLE` frames;
    of `objectGuess` as many rows. A scan that is read from a file, from its map or into memory is the same one.
    """
    digest = hashlib.sha256()
    for field in _WHOLE:
        _add(digest, field, getattr(scan, field))
    for field in _STACKS:
        array = getattr(scan, field)
        _add(digest, field, array if array is None or array.ndim < 3 else array[_spread(len(array))], array)
    known = scan.objectGuess
    _add(digest, "objectGuess", None if known is None else known[..., _spread(known.shape[-2]), :], known)
    digest.update(f"units {scan.units} nphotons {(scan.metadata or {}).get('nphotons')}".encode())
    return ScanIdentity(name, digest.hexdigest())


def _add(digest: Any, field: str, array: NDArray[Any] | None, whole: NDArray[Any] | None = None) -> None:
    """Add a field, of a large one the part that is looked at, in one byte order."""
    if array is None:
        digest.update(f"{field} none".encode())
        return
    shape = (array if whole is None else whole).shape
    digest.update(f"{field} {shape} {array.dtype.kind}{array.dtype.itemsize}".encode())
    digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())


def _spread(count: int) -> NDArray[np.int64]:
    """At most `SAMPLE` indices, first and last included."""
    return np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).astype(np.int64))
