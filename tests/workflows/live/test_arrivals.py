"""Some patterns of a scan that is measured, and all of them in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.formats.assembled import ScanParts, assembled
from ptycho.core.formats.position_table import Positions
from ptycho.core.live.frame_store import FrameStore
from ptycho.core.live.joining import Joined
from ptycho.core.scan.stream import Frames
from ptycho.errors import DataError
from ptycho.raw_data import RawData
from ptycho.workflows.live.arrivals import LiveScan


@pytest.fixture
def store(tmp_path: Path, plain: RawData) -> Iterator[FrameStore]:
    """The frames of the scan, the last one first."""
    with FrameStore(tmp_path / "frames.raw") as made:
        for frame in plain.diff3d[::-1]:
            made.add(frame)
        yield made


@pytest.fixture
def like(tmp_path: Path, plain: RawData) -> Path:
    plain.to_file(tmp_path / "like.npz")
    return tmp_path / "like.npz"


def joined_of(plain: RawData, numbers: np.ndarray, factor: float = 1.0) -> Joined:
    last = len(plain) - 1
    return Joined(numbers, last - numbers, factor * plain.xcoords[numbers], factor * plain.ycoords[numbers])


def test_all_of_it_is_the_scan_sorted_by_number(plain: RawData, store: FrameStore, like: Path, tmp_path: Path) -> None:
    scan = LiveScan(ScanParts(like=like, position_unit="px"), store, lambda: None)
    path = scan.write(joined_of(plain, np.arange(len(plain))), tmp_path / "scan.npz")
    found = RawData.from_file(path)
    np.testing.assert_array_equal(found.diff3d, plain.diff3d)
    np.testing.assert_array_equal(found.xcoords, plain.xcoords)
    np.testing.assert_array_equal(found.probeGuess, plain.probeGuess)
    assert found.units == "counts" and found.objectGuess is None
    with pytest.raises(DataError, match="found none"):
        scan.whole(Joined.none())


def test_positions_in_metres_have_the_same_pixels_whatever_else_is_there(
    plain: RawData, store: FrameStore, like: Path
) -> None:
    """The frame of a whole scan begins at its first pixel, which moves while it grows."""
    parts = ScanParts(like=like, object_pixel_m=2e-8, flip="x", rotation_deg=30.0)
    scan = LiveScan(parts, store, lambda: 1e-6)
    few, all_of_them = (joined_of(plain, np.arange(n), factor=0.02) for n in (20, len(plain)))
    first, whole = scan.some(few), scan.some(all_of_them)
    np.testing.assert_array_equal(first.xcoords, whole.xcoords[:20])
    np.testing.assert_array_equal(first.diff3d, plain.diff3d[:20])
    x, y = scan.pixels(few)
    np.testing.assert_allclose((x, y), (first.xcoords, first.ycoords), rtol=1e-12)
    np.testing.assert_allclose(np.hypot(x, y), np.hypot(plain.xcoords, plain.ycoords)[:20], rtol=1e-9)
    record = assembled(
        ScanParts(
            like=like,
            object_pixel_m=2e-8,
            patterns=Frames.of(plain.diff3d),
            positions=Positions(0.02 * plain.xcoords, 0.02 * plain.ycoords, None, 1e-6),
            flip="x",
            rotation_deg=30.0,
        )
    )
    assert record.xcoords is not None
    np.testing.assert_allclose(np.diff(record.xcoords) / 2e-8, np.diff(whole.xcoords), atol=1e-6)


def test_a_detector_that_is_cropped_is_so_for_all(plain: RawData, store: FrameStore, like: Path) -> None:
    scan = LiveScan(ScanParts(like=like, position_unit="px"), store, lambda: None, crop=24, bin=2)
    few = joined_of(plain, np.arange(5))
    found = scan.some(few)
    assert found.N == 12
    np.testing.assert_allclose(scan.pixels(few)[0], found.xcoords)


def test_a_unit_that_nobody_says_is_asked_for(plain: RawData, store: FrameStore, like: Path) -> None:
    scan = LiveScan(ScanParts(like=like), store, lambda: None)
    with pytest.raises(DataError, match="positions: expected positions with a unit, found x"):
        scan.some(joined_of(plain, np.arange(5)))
