"""A folder that fills: frames by the numbers in their names, read when they are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ptycho.core.live.frame_folder import FrameFolder


def read(source: FrameFolder, looks: int = 2) -> dict[int, Any]:
    return {number: frame for _ in range(looks) for number, frame in source.news()}


def test_numbers_are_those_of_the_names_and_each_is_read_once(tmp_path: Path) -> None:
    source = FrameFolder(tmp_path / "feed")
    assert read(source) == {}  # not there yet
    (tmp_path / "feed").mkdir()
    frames = {number: np.full((2, 3), number, np.float32) for number in (12, 7, 100)}
    for number, frame in frames.items():
        np.save(tmp_path / "feed" / f"scan3_{number:04d}.npy", frame)
    (tmp_path / "feed" / "positions.csv").write_text("frame,x,y\n")
    np.save(tmp_path / "feed" / ".hidden_0001.npy", frames[7])
    found = read(source)
    assert found.keys() == frames.keys()
    assert all((found[number] == frame).all() for number, frame in frames.items())
    assert read(source) == {} and not source.closed and source.troubles == []


def test_a_file_is_left_alone_until_it_is_whole(tmp_path: Path) -> None:
    source, path = FrameFolder(tmp_path), tmp_path / "frame_5.npy"
    np.save(tmp_path / "whole.npy", np.arange(600.0).reshape(20, 30))
    whole = (tmp_path / "whole.npy").read_bytes()
    (tmp_path / "whole.npy").unlink()
    for end in (100, 2000, 3000):
        path.write_bytes(whole[:end])
        assert read(source, 1) == {}
    assert read(source, 2) == {} and source.troubles == []  # at rest, but not whole: later
    path.write_bytes(whole)
    assert read(source, 3)[5].sum() == np.arange(600.0).sum()


def test_what_never_becomes_whole_is_told_once(tmp_path: Path) -> None:
    source = FrameFolder(tmp_path, patience=0.0)
    (tmp_path / "frame_1.npy").write_bytes(b"no array")
    np.save(tmp_path / "nameless.npy", np.ones((2, 2)))
    np.save(tmp_path / "several_2.npy", np.ones((3, 2, 2)))
    assert read(source, 4) == {}
    assert [trouble.split(":")[0].rpartition("/")[2] for trouble in source.troubles] == [
        "frame_1.npy",
        "nameless.npy",
        "several_2.npy",
    ]
    assert "number in its name" in source.troubles[1] and "3 frames" in source.troubles[2]


def test_a_file_of_several_frames_says_their_numbers_itself(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data_000002.h5", "w") as file:
        made = file.create_dataset("entry/data/data", data=np.arange(3 * 64, dtype=np.uint32).reshape(3, 8, 8))
        made.attrs["image_nr_low"] = 1001
    found = read(FrameFolder(tmp_path))
    assert list(found) == [1001, 1002, 1003] and found[1002][0, 0] == 64
