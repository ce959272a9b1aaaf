"""Marks of dead pixels become the mask, what a background leaves below 0 is kept and said; the rest stays an error."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.doctor import examine
from ptycho.core.doctor.statistics import gather
from ptycho.core.formats.opening import load_scan, open_scan
from ptycho.core.scan.detector_values import counts_of
from ptycho.core.scan.npz_file import ScanFile, write_scan
from ptycho.core.scan.stream import Frames
from ptycho.errors import DataError

N, n = 64, 40


@pytest.fixture
def scan(rng: np.random.Generator) -> ScanFile:
    """40 patterns of some 30 counts a pixel in the middle, dark elsewhere."""
    lit = np.zeros((N, N))
    lit[20:44, 20:44] = 30
    x = np.arange(float(n))
    probe = np.full((N, N), 1 + 1j, np.complex64)
    return ScanFile(rng.poisson(lit, (n, N, N)).astype(np.uint32), x + 32, x + 40, probe, units="counts")


@pytest.mark.parametrize(("dtype", "mark"), [(np.uint32, 2**32 - 1), (np.uint16, 2**16 - 1), (np.int32, -1)])
def test_marked_pixels_are_masked_and_said(
    dtype: type, mark: int, scan: ScanFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    patterns = scan.diff3d.astype(dtype)
    patterns[:, 30, 7] = patterns[:, :, 50] = mark
    write_scan(tmp_path / "a.npz", replace(scan, diff3d=patterns))
    expected = np.ones((N, N), bool)
    expected[30, 7] = expected[:, 50] = False
    for memory_map in ("never", "always"):
        with caplog.at_level(logging.WARNING):
            found = load_scan(tmp_path / "a.npz", memory_map=memory_map)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.mask, expected)
        np.testing.assert_array_equal(found.diff3d, patterns)
    assert f"patterns: 65 pixels hold {mark}, marks of no count: masked" in caplog.messages
    np.testing.assert_array_equal(open_scan(tmp_path / "a.npz").fields.mask, expected)


def test_a_full_counter_of_16_bits_is_no_mark(scan: ScanFile) -> None:
    """In some patterns 65535 is the beam; 2^32 - 1 is never a count."""
    patterns = scan.diff3d.copy()
    patterns[3, 30, 30] = 65535
    assert counts_of(Frames.of(patterns.astype(np.uint16)), None, None).mask is None
    patterns[0, 5, 6] = 2**32 - 1
    found = counts_of(Frames.of(patterns.astype(np.float64)), None, None)
    assert found.mask is not None
    assert np.argwhere(~found.mask).tolist() == [[5, 6]]


def test_a_mask_of_its_own_is_kept(scan: ScanFile) -> None:
    patterns = scan.diff3d.copy()
    patterns[:, 1, 2] = 2**32 - 1
    for shape in ((N, N), (n, N, N)):
        mask = np.ones(shape, bool)
        mask[..., 9, 9] = False
        found = counts_of(Frames.of(patterns), mask, "counts").mask
        assert found is not None
        assert found.shape == shape
        assert not found[..., 1, 2].any()
        assert (~found).sum() == 2 * found.size // N**2
        mask[..., 1, 2] = False
        assert counts_of(Frames.of(patterns), mask, "counts").sentences == ()


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_what_a_background_leaves_is_kept_and_said(
    dtype: type, scan: ScanFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    patterns = scan.diff3d.astype(dtype)
    patterns[::3, 0, :5] = -2
    write_scan(tmp_path / "a.npz", replace(scan, diff3d=patterns))
    for memory_map in ("never", "always"):
        with caplog.at_level(logging.WARNING):
            found = load_scan(tmp_path / "a.npz", memory_map=memory_map)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.diff3d, patterns)
    assert "values looked at are below 0, down to -2 (maximum" in caplog.text
    stream = open_scan(tmp_path / "a.npz")
    np.testing.assert_array_equal(stream.frames.whole(), patterns)
    finding = examine(stream, False).named("numbers")
    assert finding.severity == "note" and "down to -2, as after a background is subtracted" in finding.sentence
    assert not gather(stream).unusable.any()


def test_negative_values_that_no_background_explains(scan: ScanFile, tmp_path: Path) -> None:
    """As many as half of the pixels, as deep as the light; and amplitudes."""
    patterns = scan.diff3d.astype(np.float32)
    few = patterns.copy()
    few[:, 0, 0] = -2
    patterns[:, :, 32:] = -30
    for content, units in ((patterns, "counts"), (few, "amplitude")):
        write_scan(tmp_path / "a.npz", replace(scan, diff3d=content, units=units))
        with pytest.raises(DataError, match="negative values"):
            load_scan(tmp_path / "a.npz")
    faint = np.where(scan.diff3d == 0, -0.2, scan.diff3d)
    assert counts_of(Frames.of(faint), None, None).sentences


def test_the_doctor_takes_marks_for_no_light(scan: ScanFile, tmp_path: Path) -> None:
    """A mask that hides 2^32 - 1 is not inverted."""
    patterns = scan.diff3d.copy()
    patterns[:, :, 50] = 2**32 - 1
    write_scan(tmp_path / "a.npz", replace(scan, diff3d=patterns))
    sentences = {finding.name: finding for finding in examine(open_scan(tmp_path / "a.npz"), False).findings}
    assert sentences["mask"].severity == "ok"


def test_a_mark_or_a_negative_count_in_one_pattern_is_seen(scan: ScanFile, tmp_path: Path) -> None:
    """It is none of the 32 that are looked at first: whatever reads all of them finds it."""
    unseen = np.setdiff1d(np.arange(n), np.linspace(0, n - 1, 32).round())[0]
    for value, words in ((2**32 - 1, "1 are 4294967295"), (-5, "1 are negative")):
        patterns = scan.diff3d.astype(np.int64)
        patterns[unseen, 30, 31] = value
        assert not counts_of(Frames.of(patterns), None, "counts").sentences
        write_scan(tmp_path / "a.npz", replace(scan, diff3d=patterns))
        stream = open_scan(tmp_path / "a.npz")
        found = examine(stream, False).named("numbers")
        assert found.severity == "fault"
        assert words in found.sentence
        unusable = gather(stream)
        assert np.argwhere(unusable.unusable).tolist() == [[30, 31]]
        assert unusable.mean.max() < 40
        with pytest.raises(DataError, match="ptycho dataset mask SCAN -o OUT --invalid"):
            load_scan(tmp_path / "a.npz")
