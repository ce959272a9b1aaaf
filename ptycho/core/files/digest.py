"""The digest of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["file_digest"]

_BLOCK_BYTES = 1 << 22


def file_digest(path: Path) -> str:
    """The hexadecimal sha256 of a file of any size, read block by block; OSError where it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
