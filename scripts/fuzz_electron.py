"""Whole files of electron microscopes."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

__all__ = ["make_electron"]


def make_electron(folder: Path) -> None:
    """Scans of electron microscopes, by the library that reads them where it writes them."""
    stack = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(2, 2, 8, 8)
    (folder / "a.mib").write_bytes(b"".join(map(_merlin, range(1, 5), stack.reshape(4, 8, 8))))
    (folder / "a.ser").write_bytes(_series(stack.reshape(4, 8, 8)))
    with h5py.File(folder / "a.emd", "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        place = file.create_group("data/scan")
        place.attrs["emd_group_type"], place["data"] = 1, stack
        for number, (size, units) in enumerate(((2, "nm"), (2, "nm"), (8, "1/nm"), (8, "1/nm")), 1):
            place[f"dim{number}"] = np.arange(size, dtype=np.float32)
            place[f"dim{number}"].attrs.update({"name": f"d{number}", "units": f"[{units}]"})
    if importlib.util.find_spec("rsciio"):
        import dask
        from rsciio import blockfile

        dask.config.set(scheduler="synchronous")  # its threads would not be there in a child
        axes = [
            {"size": size, "scale": 1.0, "offset": 0.0, "units": units, "name": name, "navigate": units == "nm"}
            for name, size, units in (("y", 2, "nm"), ("x", 2, "nm"), ("b", 8, "cm"), ("a", 8, "cm"))
        ]
        about: dict[str, Any] = {"metadata": {}, "original_metadata": {}, "attributes": {"_lazy": False}}
        blockfile.file_writer(str(folder / "a.blo"), {"data": stack, "axes": axes, **about})


def _merlin(number: int, frame: NDArray[np.uint8]) -> bytes:
    """A frame of a Medipix chip, 16 bits, behind its header."""
    fields = f"MQ1,{number:06d},00384,01,0008,0008,U16,   1x1,01,2026-01-01 00:00:00.0,0.001,0,0,"
    fields += "2026-01-01T00:00:00.000000Z,1000000ns,12,"
    return fields.ljust(384).encode() + frame.astype(">u2").tobytes()


def _series(frames: NDArray[np.uint8]) -> bytes:
    """Images of one size in a row, as TIA writes them, version 0x210."""
    count, rows, columns = frames.shape
    image = struct.pack("<ddiddiHii", 0, 1, 0, 0, 1, 0, 1, columns, rows)
    tag = struct.pack("<HHi", 0x4152, 0, 0)
    dimension = struct.pack("<iddiii", count, 0, 1, 0, 0, 0)
    begin = 30 + len(dimension)
    first, size = begin + 8 * count, len(image) + rows * columns + len(tag)
    head = struct.pack("<HHHiiiiii", 0x4949, 0x0197, 0x210, 0x4122, 0x4152, count, count, begin, 1) + dimension
    places = [first + number * size for number in range(count)]
    tags = [place + size - len(tag) for place in places]
    return (
        head + struct.pack(f"<{2 * count}i", *places, *tags) + b"".join(image + one.tobytes() + tag for one in frames)
    )
