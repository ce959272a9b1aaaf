"""Tags of Digital Micrograph files are followed to their end, or refused in one line."""

import struct
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.files.damage import readable
from ptycho.core.formats.micrograph_tags import check_tags
from ptycho.errors import DataError

HEAD = struct.pack(">iii", 3, 0, 1)


def group(name: bytes, *tags: bytes) -> bytes:
    return struct.pack(">BH", 20, len(name)) + name + b"\x01\x00" + struct.pack(">i", len(tags)) + b"".join(tags)


def value(*about: int, content: bytes = b"", name: bytes = b"v", mark: bytes = b"%%%%") -> bytes:
    return (
        struct.pack(">BH", 21, len(name))
        + name
        + mark
        + struct.pack(f">{len(about) + 1}i", len(about), *about)
        + content
    )


def check(path: Path, *tags: bytes) -> None:
    path.write_bytes(HEAD + b"\x01\x00" + struct.pack(">i", len(tags)) + b"".join(tags))
    with readable(path, "a whole file"):
        check_tags(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scan.dm3"


@pytest.mark.parametrize("version", [3, 4])
def test_whole_files_pass_and_cut_ones_do_not(path: Path, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "scripts"))
    from fuzz_electron import micrograph

    whole = micrograph(np.zeros((2, 3, 8, 8), np.uint8), version)
    path.write_bytes(whole)
    check_tags(path)
    for end in (11, 40, len(whole) // 2, len(whole) - 12):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"^[^\n]*scan\.dm3[^\n]*$"), readable(path, "a whole file"):
            check_tags(path)


def test_values_of_every_kind(path: Path) -> None:
    check(
        path,
        value(3, content=bytes(4)),
        value(18, 5, content=b"words"),
        value(20, 7, 3, content=bytes(24)),
        value(15, 0, 2, 0, 2, 0, 6, content=bytes(6)),
        value(20, 15, 0, 1, 0, 11, 2, content=bytes(16)),
        value(20, 20, 4, 3, 2, content=bytes(12)),
        group(b"empty"),
    )


@pytest.mark.parametrize(
    ("tag", "found"),
    [
        (value(20, 15, 0, 0, 2**30), "1073741824 values of 0 bytes"),
        (value(20, 18, 0, 2**30), "1073741824 values of 0 bytes"),
        (value(20, 2, -3), "-3 values of 2 bytes"),
        (value(20, 10, 2**20 + 1, content=bytes(2**20 + 1)), "1048577 values of 1 bytes"),
        (value(20, 10, 50), "a value of 50 bytes in a file of"),
        (value(13), "a value of the kind 13"),
        (value(15, 0, 2, 0, 2), "a value of the kind 15, 0, 2, 0, 2"),
        (value(15, 0, 1, 0, 15, content=bytes(9)), "a value of the kind 15, 0, 1, 0, 15"),
        (value(3, mark=b"%%%!", content=bytes(4)), "a value without its mark"),
        (value(*range(2000)), "a value that 2000 numbers describe"),
        (b"\x13\x00\x00", "a tag of kind 19"),
    ],
)
def test_what_no_program_wrote(path: Path, tag: bytes, found: str) -> None:
    with pytest.raises(DataError, match=f"expected the tags of Digital Micrograph, found {found}"):
        check(path, group(b"ImageTags", tag))


def test_an_image_may_be_large_and_groups_not_deep(path: Path) -> None:
    check(path, group(b"ImageData", value(20, 10, 2**20 + 1, content=bytes(2**20 + 1), name=b"Data")))
    nested = group(b"")
    for _ in range(70):
        nested = group(b"", nested)
    with pytest.raises(DataError, match="more than 64 groups within each other"):
        check(path, nested)
