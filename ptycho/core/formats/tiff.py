"""Amplitude and phase of an object as two TIFF files of float32, with the size of a pixel; written only.

Each is one baseline image: one strip, little-endian, resolution tags in pixels per centimetre and OME-XML in the
description, so that image programs of either kind show lengths. The name of the image in the OME-XML is that of the
scan; its description is JSON text of what else is known: `comments`, and the `provenance` of a result.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.atomic import atomic_path
from ptycho.core.formats.record import ScanRecord, required
from ptycho.errors import DataError

__all__ = ["tiff_paths", "write"]

TITLE = "TIFF"

_SHORT, _LONG, _RATIONAL, _ASCII = 3, 4, 5, 2
_FLOAT, _CENTIMETRE = 3, 3
_LIMIT = 1 << 32
_OME = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0" Name={image}>'
    "<Description>{description}</Description>"
    '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="float" SizeX="{width}" SizeY="{height}" SizeC="1" SizeZ="1" '
    'SizeT="1" PhysicalSizeX="{pixel!r}" PhysicalSizeXUnit="nm" PhysicalSizeY="{pixel!r}" PhysicalSizeYUnit="nm">'
    '<Channel ID="Channel:0:0" Name={name} SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1"/></Pixels>'
    "</Image></OME>"
)


def tiff_paths(path: Path) -> tuple[Path, Path]:
    """The files of amplitude and phase that `write` makes of `path`."""
    return path.with_name(f"{path.stem}_amplitude{path.suffix}"), path.with_name(f"{path.stem}_phase{path.suffix}")


def write(path: Path, record: ScanRecord) -> None:
    """Write `<stem>_amplitude` and `<stem>_phase` (radians, -pi to pi) beside `path`.

    Raises:
        DataError: the object or the size of its pixel is missing, or the image has 4 GB or more.
    """
    record = required(record, TITLE, "object", "object_pixel_m")
    assert record.object is not None and record.object_pixel_m is not None
    images = (np.abs(record.object), np.angle(record.object))
    resolution = _rational(0.01 / record.object_pixel_m)
    for name, target, image in zip(("amplitude", "phase"), tiff_paths(path), images, strict=True):
        content = _encoded(image.astype("<f4"), resolution, _ome(image, record.object_pixel_m, name, record.metadata))
        with atomic_path(target) as temporary:
            temporary.write_bytes(content)


def _ome(image: NDArray[Any], pixel_m: float, name: str, metadata: Mapping[str, Any]) -> bytes:
    """The description of an image: OME-XML in ASCII, with a zero at its end."""
    known = {key: metadata[key] for key in ("comments", "provenance") if metadata.get(key)}
    text = _OME.format(
        image=quoteattr(str(metadata.get("name") or name)),
        description=escape(json.dumps(known)),
        name=quoteattr(name),
        width=image.shape[1],
        height=image.shape[0],
        pixel=pixel_m * 1e9,
    )
    return text.encode("ascii", "xmlcharrefreplace") + b"\0"


def _encoded(image: NDArray[Any], resolution: bytes, description: bytes) -> bytes:
    """The bytes of the file: header, strip, one directory, then the values that do not fit into it."""
    height, width = image.shape
    if image.nbytes > _LIMIT - (1 << 24):
        raise DataError(f"TIFF: expected an image below 4 GB, found {image.shape}; crop the object")
    # tag, type, count, value: numbers inline, bytes behind the directory
    entries: list[tuple[int, int, int, int | bytes]] = [
        (256, _LONG, 1, width),
        (257, _LONG, 1, height),
        (258, _SHORT, 1, 32),
        (259, _SHORT, 1, 1),
        (262, _SHORT, 1, 1),
        (270, _ASCII, len(description), description),
        (273, _LONG, 1, 8),
        (277, _SHORT, 1, 1),
        (278, _LONG, 1, height),
        (279, _LONG, 1, image.nbytes),
        (282, _RATIONAL, 1, resolution),
        (283, _RATIONAL, 1, resolution),
        (296, _SHORT, 1, _CENTIMETRE),
        (339, _SHORT, 1, _FLOAT),
    ]
    directory = 8 + image.nbytes
    behind = directory + 2 + 12 * len(entries) + 4
    table, values = struct.pack("<H", len(entries)), b""
    for tag, kind, count, value in entries:
        if isinstance(value, bytes):
            table += struct.pack("<HHII", tag, kind, count, behind + len(values))
            values += value + b"\0" * (len(value) % 2)
        else:
            table += struct.pack("<HHII", tag, kind, count, value)
    return struct.pack("<2sHI", b"II", 42, directory) + image.tobytes() + table + struct.pack("<I", 0) + values


def _rational(value: float) -> bytes:
    """A positive number as two unsigned 32-bit integers, as exact as they allow."""
    denominator = 1
    while denominator < 10**6 and value * denominator * 10 < _LIMIT:
        denominator *= 10
    if not 0 < round(value * denominator) < _LIMIT:
        raise DataError(f"object pixel: expected a size that TIFF can hold, found {0.01 / value:g} m; correct it")
    return struct.pack("<II", round(value * denominator), denominator)
