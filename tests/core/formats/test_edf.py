"""EDF images as fabio writes them, and what is said of others."""

from pathlib import Path

import numpy as np
import pytest

from ptycho.core.formats.edf import edf_images, read_edf
from ptycho.errors import DataError

edfimage = pytest.importorskip("fabio.edfimage")
IMAGE = np.array([[0, 1, 2, 3, 250], [5, 6, 7, 8, 9], [100, 110, 120, 130, 140]])


def written(path: Path, *images: np.ndarray) -> Path:
    made = edfimage.EdfImage(data=images[0])
    for image in images[1:]:
        made.append_frame(data=image)
    made.write(str(path))
    return path


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_images_come_back(dtype: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.edf", IMAGE.astype(dtype), (2 * IMAGE).astype(dtype))
    images = edf_images(path)
    assert [image.shape for image in images] == [(3, 5), (3, 5)]
    for image, expected in zip(images, (IMAGE, 2 * IMAGE), strict=True):
        found = read_edf(path, image)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected.astype(dtype))


def test_high_byte_first_and_a_block_without_values(tmp_path: Path) -> None:
    head = b"{\nEDF_DataBlockID = 0.General ;\n}\n"
    head += b"{ Dim_1 = 2 ; Dim_2 = 1 ;DataType=UnsignedShort;ByteOrder = HighByteFirst;}\n"
    (tmp_path / "a.edf").write_bytes(head + b"\x01\x02\x00\x05\n")
    (image,) = edf_images(tmp_path / "a.edf")
    np.testing.assert_array_equal(read_edf(tmp_path / "a.edf", image), [[258, 5]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{ Dim_1 = 4 ; Dim_2 = 2 ; DataType = UnsignedByte ; }\n1234567", "ends early"),
        ("{ Dim_1 = 1000000000000 ; Dim_2 = 1000000 ; DataType = FloatValue ; }\n", "ends early"),
        ("{ Dim_1 = 1 ; DataType = UnsignedByte ; Size = 99 ; }\n1", "ends early"),
        ("{ Dim_1 = 1 ; DataType = UnsignedByte ; }\n1 2", "no header at byte"),
        ("{ Dim_1 = 1 ; DataType = UnsignedByte ; ", "no header at byte 0"),
        ("{ Dim_1 = 0 ; DataType = UnsignedByte ; }\n", "of real numbers"),
        ("{ Dim_1 = 1 ; DataType = Complex ; }\n1", "of real numbers, found Complex"),
        ("{ Dim_1 = 1 ; DataType = UnsignedByte ; COMPRESSION = ZCompression ; }\n1", "found ZCompression"),
        ("{ Dim_1 = 1 ; DataType = UnsignedByte ; EDF_BinaryFileName = /etc/passwd ; }\n", "a reference to another"),
        ("{ HeaderID = 1 ; }\n", "found none"),
    ],
)
def test_damage(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.edf").write_text(text)
    with pytest.raises(DataError, match=words):
        edf_images(tmp_path / "a.edf")
