"""Types of values in an HDF5 file that can be read: HDF5 falls over some that are damaged, and takes the process along.

Numbers, texts, and tables of numbers are read (HDF5 File Format Specification 3.0, IV.A.2.d Datatype). Of a sequence of
variable length HDF5 does not say whether its kind is one that there is.
"""

from __future__ import annotations

from typing import Any

import h5py

from ptycho.errors import DataError

__all__ = ["attribute", "attributes", "check_attribute_types", "check_type"]

_NUMBERS = {h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.BITFIELD, h5py.h5t.ENUM, getattr(h5py.h5t, "COMPLEX", 11)}
_NAMES = {
    h5py.h5t.VLEN: "a sequence of variable length",
    h5py.h5t.REFERENCE: "a reference",
    h5py.h5t.OPAQUE: "opaque bytes",
    h5py.h5t.TIME: "a time of HDF5",
}
_LEVELS = 8
"""Of tables in tables."""
_SCALES = ("DIMENSION_LIST", "REFERENCE_LIST")
"""References that HDF5's own library of scales keeps with data sets; no reader looks at them."""


def attribute(found: Any, name: str) -> Any:
    """The value of an attribute of a group or data set, None where there is none.

    Raises:
        DataError: it is of a type that is not read.
    """
    if name not in found.attrs:
        return None
    _check_attribute(found, name)
    return found.attrs[name]


def attributes(found: Any) -> dict[str, Any]:
    """All attributes of a group or data set, but for what only HDF5's own library reads.

    Raises:
        DataError: one is of a type that is not read.
    """
    return {name: attribute(found, name) for name in found.attrs if name not in _SCALES}


def check_attribute_types(found: Any) -> None:
    """Raise DataError where an attribute of a group or data set is of a type that is not read."""
    for name in found.attrs:
        if name not in _SCALES:
            _check_attribute(found, name)


def check_type(found: Any, what: str) -> None:
    """Raise DataError unless values of a type can be read.

    Args:
        found: the type, `h5py.h5t.TypeID`.
        what: whose it is, for the error.
    """
    wrong = _wrong(found, _LEVELS)
    if wrong is not None:
        raise DataError(f"{what}: expected numbers or text, found {wrong}; copy the file again, or write it without it")


def _check_attribute(found: Any, name: str) -> None:
    raw = name.encode("utf-8", "surrogateescape")
    check_type(h5py.h5a.open(found.id, raw).get_type(), f"{found.name}: attribute {name}")


def _wrong(found: Any, levels: int) -> str | None:
    """What a type is that is not read; None for one that is."""
    kind = found.get_class()
    if kind in _NUMBERS or kind == h5py.h5t.STRING:
        return None
    if kind == h5py.h5t.ARRAY and levels:
        return _wrong_inside(found.get_super(), levels - 1)
    if kind == h5py.h5t.COMPOUND and levels:
        return _wrong_table(found, levels - 1)
    return _NAMES.get(kind, "another type")


def _wrong_inside(found: Any, levels: int) -> str | None:
    """As `_wrong`, of a part: no texts of variable length, whose lengths nothing compares with the file."""
    if found.get_class() == h5py.h5t.STRING and found.is_variable_str():
        return "texts of variable length in a table"
    return _wrong(found, levels)


def _wrong_table(found: Any, levels: int) -> str | None:
    end = 0
    members = [(found.get_member_offset(n), found.get_member_type(n)) for n in range(found.get_nmembers())]
    for place, member in sorted(members, key=lambda each: each[0]):
        if place < end:
            return "a table whose columns overlap"
        if (wrong := _wrong_inside(member, levels)) is not None:
            return wrong
        end = place + max(member.get_size(), member.dtype.itemsize)  # h5py has odd numbers as the next larger ones
    return "a table whose columns end behind its rows" if end > found.get_size() else None
