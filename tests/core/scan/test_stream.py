"""Streams: what is read is what is in the file, in any layout, and memory stays bounded."""

import gc
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.formats.opening import open_scan
from ptycho.core.scan.npz_file import read_scan
from ptycho.core.scan.npz_mapped import mapped_scan, pattern_member
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import Frames, ScanStream, stand_in, stream_units, write_stream
from ptycho.errors import ConfigError, DataError, MissingFileError


def scan(n: int = 5, N: int = 64) -> ScanFile:
    rng = np.random.default_rng(1)
    return ScanFile(
        diff3d=rng.poisson(9, (n, N, N)).astype(np.uint16),
        xcoords=np.arange(n) + 40.5,
        ycoords=40.0 - np.arange(n),
        probeGuess=np.ones((N, N), np.complex64),
        scan_index=np.arange(n),
        Y=(rng.standard_normal((n, N, N)) + 1j).astype(np.complex64),
        mask=rng.random((N, N)) > 0.1,
        metadata={"nphotons": 9 * N * N, "who": "me"},
        units="counts",
    )


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_written_is_read_again(tmp_path: Path, compress: bool) -> None:
    path = write_stream(tmp_path / "a.npz", ScanStream.of(scan()), compress)
    first = read_scan(path)
    stream = open_scan(path)
    second = stream.scan()
    assert stream.frames.shape == (5, 64, 64)
    np.testing.assert_array_equal(stream.frames.read(np.array([4, 0])), scan().diff3d[[4, 0]])
    for key, value in vars(scan()).items():
        for found in (first, second):
            np.testing.assert_equal(getattr(found, key), value, err_msg=key)


def test_both_files_of_numpy_are_read(tmp_path: Path) -> None:
    for name, save in (("a", np.savez), ("b", np.savez_compressed)):
        arrays = {k: v for k, v in vars(scan()).items() if v is not None and k not in ("metadata", "diff3d")}
        save(tmp_path / f"{name}.npz", diffraction=scan().diff3d, **arrays)
        stream = open_scan(tmp_path / f"{name}.npz")
        np.testing.assert_array_equal(stream.scan().diff3d, scan().diff3d)
        np.testing.assert_array_equal(stream.scan().Y, scan().Y)


@pytest.mark.parametrize("layout", ["hwn", "nhw1", "fortran"])
def test_older_layouts_are_turned_without_a_copy(tmp_path: Path, layout: str) -> None:
    data = scan().diff3d
    stored = {"hwn": np.moveaxis(data, 0, -1), "nhw1": data[..., None], "fortran": np.asfortranarray(data)}[layout]
    parts = {key: getattr(scan(), key) for key in ("xcoords", "ycoords", "probeGuess")}
    np.savez(tmp_path / "old.npz", diff3d=stored, **parts)
    stream = open_scan(tmp_path / "old.npz")
    assert stream.frames.shape == data.shape
    np.testing.assert_array_equal(stream.frames.read(np.arange(5)), data)


def test_values_are_not_checked_but_shapes_are(tmp_path: Path) -> None:
    parts = {key: getattr(scan(), key) for key in ("xcoords", "ycoords")}
    broken = scan().diff3d.astype(np.float32)
    broken[0, 0, 0] = np.nan
    np.savez(tmp_path / "nan.npz", diff3d=broken, probeGuess=scan().probeGuess, **parts)
    stream = open_scan(tmp_path / "nan.npz")
    assert np.isnan(stream.frames.read(np.array([0]))[0, 0, 0])
    np.savez(tmp_path / "bad.npz", diff3d=broken, probeGuess=np.ones((3, 3)), **parts)
    with pytest.raises(DataError, match=r"bad.npz: probeGuess: expected \(64, 64\)"):
        open_scan(tmp_path / "bad.npz")
    with pytest.raises(MissingFileError, match="found nothing there"):
        open_scan(tmp_path / "none.npz")
    np.savez(tmp_path / "pickle.npz", diff3d=np.array([{}]), probeGuess=scan().probeGuess, **parts)
    with pytest.raises(DataError, match="pickled"):
        open_scan(tmp_path / "pickle.npz")


def test_frames_are_made_lazily_and_in_order() -> None:
    asked: list[int] = []

    def read(indices: np.ndarray) -> np.ndarray:
        asked.extend(indices.tolist())
        return indices[:, None, None] * np.ones((1, 2, 2), np.int64)

    frames = Frames((6, 2, 2), np.dtype(np.int64), read).take(np.array([5, 1, 3])).map(lambda v: v + 0.5, 2, np.float32)
    assert asked == []
    made = np.concatenate([block for _, block in frames.blocks()])
    assert asked == [5, 1, 3]
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made[:, 0, 0], [5.5, 1.5, 3.5])
    assert stand_in((10**6, 64, 64), np.float32).strides == (0, 0, 0)


