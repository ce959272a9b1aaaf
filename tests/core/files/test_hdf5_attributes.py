"""Attributes of variable length are found wherever HDF5 puts them, and refused where they cannot be in the file."""

import io
import struct

import h5py
import numpy as np
import pytest

from ptycho.core.files import hdf5_attributes as module
from ptycho.core.files.hdf5_attributes import check_attributes
from ptycho.core.files.hdf5_values import open_hdf5
from ptycho.errors import DataError


def made(version: str) -> bytearray:
    """Texts in groups and data sets, few and many of an object, lists, sequences; and what is of a fixed size."""
    written = io.BytesIO()
    with h5py.File(written, "w", libver=version) as file:
        file.attrs["units"] = "nm"
        file.attrs["list"] = ["abc", "de", "f"]
        data = file.create_dataset("x", data=np.arange(3))
        data.attrs["fixed"] = np.bytes_("hello")
        rows = np.array([np.arange(5.0), np.arange(3.0)], dtype=object)
        data.attrs.create("rows", rows, dtype=h5py.vlen_dtype(np.float64))
        texts = file.create_group("texts")
        for number in range(20):  # not with the object, from 9 on
            texts.attrs[f"text {number}"] = "word" * (number + 1)
        file.create_dataset("names", data=["a", "b"], dtype=h5py.string_dtype())
    return bytearray(written.getvalue())


def records(content: bytearray) -> dict[str, module._Record]:
    found = (module._record(content, match.start()) for match in module._VARIABLE.finditer(content))
    return {record.name: record for record in found if record is not None}


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_each_is_found(version: str) -> None:
    content = made(version)
    found = records(content)
    assert set(found) == {"units", "list", "rows", *(f"text {number}" for number in range(20))}
    assert (found["list"].values, found["list"].item) == (3, 1)
    assert (found["rows"].values, found["rows"].item) == (2, 8)
    lengths = {name: struct.unpack_from("<I", content, record.place)[0] for name, record in found.items()}
    assert (lengths["units"], lengths["rows"], lengths["text 19"]) == (2, 5, 80)
    check_attributes(content, len(content))


@pytest.mark.parametrize("version", ["earliest", "latest"])
@pytest.mark.parametrize(("name", "value"), [("units", 0), ("list", 2), ("rows", 1), ("text 17", 0)])
def test_what_cannot_be_in_the_file_is_refused(version: str, name: str, value: int) -> None:
    content = made(version)
    struct.pack_into("<I", content, records(content)[name].place + 16 * value, 0xF0000000)
    with (
        pytest.raises(DataError, match=rf"attribute {name}: expected what .* in the file can hold, found \d+"),
        open_hdf5(io.BytesIO(content)),
    ):
        pass


def test_hostile_files_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Types and nothing else; a record whose shape or values lie behind the end."""
    signature = b"\x19\x01\x00\x00\x10\x00\x00\x00"
    check_attributes(signature * 50, 1 << 20)
    for last in range(1, 60):
        record = struct.pack("<BxHHH", 2, 2, 20, 20) + b"a\0" + signature + bytes(4) + b"\xff" * last
        check_attributes(bytes(300) + record, 1 << 20)
    monkeypatch.setattr(module, "_TYPES", 40)
    with pytest.raises(DataError, match="expected at most 40 types of texts, found more"):
        check_attributes(signature * 50, 1 << 20)
