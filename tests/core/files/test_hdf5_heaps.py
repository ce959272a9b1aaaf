"""Heaps with lists that lead in circles are refused, wherever they lie; whole ones are not."""

import io
import struct
from pathlib import Path

import h5py
import pytest

from ptycho.core.files import hdf5_heaps as module
from ptycho.core.files.hdf5_heaps import check_heaps
from ptycho.core.files.hdf5_values import open_hdf5
from ptycho.errors import DataError


def made(folder: Path, userblock: int = 0, width: int = 8) -> tuple[bytearray, int, int]:
    """A file with three names; where the free blocks of their heap are said to begin, and where that block is.

    A name that was taken away has left a second block.
    """
    properties = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    properties.set_sizes(width, width)
    properties.set_userblock(userblock)
    path = folder / "heap.h5"
    with h5py.File(h5py.h5f.create(bytes(path), h5py.h5f.ACC_TRUNC, properties)) as file:
        file.attrs["text"] = "µm"
        for name in ("first, a long one", "second", "third"):
            file.create_group(name)
        del file["first, a long one"]
    content = bytearray(path.read_bytes())
    head = content.find(b"HEAP") + 8 + width
    first, data = (int.from_bytes(content[head + shift :][:width], "little") for shift in (0, width))
    return content, head, userblock + data + first


@pytest.mark.parametrize(("userblock", "width"), [(0, 8), (512, 8), (2048, 4)])
@pytest.mark.parametrize("steps", [0, 1])
def test_free_blocks_that_lead_in_circles(userblock: int, width: int, steps: int, tmp_path: Path) -> None:
    """The first block leads to itself, or the second to the first: HDF5 would take memory for ever."""
    content, head, block = made(tmp_path, userblock, width)
    check_heaps(content, len(content))
    first = int.from_bytes(content[head : head + width], "little")
    following = int.from_bytes(content[block : block + width], "little")
    assert following not in (0, 1, first)
    place = block + steps * (following - first)
    content[place : place + width] = first.to_bytes(width, "little")
    with (
        pytest.raises(DataError, match="found a heap of names that is damaged; copy it again"),
        open_hdf5(io.BytesIO(content)),
    ):
        pass


@pytest.mark.parametrize("following", [0, 1 << 40])
def test_what_hdf5_refuses_itself_passes(following: int, tmp_path: Path) -> None:
    content, _, block = made(tmp_path)
    struct.pack_into("<Q", content, block, following)
    check_heaps(content, len(content))
    with h5py.File(io.BytesIO(content)) as file, pytest.raises(RuntimeError, match=r"zero\?|bad heap free list"):
        list(file)


def test_a_heap_of_texts_without_an_end(tmp_path: Path) -> None:
    """The free space at the end of a heap of texts is said to be none: HDF5 would stay there for ever."""
    content, _, _ = made(tmp_path)
    free = content.find(b"GCOL") + 16 + 16 + 8
    assert content[free : free + 2] == b"\0\0"
    content[free + 8 : free + 16] = bytes(8)
    with pytest.raises(DataError, match="found a heap that is damaged"), open_hdf5(io.BytesIO(content)):
        pass


def test_hostile_bytes_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but signatures; a file cut anywhere; heaps that share more blocks than are looked at."""
    for text in (b"HEAP\0", b"GCOL\1"):
        check_heaps(text * 400, 1 << 20)
        check_heaps(module._SUPERBLOCK + bytes(8) + text * 400, 1 << 20)
    content, head, _ = made(tmp_path)
    for last in range(8, head + 40):
        check_heaps(content[:last], 1 << 20)
    monkeypatch.setattr(module, "_BLOCKS", 1)
    with pytest.raises(DataError, match="found a heap of names that is damaged"):
        check_heaps(content, len(content))
