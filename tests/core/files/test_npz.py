"""Archives are written as they were given, read as NumPy wrote them, and not believed."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.files.npz import open_npz, read_member, read_npy, write_arrays
from ptycho.errors import DataError

ARRAYS = {
    "plain": np.arange(24, dtype=">i4").reshape(2, 3, 4),
    "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "scalar": np.array(3.5),
    "text": np.array(["a", "µm"]),
    "empty": np.empty((0, 10**6)),
    "pairs": np.zeros(3, [("a", "<f4"), ("b", "<i2")]),
    "nothing": np.array("", "<U0"),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back(save, tmp_path: Path) -> None:
    save(tmp_path / "a.npz", **ARRAYS)
    with open_npz(tmp_path / "a.npz") as archive:
        assert list(archive) == archive.files == list(ARRAYS)
        assert len(archive) == len(ARRAYS)
        for key, expected in ARRAYS.items():
            found = archive[key]
            assert found.dtype == expected.dtype
            assert found.flags.f_contiguous == expected.flags.f_contiguous
            np.testing.assert_array_equal(found, expected)
        with pytest.raises(KeyError, match="gone"):
            archive["gone"]
        assert "plain" in archive
        assert "gone" not in archive


def spoilt(path: Path, name: str, content: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr(name, content)
    return path


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"text", "expected an array, found other content"),
        (npy(np.arange(5))[:-1], r"expected 40 bytes of an array \(5,\) of int64, found 39"),
        (npy(np.arange(5)) + b"1", "found 41"),
        (npy(np.arange(5)).replace(b"(5,)", b"(-5,)").replace(b"  \n", b" \n", 1), "expected -40 bytes"),
        (npy(np.arange(5)).replace(b"\x01\x00", b"\x07\x00", 1), "version"),
        (npy(np.array(["ab"])).replace(b"a\0\0\0", b"a\0\0\x7f"), "characters that do not exist"),
        (npy(np.array([{}])), "unpickled"),
        (npy(np.zeros((1, 1), "V0")).replace(b"1, 1), }" + 10 * b" ", b"100000, 100000), }"), "values of some size"),
    ],
)
def test_damage(content: bytes, words: str, tmp_path: Path) -> None:
    with open_npz(spoilt(tmp_path / "a.npz", "a.npy", content)) as archive, pytest.raises(ValueError, match=words):
        archive["a"]


def test_other_methods_of_compression_are_not_unpacked(tmp_path: Path) -> None:
    path = spoilt(tmp_path / "a.npz", "a.npy", npy(np.zeros(1 << 20)), zipfile.ZIP_BZIP2)
    with open_npz(path) as archive, pytest.raises(DataError, match="stored or deflated, found method 12"):
        archive["a"]
    with zipfile.ZipFile(path) as file, pytest.raises(DataError, match="method 12"):
        read_member(file, "a.npy")


def test_what_is_read_together_is_counted_together(tmp_path: Path) -> None:
    """Ten members of 8 MiB of zeros are each small enough."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(10):
            file.writestr(f"{number}.npy", npy(np.zeros(1 << 20)))
    with open_npz(tmp_path / "a.npz") as archive:
        assert sum(archive["0"].sum() for _ in range(20)) == 0
        with pytest.raises(DataError, match=r"7: expected what .* can hold, found 64 MiB declared"):
            dict(archive)


def test_a_member_and_an_array_of_its_own(tmp_path: Path) -> None:
    path = spoilt(tmp_path / "a.zip", "a", b"content" * 99, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path) as file:
        assert read_member(file, "a") == b"content" * 99
    (tmp_path / "a.npy").write_bytes(npy(np.arange(3)))
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), [0, 1, 2])
    with pytest.raises(DataError, match="found a folder"):
        read_npy(tmp_path)


def test_what_is_written_is_read_and_nothing_else(tmp_path) -> None:
    arrays = {
        "big endian": np.arange(3, dtype=">u2"),
        "turned": np.arange(6.0).reshape(2, 3).T,
        "text": json.dumps({"µ": 1}),
        "number": 2.5,
        "empty": np.zeros((0, 4), np.complex64),
    }
    write_arrays(tmp_path / "some.npz", arrays)
    with np.load(tmp_path / "some.npz", allow_pickle=False) as file:
        assert file.files == list(arrays)
        for name, values in arrays.items():
            np.testing.assert_array_equal(file[name], values)
            assert file[name].dtype == np.asarray(values).dtype


def test_objects_are_not_pickled() -> None:
    with pytest.raises(ValueError, match=r"[Oo]bject array"):
        write_arrays(io.BytesIO(), {"listed": np.array([{}], dtype=object)})
