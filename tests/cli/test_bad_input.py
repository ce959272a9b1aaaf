"""Every bad scan file ends in one line that names the file, the array, what was found and what to do."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho.core.groups.grouping import make_groups
from ptycho.errors import DataError, MissingFileError
from ptycho.raw_data import RawData

Arrays = dict[str, Any]

n = 5


@pytest.fixture
def good(rng: np.random.Generator) -> Arrays:
    return {
        "diff3d": np.sqrt(rng.poisson(5, (n, 64, 64))).astype(np.float32),
        "xcoords": np.linspace(32, 60, n),
        "ycoords": np.linspace(32, 50, n),
        "probeGuess": np.ones((64, 64), np.complex64),
        "objectGuess": np.ones((90, 100), np.complex64),
        "Y": np.ones((n, 64, 64), np.complex64),
    }


def refused(path: Path, kind: type[Exception] = DataError) -> str:
    with pytest.raises(kind) as error:
        RawData.from_file(path)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert "expected" in message
    assert "found" in message
    assert message.count(f"{path}:") == 1
    return message


def without(*keys: str) -> Callable[[Arrays], None]:
    return lambda arrays: [arrays.pop(key) for key in keys] and None


def changed(**fields: Any) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update(fields)


def at(key: str, index: Any, value: Any) -> Callable[[Arrays], None]:
    return lambda arrays: arrays[key].__setitem__(index, value)


def frame(fill: float, size: int = 64, count: int = n) -> np.ndarray:
    return np.full((count, size, size), fill)


ARRAYS: dict[str, tuple[Callable[[Arrays], None], str]] = {
    "no patterns": (without("diff3d"), "an array diff3d or diffraction, found only xcoords, ycoords, probeGuess"),
    "no positions": (without("ycoords"), "an array ycoords, found only diff3d, xcoords"),
    "no frames": (changed(diff3d=frame(1, count=0), xcoords=np.zeros(0), ycoords=np.zeros(0), Y=None), "one pattern"),
    "complex patterns": (changed(diff3d=frame(1) * 1j), "diffraction: .* complex128"),
    "text as patterns": (changed(diff3d=np.array(["a", "b"])), "diffraction: .* <U1"),
    "flat patterns": (changed(diff3d=np.ones((n, 4096))), r"expected patterns .* \(5, 4096\)"),
    "more patterns": (
        changed(diff3d=frame(1, count=7), Y=None),
        "found 7 and 5: patterns 5 to 6 .* without a position",
    ),
    "more y than x": (changed(ycoords=np.zeros(n + 1)), r"ycoords \(6,\)"),
    "table of x": (changed(xcoords=np.ones((n, 1))), r"xcoords \(5, 1\)"),
    "short scan_index": (changed(scan_index=np.arange(3)), r"scan_index \(3,\)"),
    "text as position": (changed(xcoords=np.array(list("abcde"))), "xcoords: expected integers or real numbers"),
    "complex position": (changed(xcoords=np.ones(n) * 1j), "xcoords: .* complex128"),
    "small probe": (changed(probeGuess=np.ones((32, 32))), r"probeGuess: expected \(64, 64\) .* found \(32, 32\)"),
    "4-D probe": (changed(probeGuess=np.ones((1, 1, 64, 64))), r"probeGuess: .* \(1, 1, 64, 64\)"),
    "no modes": (changed(probeGuess=np.ones((0, 64, 64))), r"probeGuess: .* \(0, 64, 64\)"),
    "dark probe": (changed(probeGuess=np.zeros((64, 64))), "probeGuess: expected an illumination, found only zeros"),
    "dark scan": (changed(diff3d=frame(0)), "only zeros in all 5 patterns"),
    "dark scan of integers": (changed(diff3d=frame(0).astype(np.uint16)), "only zeros in all 5 patterns"),
    "NaN patterns": (at("diff3d", np.s_[2, 1, 1:4], np.nan), "diffraction: .* 3 NaN or infinite in valid pixels"),
    "infinite patterns": (at("diff3d", np.s_[:, 1, 1], np.inf), "5 NaN or infinite"),
    "negative patterns": (at("diff3d", np.s_[:, :32], -900), "found 10240 negative"),
    "negative integers": (changed(diff3d=frame(-3).astype(np.int16)), "found 20480 negative"),
    "NaN position": (at("xcoords", 2, np.nan), "xcoords: .* 1 NaN or infinite of 5"),
    "infinite nominal position": (changed(ycoords_start=np.full(n, np.inf)), "ycoords_start: .* 5 NaN"),
    "NaN probe": (at("probeGuess", np.s_[0, :3], np.nan), "probeGuess: .* 3 NaN"),
    "NaN object": (at("objectGuess", np.s_[0, 0], np.nan * 1j), "objectGuess: .* 1 NaN"),
    "NaN truth": (at("Y", np.s_[0, 0, 0], np.inf), "Y: .* 1 NaN"),
    "layers of object": (changed(objectGuess=np.ones((2, 90, 90))), r"objectGuess: .* \(2, 90, 90\)"),
    "short truth": (changed(Y=np.ones((3, 64, 64))), r"Y: expected shape \(5, 64, 64\)"),
    "far to the right": (at("xcoords", slice(3, 5), 500), "2 of 5 patches wholly outside .* 500"),
    "far above": (at("ycoords", 0, -33), "1 of 5 patches wholly outside .* -33"),
    "mask of another size": (changed(mask=np.ones((32, 32))), r"mask: expected shape \(64, 64\) or \(5, 64, 64\)"),
    "masks that do not fit": (
        changed(mask=np.ones((64, 64)), bad_pixels=np.zeros((32, 32))),
        r"mask and bad_pixels: .* \(64, 64\) and \(32, 32\)",
    ),
    "masks of other frames": (
        changed(mask=np.ones((5, 64, 64)), bad_pixels=np.zeros((4, 64, 64))),
        "mask and bad_pixels",
    ),
    "grey mask": (changed(mask=np.full((64, 64), 0.5)), "mask: expected True and False"),
    "nothing valid": (changed(mask=np.zeros((64, 64), bool)), "mask: expected valid pixels"),
    "all bad": (changed(bad_pixels=np.ones((64, 64), bool)), "bad_pixels where bad"),
    "dark where valid": (
        changed(diff3d=np.pad(np.ones((n, 1, 1)), ((0, 0), (0, 63), (0, 63))), bad_pixels=np.eye(64) * np.eye(64)[0]),
        "only zeros",
    ),
    "unknown units": (changed(units=np.array("photons")), "units: expected 'amplitude' or 'counts', found 'photons'"),
    "units as a number": (changed(units=np.array(3)), "units: expected one text, found dtype int64"),
    "pickled metadata": (changed(_metadata=np.array({"nphotons": 1}, object)), "_metadata: .* unpickled .* JSON"),
    "pickled patterns": (changed(diff3d=np.array([None, 1], object)), "diff3d: .* unpickled"),
    "broken metadata": (changed(_metadata=np.array("{nphotons: 5")), "_metadata: expected JSON text"),
    "list as metadata": (changed(_metadata=np.array("[1]")), "_metadata: expected a JSON object, found list"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_bad_arrays(case: str, good: Arrays, tmp_path: Path) -> None:
    spoil, words = ARRAYS[case]
    spoil(good)
    path = tmp_path / "scan.npz"
    np.savez(path, **{key: value for key, value in good.items() if value is not None})
    assert re.search(words, refused(path))


def test_the_good_scan_is_good(good: Arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "scan.npz", **good)
    assert len(RawData.from_file(tmp_path / "scan.npz")) == n


def test_a_patch_at_the_edge_of_the_object_is_good(good: Arrays, tmp_path: Path) -> None:
    good["xcoords"][0], good["ycoords"][1] = 131.9, -31.9
    np.savez(tmp_path / "scan.npz", **good)
    assert len(RawData.from_file(tmp_path / "scan.npz")) == n


def test_units_of_the_caller_are_checked(good: Arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "scan.npz", **good)
    with pytest.raises(ValueError, match="found 'photons'"):
        RawData.from_file(tmp_path / "scan.npz", units="photons")


def test_missing_file(tmp_path: Path) -> None:
    assert "nothing there" in refused(tmp_path / "no.npz", MissingFileError)


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    assert "found: File name too long" in refused(tmp_path / ("long" * 100))


def test_a_folder(tmp_path: Path) -> None:
    assert "found a folder" in refused(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b"\x89HDF\r\n\x1a\n rest", "an HDF5 file"),
        (b"\x93NUMPY\x01\x00", "a single NPY array"),
        (b"diffraction of gold", "begins with b'diffract'"),
        (b"\x80\x04\x95\x10pickle", "begins with"),
        (b"PK\x03\x04 and then nothing", "expected a whole NPZ archive, found: "),
    ],
)
def test_other_files(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    path.write_bytes(content)
    assert words in refused(path)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.9999])
def test_a_truncated_archive(kept: float, good: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    np.savez(path, **good)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    assert "expected a whole NPZ archive, found: " in refused(path)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_a_flipped_byte(write: Callable[..., None], good: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    write(path, **good)
    content = bytearray(path.read_bytes())
    content[5000] ^= 0xFF
    path.write_bytes(content)
    assert "expected a whole NPZ archive, found: " in refused(path)


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "found only readme.txt" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("diff3d", "hello")
    assert "diff3d: expected an array, found other content" in refused(path)
    with zipfile.ZipFile(path, "w"):
        pass
    assert "found only nothing" in refused(path)


def test_too_few_points_for_groups_say_which_number_to_raise(good: Arrays) -> None:
    x, y = good["xcoords"][:3], good["ycoords"][:3]
    with pytest.raises(ValueError, match="raise the number of scan points"):
        make_groups(x, y, 2)
