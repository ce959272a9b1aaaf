"""Positions that come on their own: whole lines of texts, and data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from ptycho.core.live.growing_file import GrowingFile
from ptycho.core.live.position_feed import PositionSets, PositionTables
from ptycho.errors import DataError


def test_whole_lines_of_a_text_are_read_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "positions.csv"
    source = PositionTables(path)
    assert list(source.news()) == []
    with path.open("w") as text:
        for written, expected in (
            ("# stage of Monday\n", []),
            ("frame, x [um], y [um]\n", []),
            ("7, 0.5, 1.", []),
            ("25\n3, 2", [(7, 0.5, 1.25)]),
            (", -1\n\n# a pause\n4,5,6\n", [(3, 2, -1), (4, 5, 6)]),
            ("x, 5, 6\n5,nan,6\n", []),
        ):
            text.write(written)
            text.flush()
            assert list(source.news()) == expected
    assert source.factor == 1e-6
    assert len(source.troubles) == 1 and "2 lines" in source.troubles[0]


def test_a_text_that_is_written_anew_is_read_anew_and_a_folder_has_several(tmp_path: Path) -> None:
    source = PositionTables(tmp_path, ["2", "1", "0"])
    (tmp_path / "a.txt").write_text("1 2 3\n2 3 4\n")
    (tmp_path / "b.txt").write_text("9 8 7\n")
    (tmp_path / ".c.txt").write_text("6 6 6\n")
    assert sorted(source.news()) == [(1, 3, 2), (2, 4, 3), (9, 7, 8)]
    (tmp_path / "a.txt").write_text("1 2 3\n")
    assert list(source.news()) == [(1, 3, 2)]


@pytest.mark.parametrize(
    ("text", "words"),
    [("x,y\n1,2\n", "number of the frame"), ("1,2,3\n", "3 columns without names"), ("a,b,c\n1,2,3\n", "a, b, c")],
)
def test_a_table_that_does_not_say_which_frame_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        list(PositionTables(tmp_path / "p.csv").news())


def test_tables_in_several_units_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,x_um,y_um\n1,2,3\n")
    (tmp_path / "b.csv").write_text("id,x_mm,y_mm\n2,2,3\n")
    with pytest.raises(DataError, match="unit"):
        list(PositionTables(tmp_path).news())


def test_data_sets_are_found_by_their_names_and_grow(tmp_path: Path, elsewhere: Callable[[str], None]) -> None:
    path = tmp_path / "scan.h5"
    source = PositionSets(GrowingFile(path))
    elsewhere(
        f"file = h5py.File({str(path)!r}, 'w', libver='latest')\n"
        "kinds = dict(x='f8', y='f8', frame='i4')\n"
        "made = [file.create_dataset(f'stage/{name}', (0,), kind, maxshape=(None,), chunks=(4,))"
        " for name, kind in kinds.items()]\n"
        "made[0].attrs['units'] = 'um'\n"
        "file.swmr_mode = True"
    )
    assert list(source.news()) == []
    elsewhere(
        "for count, row in enumerate([(0.5, 1.5, 9), (np.nan, 0.0, 4), (2.0, 3.0, 8)], 1):\n"
        "    for one, value in zip(made, row):\n"
        "        one.resize(count, axis=0); one[-1] = value; one.flush()"
    )
    assert list(source.news()) == [(9, 0.5, 1.5), (8, 2.0, 3.0)]
    assert source.factor == 1e-6 and list(source.news()) == []
    source.rest()
    source.close()
    elsewhere("file.close()")


def test_of_several_pairs_one_is_named_and_without_numbers_the_place_counts(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as writer:
        for group in ("a", "b"):
            for name in ("x", "y"):
                writer[f"{group}/{name}"] = [1.0, 2.0]
    with pytest.raises(DataError, match="/a/x,/a/y; /b/x,/b/y"):
        list(PositionSets(GrowingFile(tmp_path / "scan.h5")).news())
    assert list(PositionSets(GrowingFile(tmp_path / "scan.h5"), ["a/x", "b/y"]).news()) == [(0, 1, 1), (1, 2, 2)]