def test_units_are_decided_on_a_sample() -> None:
    assert stream_units(ScanStream.of(scan())) == "counts"
    undeclared = ScanStream.of(
        ScanFile(**{**vars(scan()), "units": None, "diff3d": np.sqrt(scan().diff3d, dtype=np.float32)})
    )
    assert stream_units(undeclared) == "amplitude"
    wrong = ScanStream.of(ScanFile(**{**vars(scan()), "units": "volts"}))
    with pytest.raises(ConfigError, match="volts"):
        stream_units(wrong)


def test_memory_stays_bounded(tmp_path: Path) -> None:
    n = 12_000  # 98 MB
    frames = Frames((n, 64, 64), np.dtype(np.uint16), lambda i: np.ones((len(i), 64, 64), np.uint16))
    fields = ScanFile(
        stand_in((n, 64, 64), np.uint16), np.arange(n) * 1.0, np.zeros(n), np.ones((64, 64), np.complex64)
    )
    tracemalloc.start()
    path = write_stream(tmp_path / "large.npz", ScanStream.joined(frames, None, fields))
    stream = open_scan(path)
    write_stream(tmp_path / "again.npz", ScanStream.joined(stream.frames, None, stream.fields))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


def arrays_of(found: ScanFile) -> dict[str, np.ndarray]:
    return {k: v for k, v in vars(found).items() if v is not None and k not in ("metadata", "units")}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_mapped_arrays_outlive_the_call(tmp_path: Path, save: Callable[..., None]) -> None:
    masks = np.random.default_rng(2).random((5, 64, 64)) > 0.1
    save(tmp_path / "a.npz", **(arrays_of(scan()) | {"mask": masks}))
    found = mapped_scan(tmp_path / "a.npz")
    gc.collect(1)  # the young ones: all take seconds late in a long run
    for key, expected in (("diff3d", scan().diff3d), ("Y", scan().Y), ("mask", masks)):
        array = getattr(found, key)
        assert isinstance(array, np.memmap), key
        np.testing.assert_array_equal(array, expected)
    assert type(found.xcoords) is np.ndarray
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    if save is np.savez:
        assert not found.diff3d.flags.writeable


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<u2", ">f4", "<f8", "i8", "u1"])
def test_types_and_orders_are_unpacked_as_they_were_packed(tmp_path: Path, dtype: str, order: str) -> None:
    data = np.asarray(scan().diff3d, dtype, order)
    np.savez_compressed(tmp_path / "a.npz", **(arrays_of(scan()) | {"diff3d": data}))
    member = pattern_member(tmp_path / "a.npz")
    assert member is not None
    assert member.compress_type == zipfile.ZIP_DEFLATED
    assert 0 < member.file_size - data.nbytes < 256
    found = mapped_scan(tmp_path / "a.npz").diff3d
    assert isinstance(found, np.memmap)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, scan().diff3d)


def test_masks_of_several_kinds_are_combined(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    one, each, bad = rng.random((64, 64)) > 0.1, rng.random((5, 64, 64)) > 0.1, rng.random((5, 64, 64)) > 0.9
    cases = [
        ({"mask": one, "bad_pixels": bad}, one & ~bad),
        ({"mask": each, "bad_pixels": bad.astype(np.uint8)}, each & ~bad),
        ({"mask": each, "bad_pixels": bad[0]}, each & ~bad[0]),
        ({"bad_pixels": bad}, ~bad),
        ({"bad_pixels": bad[0]}, ~bad[0]),
    ]
    for fields, expected in cases:
        others = {key: array for key, array in arrays_of(scan()).items() if key != "mask"}
        np.savez(tmp_path / "a.npz", **others, **fields)
        for found in (read_scan(tmp_path / "a.npz").mask, mapped_scan(tmp_path / "a.npz").mask):
            assert found is not None
            assert found.dtype == bool
            np.testing.assert_array_equal(found, expected)


def test_true_patches_of_older_layouts_are_turned_too(tmp_path: Path) -> None:
    truth = scan().Y
    assert truth is not None
    for stored in (np.moveaxis(truth, 0, -1), truth[..., None]):
        np.savez(tmp_path / "a.npz", **(arrays_of(scan()) | {"Y": stored}))
        for found in (read_scan(tmp_path / "a.npz").Y, mapped_scan(tmp_path / "a.npz").Y):
            np.testing.assert_array_equal(found, truth)
