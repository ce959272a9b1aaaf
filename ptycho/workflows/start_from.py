"""An earlier result to go on from, from a file of any program whose results are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ptycho.core.formats import registry
from ptycho.core.formats.reconstruction_npz import read_npz
from ptycho.core.formats.record import in_pixels
from ptycho.core.geometry import ObjectFrame
from ptycho.core.reconstruction import Reconstruction
from ptycho.errors import DataError

__all__ = ["read_start"]


def read_start(path: Path) -> Reconstruction:
    """The result in a file, or in the folder of a run, to begin with.

    Args:
        path: `reconstruction.npz`, the folder that holds it, or a result of another program with object, probe and
            positions (specs/formats.md).

    Raises:
        MissingFileError, DataError: no such file, or no whole result in it.
    """
    path = path / "reconstruction.npz" if path.is_dir() else path
    if registry.recognise(path).name == "reconstruction":
        return read_npz(path)
    record = in_pixels(registry.read(path), "result")
    if record.object is None or record.probe is None or record.xcoords is None or record.ycoords is None:
        raise DataError(f"{path}: expected object, probe and positions to start from, found not all of them")
    height, width = record.object.shape
    x0, y0 = (round(value) for value in record.origin_px or (0.0, 0.0))
    return Reconstruction(
        object=record.object.astype(np.complex64),
        coverage=np.ones((height, width), np.float32),
        probe=record.probe.astype(np.complex64),
        xcoords=record.xcoords,
        ycoords=record.ycoords,
        frame=ObjectFrame(height=height, width=width, x0=x0, y0=y0),
        backend="file",
        method="refined",
        subpixel="fourier",
        network_object=None,
        error_history=(),
        timings={},
        synchronised=False,
        agreement=(float("nan"), float("nan")),
    )
