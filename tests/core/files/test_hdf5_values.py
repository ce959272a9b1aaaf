"""What is in an HDF5 file itself, each once, and what cannot be there."""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ptycho.core.files.hdf5_values import all_values, check_size, open_hdf5, own_datasets, own_groups, own_member
from ptycho.errors import DataError


@pytest.fixture
def content() -> bytes:
    """Two groups that hold each other, with a data set and links in them."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["a/b/values"] = np.arange(6.0).reshape(2, 3)
        file["a/b/up"] = file["a"]
        file["a/text"] = "µm"
        file["soft"] = h5py.SoftLink("/a/b")
        file["out"] = h5py.ExternalLink("other.h5", "/a")
    return stream.getvalue()


def test_groups_are_seen_once(content: bytes) -> None:
    with open_hdf5(io.BytesIO(content)) as file:
        assert [group.name for group in own_groups(file, 9)] == ["/", "/a", "/a/b"]
        assert [group.name for group in own_groups(file, 1)] == ["/", "/a"]
        assert [name for name, _ in own_datasets(file["a"])] == ["text", "b/values"]


def test_links_are_not_followed(content: bytes) -> None:
    with open_hdf5(io.BytesIO(content)) as file:
        np.testing.assert_array_equal(all_values(own_member(file["a/b"], "values")), np.arange(6.0).reshape(2, 3))
        assert own_member(file, "gone") is None
        for name in ("soft", "out"):
            with pytest.raises(DataError, match=f"{name}: expected it in the file itself, found a link"):
                own_member(file, name)
        with pytest.raises(DataError, match="found a link"):
            list(own_datasets(file))


def test_sizes_that_cannot_be() -> None:
    with h5py.File(io.BytesIO(), "w") as file:
        check_size(file.create_dataset("small", (4, 5), "u2", chunks=(1, 5)))
        check_size(file.create_dataset("scalar", data=3))
        check_size(file.create_dataset("none", dtype="f4", data=h5py.Empty("f4")))
        for name, shape, chunks in (("many", (10**12, 8), (1, 8)), ("chunk", (1 << 27, 8), (1 << 27, 1))):
            with pytest.raises(DataError, match=f"/{name}"):
                check_size(file.create_dataset(name, shape, "u2", chunks=chunks))
        with pytest.raises(DataError, match="/few: expected its chunks in the file, found few of 1000000"):
            check_size(file.create_dataset("few", (10**6,), "u1", chunks=(1,)))


@pytest.mark.parametrize("options", [{}, {"chunks": (2,), "maxshape": (None,)}])
@pytest.mark.parametrize("kind", [h5py.string_dtype(), h5py.vlen_dtype("f8")])
def test_values_of_variable_length_are_in_the_file(options: dict[str, Any], kind: Any, tmp_path: Path) -> None:
    """A length of 2^31 is written over that of the second of two values; HDF5 would make room for it."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=512) as file:
        made = file.create_dataset("a", 2, kind, **options)
        made[0], made[1] = ("abc", "de") if kind.metadata["vlen"] is str else (np.ones(3), np.ones(2))
        file.flush()
        place = made.id.get_offset() or made.id.get_chunk_info(0).byte_offset
        check_size(made)
        assert len(made[()]) == 2
    with path.open("r+b") as stream:
        stream.seek(place + 16)
        assert stream.read(4) == b"\x02\0\0\0"
        stream.seek(place + 16)
        stream.write((1 << 31).to_bytes(4, "little"))
    with h5py.File(path) as file, pytest.raises(DataError, match=r"/a: values of variable length: expected what"):
        check_size(file["a"])
