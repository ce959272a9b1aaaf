"""The image of a CBF file, as detectors of Dectris write it: one frame, byte offsets; decompressed by fabio.

fabio's own reader looks for ever for what a damaged file has not, so the few lines of the header are read here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.formats.libraries import library
from ptycho.errors import DataError

__all__ = ["read_cbf"]

_SECTION, _START = b"--CIF-BINARY-FORMAT-SECTION--", b"\x0c\x1a\x04\xd5"
_HEADER = 1 << 18
_FIELD = re.compile(rb"^(X-Binary-[\w-]{1,40}):[ \t]?\"?([^\"\r\n]{1,80}?)\"?[ \t]?\r?$", re.MULTILINE)
_METHOD = re.compile(rb"conversions[ \t]*=[ \t]*\"?x-CBF_BYTE_OFFSET\"?", re.IGNORECASE)
_TYPE = re.compile(r"(un)?signed (8|16|32|64)-bit integer")


def read_cbf(path: Path) -> NDArray[Any]:
    """The image (rows, columns) of a file, whole numbers.

    Raises:
        DataError: it ends early, or its image is stored in another way; or fabio is not installed.
    """
    module = library("fabio.compression", f"{path} is CBF")
    with path.open("rb") as stream:
        head = stream.read(_HEADER)
        section = head.find(_SECTION)
        start = head.find(_START, section) if section >= 0 else -1
        fields = {name.decode(): value.decode() for name, value in _FIELD.findall(head[max(section, 0) : start])}
        size = int(fields.get("X-Binary-Size", "-1"))
        if start < 0 or size < 0 or start + len(_START) + size > path.stat().st_size:
            raise DataError(f"{path}: expected a whole CBF file, found one that ends early; copy it again")
        stream.seek(start + len(_START))
        packed = stream.read(size)
    kind = _TYPE.fullmatch(fields.get("X-Binary-Element-Type", ""))
    if kind is None or not _METHOD.search(head[section:start]):
        raise DataError(f"{path}: expected whole numbers in byte offsets, found another kind of CBF; convert it")
    columns, rows = (int(fields[f"X-Binary-Size-{axis}-Dimension"]) for axis in ("Fastest", "Second"))
    if not 0 < rows * columns <= size or rows < 0:  # a pixel takes a byte or more
        raise DataError(f"{path}: expected {rows} x {columns} pixels in {size} bytes, found fewer; copy it again")
    dtype = np.dtype(f"{'u' if kind[1] else ''}int{kind[2]}")
    values = module.decByteOffset(packed, size=rows * columns, dtype=dtype.name)
    return np.asarray(values).astype(dtype).reshape(rows, columns)
