"""Numbers, texts and tables of numbers are read; types that HDF5 falls over are one line, before a value is read."""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ptycho.core.files import hdf5_types as module
from ptycho.core.files.hdf5_types import attribute, attributes, check_attribute_types, check_type
from ptycho.core.files.hdf5_values import all_values, own_member
from ptycho.errors import DataError

TEXT = h5py.string_dtype()
_KIND = b"\x19\x01\x01\x00\x10\x00\x00\x00"
"""A text of variable length in UTF-8: the class, and in the second byte its kind."""


@pytest.mark.parametrize(
    "kind",
    [
        "i1", ">u8", "<f2", ">f8", "c8", "S5", "?", TEXT, np.dtype((">f4", (3,))),
        np.dtype([("r", ">f8"), ("i", ">f8")]), np.dtype([("a", "i2"), ("b", "S3"), ("c", [("d", "f4", (2,))])]),
        h5py.enum_dtype({"on": 1, "off": 0}, "u1"),
    ],
)  # fmt: skip
def test_what_can_be_read_is(kind: Any) -> None:
    with h5py.File(io.BytesIO(), "w") as file:
        made = file.create_dataset("x", 2, kind)
        check_type(made.id.get_type(), "x")
        if np.dtype(kind).subdtype is None:
            h5py.h5a.create(file.id, b"told", made.id.get_type(), made.id.get_space())
            assert len(all_values(made)) == len(attribute(file, "told")) == 2


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (h5py.vlen_dtype("f8"), "a sequence of variable length"),
        (h5py.ref_dtype, "a reference"),
        (np.dtype("V6"), "opaque bytes"),
        (np.dtype([("a", "i4"), ("b", h5py.ref_dtype)]), "a reference"),
        (np.dtype([("a", "i4"), ("b", TEXT)]), "texts of variable length in a table"),
    ],
)
def test_what_cannot_be_read_is_named(kind: Any, found: str) -> None:
    with h5py.File(io.BytesIO(), "w") as file:
        made = file.create_dataset("x", 2, kind)
        made.attrs["units"] = "m"
        h5py.h5a.create(made.id, b"odd", made.id.get_type(), h5py.h5s.create(h5py.h5s.SCALAR))
        for use in (all_values, lambda each: own_member(each.file, "x")):
            with pytest.raises(DataError, match=rf"x: expected numbers or text, found {found}; copy"):
                use(made)
        assert attribute(made, "units") == "m"
        for many in (attributes, check_attribute_types):
            with pytest.raises(DataError, match=rf"/x: attribute odd: expected numbers or text, found {found}"):
                many(made)


def table(*columns: tuple[int, Any], size: int = 16) -> Any:
    made = h5py.h5t.create(h5py.h5t.COMPOUND, size)
    for number, (place, kind) in enumerate(columns):
        made.insert(b"%d" % number, place, kind)
    return made


def wide() -> Any:
    """A number of 4 bytes that h5py has as one of 8: of its 32 bits 11 are the exponent."""
    made = h5py.h5t.IEEE_F32LE.copy()
    made.set_fields(31, 20, 11, 0, 20)
    made.set_ebias(1023)
    assert (made.get_size(), made.dtype) == (4, np.dtype("<f8"))
    return made


def test_tables_whose_columns_overlap() -> None:
    """Columns that lie apart in the file may overlap in memory; h5py would write behind the end of them."""
    f4, f8 = h5py.h5t.IEEE_F32LE, h5py.h5t.IEEE_F64LE
    check_type(table((0, f8), (8, f4), (12, f4)), "t")
    check_type(table((8, f8), (0, wide())), "t")
    for spoilt in (table((0, wide()), (4, f4)), table((0, table((0, wide()), (4, f4), size=8)), (8, f4))):
        with pytest.raises(DataError, match="t: expected numbers or text, found a table whose columns overlap"):
            check_type(spoilt, "t")
    with pytest.raises(DataError, match="found a table whose columns end behind its rows"):
        check_type(table((0, f8), (12, wide())), "t")
    deep = f4
    for _ in range(module._LEVELS + 1):
        deep = table((0, deep), size=4)
    with pytest.raises(DataError, match="expected numbers or text, found another type"):
        check_type(deep, "t")


@pytest.mark.parametrize("kind", [0, 2, 15])
def test_texts_of_a_kind_that_is_not(kind: int, tmp_path: Path) -> None:
    """One nibble of the type of a text and of an attribute; of 2 and above HDF5 takes the process down."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["text"] = "photons"
        file["text"].attrs["units"] = "nm"
        file["text"].attrs["fixed"] = np.bytes_("nm")
    content = path.read_bytes()
    assert content.count(_KIND) == 2
    path.write_bytes(content.replace(_KIND, _KIND[:1] + bytes([kind]) + _KIND[2:]))
    with h5py.File(path) as file:
        with pytest.raises(DataError, match="/text: expected numbers or text, found a sequence of variable length"):
            all_values(file["text"])
        with pytest.raises(DataError, match="/text: attribute units: expected numbers or text, found a sequence"):
            attribute(file["text"], "units")
        assert attribute(file["text"], "fixed") == b"nm"
        assert attribute(file["text"], "none") is None


def test_scales_of_hdf5_are_passed_over() -> None:
    """Their attributes are references."""
    with h5py.File(io.BytesIO(), "w") as file:
        file["x"], file["y"] = np.arange(3.0), np.arange(3.0)
        file["x"].make_scale("x")
        file["y"].dims[0].attach_scale(file["x"])
        for name in "xy":
            check_attribute_types(file[name])
        assert set(file["y"].attrs) == {"DIMENSION_LIST"}
        assert attributes(file["y"]) == {}
        assert set(attributes(file["x"])) == {"CLASS", "NAME"}
