"""An earlier result to go on from, from a file of any program whose results are read."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.formats import registry
from ptycho.core.formats.reconstruction_npz import read_npz
from ptycho.core.formats.record import in_pixels
from ptycho.core.geometry import ObjectFrame
from ptycho.core.reconstruction import Reconstruction
from ptycho.errors import DataError
from ptycho.raw_data import RawData

__all__ = ["read_start", "recorded_as", "unmeasured"]


def read_start(path: Path) -> Reconstruction:
    """The result in a file, or in the folder of a run, to begin with.

    Args:
        path: `reconstruction.npz`, the folder that holds it, or a result of another program with object, probe and
            positions (specs/formats.md).

    Raises:
        MissingFileError, DataError: no such file, or no whole result in it.
    """
    path = registry.in_folder(path)
    if registry.recognise(path).name == "reconstruction":
        return read_npz(path)
    record = in_pixels(registry.read(path), "result")
    if record.object is None or record.probe is None or record.xcoords is None or record.ycoords is None:
        raise DataError(f"{path}: expected object, probe and positions to start from, found not all of them")
    height, width = record.object.shape
    x0, y0 = (round(value) for value in record.origin_px or (0.0, 0.0))
    where = ObjectFrame(height=height, width=width, x0=x0, y0=y0)
    return unmeasured(record.object, record.probe, record.xcoords, record.ycoords, where, "file")


def recorded_as(data: RawData, path: Path) -> RawData:
    """A scan with the flux, the background and the blur of the detector that an earlier result of it found.

    Args:
        data: the scan, every pattern of it.
        path: of the result, as of `read_start`.

    Raises:
        MissingFileError, DataError: no result, one of another scan, or one that knows none of them.
    """
    found = read_start(path)
    if found.flux is None and found.background is None and found.blur is None:
        raise DataError(
            f"{path}: expected a result with a flux, a background or a blur of the detector, found none; find them: "
            f"ptycho reconstruct {shlex.quote(str(data.path or 'SCAN'))} --flux --background --detector-blur"
        )
    count, n = len(found.xcoords), found.probe.shape[-1]
    fits = (count, n) == (len(data), data.N)
    if not fits or _elsewhere(found, data):
        raise DataError(
            f"{path}: expected a result of {data.name}, {len(data)} patterns of {data.N} pixels at its positions, "
            f"found one of {count} patterns of {n} pixels{' elsewhere' if fits else ''}; name a result of this scan"
        )
    return data.with_recording(found.flux, found.background, found.blur)


def _elsewhere(found: Reconstruction, data: RawData) -> bool:
    """Whether most positions of a result are further from those of a scan than any refinement takes them."""
    away = np.hypot(found.xcoords + found.frame.x0 - data.xcoords, found.ycoords + found.frame.y0 - data.ycoords)
    return float(np.median(away)) > data.N / 2


def unmeasured(
    image: NDArray[Any], probe: NDArray[Any], x: NDArray[Any], y: NDArray[Any], frame: ObjectFrame, origin: str
) -> Reconstruction:
    """An object (H, W) and a probe (M, N, N) to go on from, of which nothing was measured.

    Args:
        image: in `frame`.
        probe: modes.
        x: (n,) columns of the patches' centres in `image`, pixels.
        y: (n,) their rows.
        frame: where the object lies on the scan's own pixel grid.
        origin: what stands for the backend.
    """
    return Reconstruction(
        object=image.astype(np.complex64),
        coverage=np.ones(frame.shape, np.float32),
        probe=probe.astype(np.complex64),
        xcoords=x,
        ycoords=y,
        frame=frame,
        backend=origin,
        method="refined",
        subpixel="fourier",
        network_object=None,
        error_history=(),
        timings={},
        synchronised=False,
        agreement=(float("nan"), float("nan")),
    )
