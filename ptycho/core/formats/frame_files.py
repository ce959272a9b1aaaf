"""Images of detectors, read only: EDF, CBF with fabio, TIFF and MarCCD by tifffile. One frame or several to a file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.damage import check_declared, readable
from ptycho.core.formats.cbf import read_cbf
from ptycho.core.formats.edf import edf_images, read_edf
from ptycho.core.formats.libraries import library
from ptycho.core.formats.record import ScanRecord
from ptycho.core.scan.stream import Frames
from ptycho.errors import DataError

__all__ = ["file_series", "frames_in", "read", "recognise"]

Array = NDArray[Any]

_HEAD = 4096
_SEGMENTS_MISSING = 1000
"""Strips or tiles that may be missing in an image; a reader looks for each."""
_EDF = re.compile(rb"\s*\{.*?\b(?:Dim_1|HeaderID|EDF_DataBlockID)\b", re.DOTALL)


def recognise(file: Any) -> bool:
    """Whether a path is an image of these formats, by its first bytes."""
    return _kind(Path(file)) is not None


def read(path: Path) -> ScanRecord:
    """Read the frames of a file; integers are counts."""
    frames = frames_in(path)
    return ScanRecord(patterns=frames, units="counts" if frames.dtype.kind in "iu" else None)


def frames_in(path: Path) -> Frames:
    """The frames of one file, read when they are asked for.

    Raises:
        DataError: no image of real numbers, or its library is not installed.
    """
    with _opened(path) as (count, get):
        first = _image(path, get(0))

    def load(indices: NDArray[np.intp]) -> Array:
        with _opened(path) as (_, frame):
            return np.stack([_image(path, frame(int(index)), first.shape) for index in indices])

    return Frames((count, *first.shape), first.dtype, load)


def file_series(paths: list[Path]) -> Frames:
    """The frames of several files in a row; where the first has one frame, all have to have one of the same size.

    Raises:
        DataError: as `frames_in`; when they are read also frames that are not like the first.
    """
    first = frames_in(paths[0])
    if len(first) != 1:
        return joined([frames_in(path) for path in paths])

    def load(indices: NDArray[np.intp]) -> Array:
        return np.stack([_only(paths[index], first.shape[1:]) for index in indices]).astype(first.dtype)

    return Frames((len(paths), *first.shape[1:]), first.dtype, load)


def joined(parts: list[Frames]) -> Frames:
    """Stacks of frames in a row.

    Raises:
        DataError: frames of several sizes.
    """
    sizes = {part.shape[1:] for part in parts}
    if len(sizes) != 1:
        raise DataError(f"expected frames of one size, found {', '.join(map(str, sorted(sizes)))}; name those of one")
    ends, dtype = np.cumsum([len(part) for part in parts]), np.result_type(*(part.dtype for part in parts))

    def load(indices: NDArray[np.intp]) -> Array:
        made = np.empty((len(indices), *parts[0].shape[1:]), dtype)
        owners = np.searchsorted(ends, indices, side="right")
        for owner in np.unique(owners):
            mine = owners == owner
            made[mine] = parts[owner].read(indices[mine] - (ends[owner - 1] if owner else 0))
        return made

    return Frames((int(ends[-1]), *parts[0].shape[1:]), dtype, load)


def _only(path: Path, shape: tuple[int, ...]) -> Array:
    with _opened(path) as (count, get):
        if count != 1:
            raise DataError(f"{path}: expected one frame, as in the first file, found {count}; name such files alone")
        return _image(path, get(0), shape)


def _image(path: Path, image: Array, shape: tuple[int, ...] | None = None) -> Array:
    if image.ndim != 2 or image.dtype.kind not in "iuf" or shape not in (None, image.shape):
        size = "an image" if shape is None else f"an image {shape}"
        raise DataError(
            f"{path}: expected {size} of real numbers, found {image.shape} of {image.dtype}; export it anew"
        )
    return image.astype(image.dtype.newbyteorder("="))


def _kind(path: Path) -> str | None:
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    if head.startswith(b"###CBF"):
        return "CBF"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    return "EDF" if _EDF.match(head) else None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, Callable[[int], Array]]]:
    """The number of frames of a file, and a function that gives one."""
    kind = _kind(path)
    if kind is None:
        raise DataError(f"{path}: expected an image (EDF, CBF, TIFF or MarCCD), found another file; name frames only")
    module = library("tifffile", f"{path} is TIFF") if kind == "TIFF" else None
    own = () if module is None else (module.TiffFileError,)  # no ValueError in releases for Python 3.10
    with readable(path, f"a whole {kind} file", own=own):
        if module is not None:
            with module.TiffFile(path) as file:
                pages = file.pages
                yield len(pages), lambda index: _page(path, pages[index])
        elif kind == "CBF":
            yield 1, lambda index: read_cbf(path)
        else:
            images = edf_images(path)
            yield len(images), lambda index: read_edf(path, images[index])


def _page(path: Path, page: Any) -> Array:
    """The image of a page of a TIFF, after a look at whether its file can hold it."""
    check_declared(page.nbytes, min(sum(page.databytecounts), path.stat().st_size), f"{path}: an image {page.shape}")
    declared, stored = math.prod(page.chunked), len(page.dataoffsets)
    if declared > _SEGMENTS_MISSING + stored:
        raise DataError(f"{path}: expected an image {page.shape} in {declared} parts, found {stored}; copy it again")
    return np.asarray(page.asarray())
