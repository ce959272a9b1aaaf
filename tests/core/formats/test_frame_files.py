"""Images that the libraries of their formats wrote are read as they were, one file or many."""

from pathlib import Path

import numpy as np
import pytest

from ptycho.core.formats import registry
from ptycho.core.formats.frame_files import file_series, frames_in, joined
from ptycho.core.scan.stream import Frames
from ptycho.errors import DataError

STACK = np.arange(3 * 5 * 7, dtype=np.int32).reshape(3, 5, 7)


def write_edf(path: Path, stack: np.ndarray) -> None:
    edfimage = pytest.importorskip("fabio.edfimage")
    image = edfimage.EdfImage(data=stack[0])
    for frame in stack[1:]:
        image.append_frame(data=frame)
    image.write(str(path))


def write_cbf(path: Path, stack: np.ndarray) -> None:
    pytest.importorskip("fabio.cbfimage").CbfImage(data=stack[0]).write(str(path))


def write_tiff(path: Path, stack: np.ndarray) -> None:
    pytest.importorskip("tifffile").imwrite(path, stack, photometric="minisblack", compression="zlib")


def write_big_tiff(path: Path, stack: np.ndarray) -> None:
    pytest.importorskip("tifffile").imwrite(path, stack, photometric="minisblack", bigtiff=True, byteorder=">")


@pytest.mark.parametrize(
    ("write", "count"), [(write_edf, 3), (write_edf, 1), (write_cbf, 1), (write_tiff, 3), (write_big_tiff, 3)]
)
def test_frames_come_back(write: object, count: int, tmp_path: Path) -> None:
    """The name says nothing: they are known by their content."""
    write(tmp_path / "scan", STACK[:count])  # type: ignore[operator]
    assert registry.recognise(tmp_path / "scan").name == "frames"
    record = registry.read(tmp_path / "scan")
    assert record.patterns is not None
    assert record.units == "counts"
    assert record.patterns.dtype.isnative
    np.testing.assert_array_equal(record.patterns.whole(), STACK[:count])
    np.testing.assert_array_equal(record.patterns.read(np.array([count - 1, 0])), STACK[[count - 1, 0]])


def test_a_series_of_files(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.cbf" for number in range(3)]
    for path, frame in zip(paths, STACK, strict=True):
        write_cbf(path, frame[None])
    np.testing.assert_array_equal(file_series(paths).read(np.array([2, 0])), STACK[[2, 0]])
    write_edf(tmp_path / "two.edf", STACK[:2])
    assert file_series([tmp_path / "two.edf", paths[2]]).shape == (3, 5, 7)
    with pytest.raises(DataError, match=r"two\.edf: expected one frame, as in the first file, found 2"):
        file_series([paths[0], tmp_path / "two.edf"]).whole()
    write_cbf(paths[1], STACK[:, :4])
    with pytest.raises(DataError, match=r"1\.cbf: expected an image \(5, 7\) of real numbers, found \(4, 7\)"):
        file_series(paths).whole()


def test_stacks_in_a_row() -> None:
    both = joined([Frames.of(STACK[:1]), Frames.of(STACK[1:].astype(np.float64))])
    np.testing.assert_array_equal(both.read(np.array([2, 0, 1])), STACK[[2, 0, 1]])
    with pytest.raises(DataError, match=r"frames of one size, found \(4, 7\), \(5, 7\)"):
        joined([Frames.of(STACK), Frames.of(STACK[:, :4])])


def test_images_that_are_none(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "colour.tif", np.zeros((4, 4, 3), np.uint8), photometric="rgb")
    with pytest.raises(DataError, match=r"colour\.tif: expected an image of real numbers, found \(4, 4, 3\)"):
        frames_in(tmp_path / "colour.tif")
    (tmp_path / "a.json").write_text('{"some": "text"}')
    with pytest.raises(DataError, match="expected an image"):
        frames_in(tmp_path / "a.json")
    write_cbf(tmp_path / "half.cbf", STACK)
    write_edf(tmp_path / "half.edf", STACK[:1])
    write_tiff(tmp_path / "half.tif", STACK)
    for path in tmp_path.glob("half.*"):
        whole = path.read_bytes()
        for length in (600, len(whole) - 60):
            path.write_bytes(whole[:length])
            with pytest.raises(DataError, match=rf"{path.name}: expected a whole"):
                frames_in_registry(path)


def frames_in_registry(path: Path) -> np.ndarray:
    patterns = registry.read(path).patterns
    assert patterns is not None
    return patterns.whole()
