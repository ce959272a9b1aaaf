"""Frames of HDF5 files are read where they lie, and numbers with their units."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.core import scaling
from ptycho.core.formats import registry
from ptycho.core.formats.hdf5 import copy_patterns, h5_frames, new_file, quantity, square_pixel
from ptycho.core.formats.record import ScanRecord
from ptycho.core.scan.stream import Frames
from ptycho.errors import DataError


@pytest.fixture
def array(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """7 frames of 4 x 4, of which a block holds 3."""
    monkeypatch.setattr(scaling, "_BLOCK_PIXELS", 3 * 16)
    return rng.integers(0, 60000, (7, 4, 4)).astype(np.uint16)


def test_data_sets_in_a_row_are_one_stack(array: np.ndarray, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["first"], file["second"], file["third"] = array[:2], array[2:3], array[3:]
    frames = h5_frames(tmp_path / "a.h5", ["first", "second", "third"])
    assert frames.shape == (7, 4, 4)
    assert frames.dtype == np.uint16
    assert [len(block) for _, block in frames.blocks()] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([block for _, block in frames.blocks()]), array)
    for indices in ([6, 0, 2, 3], [4], [1, 2, 3]):
        np.testing.assert_array_equal(frames.read(np.array(indices)), array[indices])


def test_a_raster_is_flattened(array: np.ndarray, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raster"] = array[:6].reshape(2, 3, 4, 4)
    frames = h5_frames(tmp_path / "a.h5", ["raster"])
    for indices in (range(6), range(1, 5), [5, 4, 0, 1], [2, 3]):
        np.testing.assert_array_equal(frames.read(np.array(indices)), array[list(indices)])


def test_data_sets_that_do_not_fit(array: np.ndarray, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["first"], file["other"] = array, array[:, :3]
        file.create_group("group")
    with pytest.raises(DataError, match=r"all of one size, found first \(7, 4, 4\), other \(7, 3, 4\)"):
        h5_frames(tmp_path / "a.h5", ["first", "other"])
    with pytest.raises(DataError, match="group: expected a data set, found a group"):
        h5_frames(tmp_path / "a.h5", ["group"])


def test_a_conversion_holds_a_block_at_a_time(tmp_path: Path) -> None:
    """64 MB of patterns, blocks of 2 million pixels: 4 MB each."""
    with h5py.File(tmp_path / "big.h5", "w") as file:
        made = file.create_dataset("patterns", (2000, 128, 128), np.uint16, chunks=(8, 128, 128), fillvalue=3)
        made.attrs.update({"detector_pixel_width_m": 1e-4, "detector_pixel_height_m": 1e-4})
        file["indexes"], file["bad_pixels"] = np.arange(2000), np.zeros((128, 128), bool)
    x = np.arange(2000.0)
    others = ScanRecord(xcoords=x, ycoords=x, probe=np.ones((1, 128, 128), np.complex64))
    tracemalloc.start()
    record = registry.read(tmp_path / "big.h5")
    both = ScanRecord(**{**vars(record), "xcoords": others.xcoords, "ycoords": x, "probe": others.probe})
    registry.write(tmp_path / "big.npz", both)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "big.npz").stat().st_size > 65_000_000
    assert peak < 20_000_000
    patterns = registry.read(tmp_path / "big.npz").patterns
    assert patterns is not None
    assert (patterns.read(np.array([0, 1999])) == 3).all()


@pytest.mark.parametrize(
    ("kind", "value", "units", "expected"),
    [
        ("length", 75, "um", 75e-6),
        ("length", 75, "µm", 75e-6),
        ("length", 75, "microns", 75e-6),
        ("length", 1.5, "Meters", 1.5),
        ("length", 1500, b"mm", 1.5),
        ("length", 1.5, None, 1.5),
        ("energy", 8, "keV", 8000),
        ("energy", 8000, ["eV"], 8000),
        ("energy", 1.602176634e-16, "J", 1000),
        ("energy", 1.602176634e-16, None, 1000),
        ("energy", [1.602176634e-16] * 3, None, 1000),
    ],
)
def test_numbers_have_units(kind: str, value: object, units: object, expected: float, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = value
        if units is not None:
            file["a"].attrs["units"] = units
        assert quantity(file, "a", kind) == pytest.approx(expected, rel=1e-14)
        assert quantity(file, "b", kind) is None


def test_numbers_without_sense(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"], file["b"], file["c"] = 8000.0, 1.0, np.nan
        file["b"].attrs["units"] = "furlong"
        with pytest.raises(DataError, match=r"a: expected a photon energy in joules .* found 8000 .*--energy-keV"):
            quantity(file, "a", "energy")
        with pytest.raises(DataError, match=r"b: expected a unit of length, one of m, mm, .* found 'furlong'"):
            quantity(file, "b", "length")
        assert quantity(file, "c", "length") is None


def test_pixels_are_square() -> None:
    assert square_pixel(1e-4, None, "detector") == 1e-4
    assert square_pixel(-1e-4, 1e-4, "detector") == 1e-4
    assert square_pixel(None, None, "detector") is None
    with pytest.raises(DataError, match=r"detector: expected square pixels, found 0\.0001 x 0\.0002 m"):
        square_pixel(1e-4, 2e-4, "detector")


FULL = """
import resource, sys
import numpy as np
from pathlib import Path
from ptycho.core.formats.hdf5 import copy_patterns, new_file
from ptycho.core.scan.stream import Frames
from ptycho.errors import OutputError
frames = Frames.of(np.random.default_rng(0).integers(0, 4000, (40, 64, 64)).astype(np.uint16))
for size in (0, 700, 2048, 4096, 100_000, 200_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        with new_file(Path(sys.argv[1])) as file:
            file.create_group("entry").attrs["name"] = "scan"
            copy_patterns(file["entry"], "data", frames)
            file["positions"] = np.arange(3.0)
    except OutputError as error:
        print(error)
"""


def test_a_full_disk_is_an_error_of_one_line_and_ends_no_process(tmp_path: Path) -> None:
    """The library itself takes the process down as it ends."""
    pytest.importorskip("resource")
    target = tmp_path / "scan.h5"
    target.write_text("old")
    line = [sys.executable, "-c", FULL, target]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"cannot write {target}: File too large; free some space"] * 6
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_the_same_content_gives_the_same_bytes(array: np.ndarray, tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        with new_file(tmp_path / name) as file:
            copy_patterns(file, "data", Frames.of(array))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
