"""Frames go to a file that grows, and come back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptycho.core.live.frame_store import FrameStore
from ptycho.errors import DataError, OutputError


def test_frames_come_back_in_any_order_while_more_are_added(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 999, (5, 3, 7), np.uint16)
    with FrameStore(tmp_path / "frames.raw") as store:
        for frame in frames[:3]:
            store.add(frame)
        some = store.frames(np.array([2, 0]))
        for frame in frames[3:]:
            store.add(frame)
        assert some.shape == (2, 3, 7) and some.dtype == np.uint16
        np.testing.assert_array_equal(some.whole(), frames[[2, 0]])
        np.testing.assert_array_equal(store.frames(np.arange(5)).whole(), frames)
        assert len(store) == 5
    assert not (tmp_path / "frames.raw").exists()


def test_a_frame_of_another_size_or_type_does_not_join(tmp_path: Path) -> None:
    with FrameStore(tmp_path / "frames.raw") as store:
        assert "complex" in store.fits(np.ones((2, 2), complex))
        store.add(np.ones((2, 3), ">f4"))
        assert store.fits(np.ones((2, 3), np.float16)) == ""
        assert "(3, 2)" in store.fits(np.ones((3, 2), np.float32))
        with pytest.raises(DataError, match="float64"):
            store.add(np.ones((2, 3)))
        store.add(2 * np.ones((2, 3), np.float16))
        np.testing.assert_array_equal(store.frames(np.arange(2)).whole(), [np.ones((2, 3)), 2 * np.ones((2, 3))])


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="none"):
        FrameStore(tmp_path / "none" / "frames.raw")
