"""CBF images as fabio writes them, and what is said of others."""

from pathlib import Path

import numpy as np
import pytest

from ptycho.core.formats.cbf import read_cbf
from ptycho.errors import DataError

cbfimage = pytest.importorskip("fabio.cbfimage")
IMAGE = np.array([[0, 1, -2, 300, 70000, -(2**31)], [5, 5, 5, 127, 128, 2**31 - 1]])


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "uint32"])
def test_an_image_comes_back(dtype: str, tmp_path: Path) -> None:
    limits = np.iinfo(dtype)
    image = np.clip(IMAGE, limits.min, limits.max).astype(dtype)
    cbfimage.CbfImage(data=image).write(str(tmp_path / "a.cbf"))
    found = read_cbf(tmp_path / "a.cbf")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"\x0c\x1a\x04\xd5", b"\x0c\x1a\x04\xd4", "ends early"),
        (b"--CIF-BINARY-FORMAT-SECTION--", b"--CIF-BINARY-FORMAT-SECTIOM--", "ends early"),
        (b"X-Binary-Size: ", b"X-Binary-Size: 9", "ends early"),
        (b"x-CBF_BYTE_OFFSET", b"x-CBF_PACKED_____", "another kind of CBF"),
        (b"Second-Dimension: 2", b"Second-Dimension: 9999999999", "found fewer"),
    ],
)
def test_damage(old: bytes, new: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.cbf"
    cbfimage.CbfImage(data=IMAGE.astype(np.int32)).write(str(path))
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(DataError, match=words):
        read_cbf(path)
