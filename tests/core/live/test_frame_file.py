"""Frames of an HDF5 file that is written: as many as are whole, with the numbers beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.core.live.frame_file import FrameFile
from ptycho.core.live.growing_file import GrowingFile
from ptycho.errors import DataError


def test_frames_and_their_numbers_come_as_they_are_written(tmp_path: Path, elsewhere: Callable[[str], None]) -> None:
    path = tmp_path / "scan.h5"
    source = FrameFile(GrowingFile(path))
    assert list(source.news()) == [] and not source.closed
    elsewhere(
        f"file = h5py.File({str(path)!r}, 'w', libver='latest')\n"
        "data = file.create_dataset('entry/data', (0, 8, 9), 'u2', maxshape=(None, 8, 9), chunks=(1, 8, 9))\n"
        "numbers = file.create_dataset('entry/frame', (0,), 'i8', maxshape=(None,), chunks=(8,))\n"
        "file.swmr_mode = True"
    )
    for count, number in enumerate((40, 7), 1):
        elsewhere(f"data.resize({count}, axis=0); data[-1] = {number}; data.flush()")
        assert list(source.news()) == []  # its number is not there yet
        elsewhere(f"numbers.resize({count}, axis=0); numbers[-1] = {number}; numbers.flush()")
        (found,) = source.news()
        assert found[0] == number and found[1].shape == (8, 9) and (found[1] == number).all()
    assert not source.closed
    source.rest()
    source.close()
    elsewhere("file.close()")


def test_without_numbers_the_place_counts_and_of_several_stacks_one_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as writer:
        writer["a"] = np.zeros((2, 8, 8))
        writer["b"] = np.ones((70, 8, 8), np.float32)
        writer["positions"] = np.zeros((2, 3, 2))
    with pytest.raises(DataError, match=r"/a \(2, 8, 8\), /b"):
        list(FrameFile(GrowingFile(tmp_path / "scan.h5")).news())
    found = list(FrameFile(GrowingFile(tmp_path / "scan.h5"), "b").news())
    assert [number for number, _ in found] == list(range(70))
