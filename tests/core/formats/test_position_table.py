"""Tables of positions as people have them: with and without names, separators, units, numbers of frames."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.core.formats.position_table import positions_at
from ptycho.errors import DataError, MissingFileError

X, Y = [0.5, 1.5, -2.0], [10.0, 20.0, 30.0]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("x,y\n0.5,10\n1.5,20\n-2,30\n", None),
        ("t,y,x\n9,10,0.5\n9,20,1.5\n9,30,-2\n", None),
        ("t,y,x\n9,10,0.5\n9,20,1.5\n9,30,-2\n", "x,y"),
        ("t,y,x\n9,10,0.5\n9,20,1.5\n9,30,-2\n", "2,1"),
        ("0.5 10\n1.5 20\n -2 30\n", None),
        ("# some text\n# X Y\n0.5\t10\n1.5\t20\n-2\t30\n", "X,Y"),
        ("stage a;stage b\n0.5;10\n1.5;20\n-2;30", "stage a,stage b"),
        ('"x [um]","y [um]"\n0.5,10\n1.5,20\n-2,30', None),
        ("scan of 3 points\n0.5 10 1\n1.5 20 1\n-2 30 1", "0,1"),
        ("\ufeffpos_x,pos_y\n0.5,1e1\n1.5,2e1\n-2,3e1", None),
    ],
)
def test_text(text: str, columns: str | None, tmp_path: Path) -> None:
    (tmp_path / "pos.csv").write_text(text, encoding="utf-8")
    found = positions_at(f"{tmp_path / 'pos.csv'}:{columns}" if columns else str(tmp_path / "pos.csv"))
    assert found.x.tolist() == X
    assert found.y.tolist() == Y
    assert found.frames is None
    assert found.factor == (pytest.approx(1e-6) if "[um]" in text else None)


def test_units_of_a_header(tmp_path: Path) -> None:
    path = tmp_path / "pos.txt"
    path.write_bytes("x_\xb5m,y_\xb5m\n1,2\n".encode("latin-1"))
    assert positions_at(str(path)).factor == pytest.approx(1e-6)
    for header, factor in (("x_mm,y_mm", 1e-3), ("x (nm),y (nm)", 1e-9), ("x_mm,y_nm", None), ("x_um,y", None)):
        path.write_text(f"{header}\n1,2\n")
        assert positions_at(str(path)).factor == (None if factor is None else pytest.approx(factor))


def test_numbers_of_frames(tmp_path: Path) -> None:
    (tmp_path / "pos.csv").write_text("frame,x,y\n4,1,2\n0,3,4\n")
    found = positions_at(f"{tmp_path / 'pos.csv'}:x,y,frame")
    assert found.frames is not None
    assert found.frames.tolist() == [4, 0]
    (tmp_path / "pos.csv").write_text("frame,x,y\n4.5,1,2\n")
    with pytest.raises(DataError, match="whole numbers of frames"):
        positions_at(f"{tmp_path / 'pos.csv'}:x,y,frame")


def test_arrays(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    table = np.array([X, Y]).T
    np.save(tmp_path / "a.npy", table)
    np.save(tmp_path / "turned.npy", np.array([np.arange(5.0), np.arange(5.0) + 1]))
    np.savez(tmp_path / "a.npz", positions=table, px=X, py=Y, image=np.ones((4, 4, 4)))
    scipy_io.savemat(tmp_path / "a.mat", {"px": X, "py": Y})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["p/x"], file["p/y"], file["both"] = X, Y, np.c_[X, Y, X]
        file["both"].attrs["units"] = "micrometer"
    for name in ("a.npy", "a.npy:0,1", "a.npz:positions", "a.npz", "a.npz:px,py", "a.mat:px,py", "a.h5:/p/x,/p/y"):
        found = positions_at(f"{tmp_path}/{name}")
        assert (found.x.tolist(), found.y.tolist(), found.factor) == (X, Y, None)
    found = positions_at(f"{tmp_path}/a.h5:both")
    assert (found.x.tolist(), found.y.tolist(), found.factor) == (X, Y, pytest.approx(1e-6))
    assert positions_at(f"{tmp_path}/a.npy:1,0").x.tolist() == Y
    assert positions_at(f"{tmp_path}/turned.npy").y.tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("a,b,c\n1,2,3\n", "", "which columns are x and y, found a, b, c; name them, FILE:X,Y"),
        ("1 2 3\n", "", "found 3 columns without names"),
        ("a,b\n1,2\n", ":x,y", "expected columns x,y as X,Y or X,Y,FRAME, found a, b"),
        ("1,2\n", ":0,5", "expected columns 0,5"),
        ("1,2\n", ":0", "expected columns 0 as X,Y"),
        ("1,2\n3,four\n", "", "expected numbers in columns"),
        ("words only\n", "", "expected a table with numbers, found none"),
        ("", "", "expected a table with numbers, found none"),
    ],
)
def test_what_is_wrong_is_named(text: str, columns: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "pos.csv").write_text(text)
    with pytest.raises(DataError, match=words) as error:
        positions_at(f"{tmp_path}/pos.csv{columns}")
    assert str(error.value).startswith(str(tmp_path / "pos.csv"))
    assert "\n" not in str(error.value)
    with pytest.raises(MissingFileError, match="gone"):
        positions_at(f"{tmp_path}/gone.csv:x,y")
