"""Whether there is memory for an object, foretold before the work begins."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from ptycho.core.geometry import ObjectFrame
from ptycho.errors import DataError

__all__ = ["available_bytes", "check_room", "object_bytes"]

_PER_PIXEL = 216
"""Bytes of a pixel of the object at the peak of a command, its pictures included.

Measured: largest resident size of `ptycho reconstruct SCAN --iterations 3 --modes none --force --backend B` (by
`time -v`), 196 patterns of 64 x 64 along the diagonal of objects of 300 and of 2000 pixels a side: 524 and 1203
MiB with PyTorch, 830 and 1619 MiB with TensorFlow, which are 182 and 211 bytes for a pixel more."""
_MEMINFO = Path("/proc/meminfo")
_LIMIT, _USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


def object_bytes(frame: ObjectFrame) -> int:
    """Bytes that finding an object on this canvas takes beside the patterns."""
    return _PER_PIXEL * frame.height * frame.width


def available_bytes() -> int | None:
    """Memory that this process can still have, of the machine or of its container; None: it is not known."""
    found = []
    with suppress(OSError):
        told = re.search(r"MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(encoding="ascii"))
        found += [int(told[1]) * 1024] if told else []
    with suppress(OSError, ValueError):  # a limit of 'max' is none
        found.append(int(_LIMIT.read_text(encoding="ascii")) - int(_USED.read_text(encoding="ascii")))
    return min(found, default=None)


def check_room(frame: ObjectFrame) -> None:
    """Refuse a canvas for which there is not enough memory.

    Raises:
        DataError: with what it would take, and what there is.
    """
    needed, available = object_bytes(frame), available_bytes()
    if available is not None and needed > available:
        raise DataError(
            f"memory: expected room for {needed / 2**30:.1f} GiB, which an object of {frame.width} x {frame.height} "
            f"pixels takes, found {available / 2**30:.1f} GiB available; take a part of the scan (ptycho dataset "
            "split), bin its patterns (ptycho dataset bin), or use a larger machine"
        )
