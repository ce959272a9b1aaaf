"""Whole files of electron microscopes."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

__all__ = ["make_electron", "micrograph"]


def make_electron(folder: Path) -> None:
    """Scans of electron microscopes, by the library that reads them where it writes them."""
    stack = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(2, 2, 8, 8)
    (folder / "a.mib").write_bytes(b"".join(map(_merlin, range(1, 5), stack.reshape(4, 8, 8))))
    (folder / "a.ser").write_bytes(_series(stack.reshape(4, 8, 8)))
    for version in (3, 4):
        (folder / f"a.dm{version}").write_bytes(micrograph(stack, version))
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


def micrograph(stack: NDArray[np.uint8], version: int) -> bytes:
    """A scan (rows, columns, N, N) as Digital Micrograph writes it: tags in groups, version 3 or 4.

    The steps are 0.5 nm, the pixels of the detector 0.5 / nm, the beam has 300 keV.
    """
    wide = version == 4

    def counts(*numbers: int) -> bytes:
        return struct.pack(f">{len(numbers)}{'q' if wide else 'i'}", *numbers)

    def tag(kind: int, name: str, body: bytes) -> bytes:
        size = struct.pack(">q", len(body)) if wide else b""
        return struct.pack(">BH", kind, len(name)) + name.encode() + size + body

    def group(name: str, *tags: bytes) -> bytes:
        return tag(20, name, b"\x01\x00" + counts(len(tags)) + b"".join(tags))

    def value(name: str, about: tuple[int, ...], content: bytes) -> bytes:
        return tag(21, name, b"%%%%" + counts(len(about), *about) + content)

    def number(name: str, whole: int) -> bytes:
        return value(name, (3,), struct.pack("<i", whole))

    def real(name: str, number: float) -> bytes:
        return value(name, (6,), struct.pack("<f", number))

    def text(name: str, words: str) -> bytes:
        return value(name, (20, 4, len(words)), words.encode("utf-16-le"))

    def scale(name: str, step: float, unit: str) -> bytes:
        return group(name, real("Origin", 0), real("Scale", step), text("Units", unit))

    axes = [scale("", 0.5, unit) for unit in ("1/nm", "1/nm", "nm", "nm")]
    image = group(
        "",
        group(
            "ImageData",
            group("Calibrations", scale("Brightness", 1, ""), group("Dimension", *axes)),
            value("Data", (20, 10, stack.size), stack.tobytes()),
            number("DataType", 6),
            group("Dimensions", *(number("", size) for size in reversed(stack.shape))),
            number("PixelDepth", 1),
        ),
        group(
            "ImageTags",
            group("Microscope Info", real("Voltage", 3e5)),
            value("Points", (20, 15, 0, 2, 0, 3, 0, 3, 2), struct.pack("<4i", 1, 2, 3, 4)),
            value("Place", (15, 0, 2, 0, 6, 0, 6), struct.pack("<2f", 1, 2)),
        ),
        text("Name", "scan"),
    )
    root = b"\x01\x00" + counts(1) + group("ImageList", image)
    return struct.pack(">i", version) + counts(len(root)) + struct.pack(">i", 1) + root + bytes(8)
