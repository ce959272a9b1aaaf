"""The scan map of specs/data_contracts.md, read only: `ptycho dataset map` makes it."""

from __future__ import annotations

from pathlib import Path

from ptycho.core.formats.record import ScanRecord
from ptycho.core.formats.scan_npz import record_of
from ptycho.core.scan.map_read import open_map

__all__ = ["read"]


def read(path: Path) -> ScanRecord:
    """Read a scan map; patterns stay where they are until they are copied."""
    return record_of(open_map(path), {})
