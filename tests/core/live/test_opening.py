"""What a name on the command line stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptycho.core.live.frame_file import FrameFile
from ptycho.core.live.frame_folder import FrameFolder
from ptycho.core.live.opening import open_source
from ptycho.core.live.position_feed import PositionSets, PositionTables
from ptycho.errors import MissingFileError


def test_a_folder_has_frames_and_tables_whether_it_is_there_yet_or_not(tmp_path: Path) -> None:
    frames, positions = open_source(str(tmp_path / "feed"))
    assert isinstance(frames, FrameFolder) and isinstance(positions, PositionTables)
    assert frames.folder == positions.path == tmp_path / "feed"
    _, positions = open_source(str(tmp_path / "feed"), f"{tmp_path}/log.csv:sx, sy,n")
    assert isinstance(positions, PositionTables) and positions.path == tmp_path / "log.csv"
    assert positions.chosen == ["sx", "sy", "n"]


def test_a_file_has_data_sets_and_is_opened_once(tmp_path: Path) -> None:
    frames, positions = open_source(f"{tmp_path}/scan.h5:/entry/data")
    assert isinstance(frames, FrameFile) and isinstance(positions, PositionSets)
    assert frames.inside == "/entry/data" and frames.file is positions.file
    _, positions = open_source(f"{tmp_path}/scan.h5", f"{tmp_path}/stage.h5:/x,/y")
    assert isinstance(positions, PositionSets) and positions.chosen == ["/x", "/y"]
    assert positions.file.path == tmp_path / "stage.h5"


def test_a_folder_that_nothing_can_appear_in_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="none/feed"):
        open_source(str(tmp_path / "none" / "feed"))
