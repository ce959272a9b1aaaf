"""Patterns of one file meet positions of another by index."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.formats.merging import merged
from ptycho.core.formats.record import ScanRecord, check_record, completed, in_counts
from ptycho.core.formats.registry import read, write
from ptycho.core.scan.stream import Frames
from ptycho.errors import DataError


def patterns_only(*indexes: int) -> ScanRecord:
    """Each pattern is full of its index."""
    frames = np.array(indexes)[:, None, None] * np.ones((4, 4), np.int64)
    return ScanRecord(patterns=Frames.of(frames), units="counts", indexes=np.array(indexes))


def positions_only(*indexes: int) -> ScanRecord:
    """Each position is ten times its index."""
    return ScanRecord(xcoords=np.array(indexes) * 10.0, ycoords=np.array(indexes) * -10.0, indexes=np.array(indexes))


@pytest.mark.parametrize("swapped", [False, True])
def test_points_without_a_partner_are_dropped_and_patterns_keep_their_order(swapped: bool) -> None:
    parts = [patterns_only(5, 1, 3, 7), positions_only(1, 2, 3, 5)]
    both = merged(*reversed(parts)) if swapped else merged(*parts)
    assert both.patterns is not None
    assert both.patterns.read(np.arange(3))[:, 0, 0].tolist() == [5, 1, 3]
    assert both.xcoords is not None
    assert both.xcoords.tolist() == [50, 10, 30]
    assert both.indexes is not None
    assert both.indexes.tolist() == [5, 1, 3]


def test_files_of_ptychodus_meet(golden: Path) -> None:
    both = merged(read(golden / "diffraction.h5"), read(golden / "product.h5"))
    assert both.patterns is not None
    assert both.patterns.read(np.arange(3))[:, 0, 0].tolist() == [0, 100, 300]
    np.testing.assert_allclose(both.xcoords, [4.0, 10.5, 11.0], atol=1e-12)  # type: ignore[arg-type]
    assert both.position_unit == "px"
    assert both.mask is not None
    assert both.object is not None


def test_the_second_file_counts_where_both_speak(golden: Path) -> None:
    both = merged(read(golden / "scan.cxi"), read(golden / "product.h5"))
    assert both.position_unit == "px"
    np.testing.assert_allclose(both.xcoords, [4.0, 10.5, 4.25, 11.0], atol=1e-12)  # type: ignore[arg-type]
    other = merged(read(golden / "product.h5"), read(golden / "scan.cxi"))
    assert other.position_unit == "m"
    assert other.metadata == {"name": "star", "comments": "by hand"}


def test_a_mask_of_every_pattern_goes_with_them() -> None:
    mask = np.ones((3, 4, 4), bool)
    mask[2, 1, 1] = False
    both = merged(replace(patterns_only(0, 1, 2), mask=mask), positions_only(0, 2))
    assert both.mask is not None
    assert np.argwhere(~both.mask).tolist() == [[1, 1, 1]]


def test_indexes_that_say_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="every one once, found 0 4 times"):
        merged(patterns_only(0, 1, 2, 3), positions_only(0, 0, 0, 0))
    with pytest.raises(DataError, match="common indexes, found none"):
        merged(patterns_only(0, 1), positions_only(8, 9))


def test_parts_have_to_fit() -> None:
    with pytest.raises(
        DataError, match=r"as many patterns as positions, found 2 and 1: pattern 1 .* without a position"
    ):
        check_record(replace(patterns_only(0, 1), indexes=None, xcoords=np.zeros(1), ycoords=np.zeros(1)))
    with pytest.raises(DataError, match=r"probeGuess: expected \(4, 4\) or .*, found \(1, 5, 5\)"):
        check_record(replace(patterns_only(0), probe=np.ones((1, 5, 5))))
    with pytest.raises(DataError, match=r"found 2 and 5: positions 2 to 4 \(counted from 0\) without a pattern"):
        check_record(replace(patterns_only(0, 1), indexes=None, xcoords=np.zeros(5), ycoords=np.zeros(5)))


def test_patterns_need_not_be_square(tmp_path: Path) -> None:
    """The longer side is that of the probe, and by it an object pixel is counted; masks have the shape of a frame."""
    frames = Frames.of(np.arange(2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5))
    record = ScanRecord(patterns=frames, units="amplitude", mask=np.ones((3, 5), bool), probe=np.ones((1, 5, 5)))
    assert record.side == 5
    np.testing.assert_array_equal(in_counts(record).whole(), frames.whole() ** 2)
    with pytest.raises(DataError, match=r"mask: expected shape \(3, 5\) or \(2, 3, 5\), found \(5, 5\)"):
        replace(record, mask=np.ones((5, 5), bool))
    with pytest.raises(DataError, match=r"probeGuess: expected \(5, 5\) or .*, found \(1, 3, 3\)"):
        check_record(replace(record, probe=np.ones((1, 3, 3))))
    whole = replace(
        record,
        **{name: np.array([0.0, 1e-6]) for name in ("xcoords", "ycoords")},  # type: ignore[arg-type]
        position_unit="m",
        energy_eV=8e3,
        distance_m=1.0,
        detector_pixel_m=1e-4,
    )
    assert completed(whole).object_pixel_m == pytest.approx(1.5498026e-10 / (5 * 1e-4), rel=1e-7)
    for name in ("a.cxi", "a.ptyd", "a.nxs"):
        write(tmp_path / name, whole)
        back = read(tmp_path / name)
        assert back.patterns is not None
        np.testing.assert_array_equal(back.patterns.whole(), frames.whole() ** 2)
