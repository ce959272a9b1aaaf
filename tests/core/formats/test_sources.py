"""What a name on the command line means: files, folders, patterns of files, and what is inside."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.core.formats.sources import array_in, frames_at, source
from ptycho.errors import DataError, MissingFileError

STACK = np.arange(4 * 9 * 8, dtype=np.uint16).reshape(4, 9, 8)


def loaded(text: object, count: int | None = None) -> np.ndarray:
    return frames_at(source(str(text)), count).whole()


def test_files_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        np.save(tmp_path / f"frame_{number}.npy", STACK[number % 4])
    (tmp_path / "notes.txt").write_text("no frame")
    names = ["frame_1.npy", "frame_2.npy", "frame_10.npy"]
    for text in (tmp_path, tmp_path / "frame_*.npy", tmp_path / "*_[0-9]*.npy"):
        found = source(str(text))
        assert [path.name for path in found.paths] == names
        assert found.inside is None
        np.testing.assert_array_equal(loaded(text), STACK[[1, 2, 2]])


def test_names_within(tmp_path: Path) -> None:
    (tmp_path / "a:b.txt").write_text("")
    assert source(f"{tmp_path}/a:b.txt") == ((tmp_path / "a:b.txt",), None)
    assert source(f"{tmp_path}/a:b.txt:x,y") == ((tmp_path / "a:b.txt",), "x,y")
    for text in (f"{tmp_path}/gone.h5:/data", f"{tmp_path}/none_*.tif", f"{tmp_path}/gone", ":x"):
        with pytest.raises(MissingFileError, match="expected a file, a folder or a pattern of files"):
            source(text)


def test_stacks_of_arrays(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    np.save(tmp_path / "a.npy", STACK)
    np.save(tmp_path / "raster.npy", STACK.reshape(2, 2, 9, 8))
    np.savez(tmp_path / "a.npz", frames=STACK, table=np.ones((4, 2)))
    np.savez_compressed(tmp_path / "two.npz", frames=STACK, dark=STACK[:1])
    io.savemat(tmp_path / "a.mat", {"dp": np.moveaxis(STACK, 0, -1), "table": np.ones((4, 2))})
    for name in ("a.npy", "raster.npy", "a.npz", "a.npz:frames", "two.npz:frames", "a.mat", "a.mat:dp"):
        np.testing.assert_array_equal(loaded(tmp_path / name), STACK)
    np.save(tmp_path / "last.npy", np.moveaxis(STACK, 0, -1))
    np.testing.assert_array_equal(loaded(tmp_path / "last.npy", count=4), STACK)
    assert loaded(tmp_path / "last.npy").shape == (9, 8, 4)
    with pytest.raises(DataError, match=r"two\.npz: expected one array of 3 axes, found frames, dark; name one"):
        loaded(tmp_path / "two.npz")
    with pytest.raises(DataError, match=r"a\.npz: expected the array 'light', found frames, table"):
        loaded(tmp_path / "a.npz:light")
    with pytest.raises(DataError, match=r"a\.npz: expected patterns"):
        np.savez(tmp_path / "a.npz", z=STACK * 1j)
        loaded(tmp_path / "a.npz")


def test_stacks_of_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["entry/frames"], file["entry/table"], file["scan/data_2"] = STACK, np.ones((5, 4, 2)), STACK[1:]
        file["scan/data_10"] = STACK[:1]
    np.testing.assert_array_equal(loaded(f"{path}:/entry/frames"), STACK)
    np.testing.assert_array_equal(loaded(f"{path}:scan"), STACK[[1, 2, 3, 0]])
    with pytest.raises(
        DataError, match=r"a\.h5: expected one stack of patterns, found 3; name it, .*entry/frames \(4, "
    ):
        loaded(path)
    with h5py.File(path, "r+") as file:
        del file["scan"]
    np.testing.assert_array_equal(loaded(path), STACK)
    with pytest.raises(DataError, match="none: expected a data set, found none"):
        loaded(f"{path}:none")


def test_matlab_7_3_has_its_axes_in_the_other_order(tmp_path: Path) -> None:
    """MATLAB's (rows, columns, n) is (n, columns, rows) in the file; complex numbers are pairs."""
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["dp"] = STACK.swapaxes(1, 2)
        pairs = np.zeros((8, 9), [("real", "f8"), ("imag", "f8")])
        pairs["real"], pairs["imag"] = STACK[0].T, 1
        file["probe"] = pairs
    with (tmp_path / "a.mat").open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    np.testing.assert_array_equal(loaded(tmp_path / "a.mat"), STACK)
    np.testing.assert_array_equal(array_in(tmp_path / "a.mat", None, ("probe",)), STACK[0] + 1j)


def test_single_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", probeGuess=STACK[0] * 1j, other=STACK[1])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/probe"], file["other"] = STACK[0] * 1j, STACK[1]
    for name in ("a.npz", "a.h5"):
        np.testing.assert_array_equal(array_in(tmp_path / name, None, ("probeGuess", "probe")), STACK[0] * 1j)
        with pytest.raises(DataError, match="expected one array of 2 axes, found "):
            array_in(tmp_path / name, None, ("mask",))
    (tmp_path / "a.bin").write_bytes(b"no array")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}]), allow_pickle=True)
    for name in ("a.bin", "pickled.npy"):
        with pytest.raises(DataError, match="found a file that is none"):
            array_in(tmp_path / name, None)
    (tmp_path / "b.mat").write_bytes(b"no MATLAB" * 40)
    with pytest.raises(DataError, match=r"b\.mat: expected a whole MATLAB file"):
        array_in(tmp_path / "b.mat", "dp")
