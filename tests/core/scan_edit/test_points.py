"""Scans made from scans: what is kept, and that object times probe still predicts the patterns."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.probes import gaussian_probe, zone_plate_probe
from ptycho.core.quality.metrics import relative_fourier_error
from ptycho.core.quality.orientation import Orientation
from ptycho.core.scan.scan import ScanFile, check_shapes
from ptycho.core.scan.stream import ScanStream
from ptycho.core.scan_edit.detector import bin_detector, crop_detector, mask_pixels, recentre, turn_detector
from ptycho.core.scan_edit.points import (
    change_dtype,
    merge,
    move_positions,
    split_by_position,
    subsample,
    subset,
    turned_positions,
)
from ptycho.core.simulation.objects import make_object
from ptycho.core.simulation.plan import simulate_scan
from ptycho.core.simulation.scan_paths import raster_positions
from ptycho.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def scan() -> ScanFile:
    object = make_object("smooth", (100, 100), np.random.default_rng(4))
    x, y = raster_positions((100, 100), 32, 9, 2, np.random.default_rng(5))
    probe = zone_plate_probe(32, pupil_radius=7, defocus=1.3)  # its far field leaves room to crop
    made = simulate_scan(object, probe, x, y, 1e9, np.random.default_rng(6))
    return ScanFile(
        diff3d=made.diffraction,
        xcoords=made.xcoords,
        ycoords=made.ycoords,
        probeGuess=made.probe,
        xcoords_start=made.xcoords + 0.25,
        ycoords_start=made.ycoords,
        scan_index=np.zeros(len(made.xcoords), np.int64),
        objectGuess=made.object,
        Y=extract_rounded(made.object, made.xcoords, made.ycoords, 32)[0],
        units="amplitude",
    )


@pytest.fixture(scope="module")
def stream(scan: ScanFile) -> ScanStream:
    return ScanStream.of(scan)


def misfit(made: ScanStream) -> float:
    """Relative Fourier error of the scan's own object and probe."""
    s = made.scan()
    check_shapes(s)
    assert s.objectGuess is not None
    patches, dx, dy = extract_rounded(s.objectGuess, s.xcoords, s.ycoords, s.diff3d.shape[-1])
    measured = np.sqrt(s.diff3d) if s.units == "counts" else s.diff3d
    return relative_fourier_error(np.sqrt(diffract(s.probeGuess, patches, dx, dy)), measured.astype(float), s.mask)


def test_the_scan_itself_fits(stream: ScanStream) -> None:
    assert misfit(stream) < 1e-5


def test_a_subset_keeps_everything_that_belongs_to_a_point(scan: ScanFile) -> None:
    mask = np.arange(len(scan.xcoords))[:, None, None] * np.ones((1, 32, 32)) > 3
    part = subset(ScanStream.of(replace(scan, mask=mask)), np.array([7, 2])).scan()
    for key in ("diff3d", "xcoords", "ycoords", "xcoords_start", "ycoords_start", "scan_index", "Y"):
        np.testing.assert_array_equal(getattr(part, key), getattr(scan, key)[[7, 2]], err_msg=key)
    assert part.mask is not None
    assert part.mask[0].all()
    assert not part.mask[1].any()
    with pytest.raises(DataError, match="found none"):
        subset(ScanStream.of(scan), np.array([], np.intp))


def test_the_numbers_of_the_scan_points_follow_them(stream: ScanStream) -> None:
    known = {"indexes": list(range(5, 5 + len(stream.frames))), "nphotons": 3}
    given = replace(stream, fields=replace(stream.fields, metadata=known))
    assert subset(given, np.array([4, 0])).fields.metadata == {"indexes": [9, 5], "nphotons": 3}


def test_a_subsample_is_drawn_from_a_seed(stream: ScanStream) -> None:
    drawn = [subsample(stream, n=9, seed=seed).fields.xcoords for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert len(subsample(stream, n=10**6).frames) == len(stream.frames)
    np.testing.assert_array_equal(subsample(stream, every=20).fields.xcoords, stream.fields.xcoords[::20])
    for wrong in ({}, {"n": 1, "every": 1}, {"n": 0}):
        with pytest.raises(ConfigError, match="subsample: expected"):
            subsample(stream, **wrong)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_training_and_test_part_lie_side_by_side(stream: ScanStream, axis: str) -> None:
    train, test = split_by_position(stream, 0.25, axis, gap=6.0)
    coords = [getattr(part.fields, f"{axis}coords") for part in (train, test)]
    assert len(test.frames) == round(0.25 * len(stream.frames))
    assert coords[0].max() <= coords[1].min() - 6.0
    together, other = split_by_position(stream, 0.25, axis)
    assert len(together.frames) + len(other.frames) == len(stream.frames)
    with pytest.raises(ConfigError, match=r"fraction=1\.0"):
        split_by_position(stream, 1.0)
    with pytest.raises(DataError, match="found 0 of"):
        split_by_position(stream, 0.001)


def test_a_cropped_detector_sees_the_same_object_in_larger_pixels(stream: ScanStream) -> None:
    made = crop_detector(stream, 24)
    assert made.frames.shape[1:] == (24, 24)
    np.testing.assert_allclose(made.fields.xcoords, stream.fields.xcoords * 0.75)
    assert made.fields.objectGuess is not None
    assert made.fields.objectGuess.shape == (75, 75)
    np.testing.assert_array_equal(made.scan().diff3d, stream.scan().diff3d[:, 4:28, 4:28])
    # what the crop cuts off of the far field, and the rounding of positions to other pixels, remain
    off = replace(made, fields=replace(made.fields, xcoords=made.fields.xcoords + 0.5))
    assert misfit(made) < 2e-4
    assert misfit(off) > 2 * misfit(made)
    with pytest.raises(ConfigError, match="found 33"):
        crop_detector(stream, 33)


def test_binned_pixels_hold_the_sum_of_the_intensity(stream: ScanStream) -> None:
    made = bin_detector(stream, 2, "amplitude")
    before, after = stream.scan().diff3d.astype(float), made.scan().diff3d.astype(float)
    np.testing.assert_allclose(after[:, 1, 2] ** 2, (before[:, 2:4, 4:6] ** 2).sum(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose((after**2).sum(), (before**2).sum(), rtol=1e-5)
    assert made.fields.probeGuess.shape == (16, 16)
    counts = ScanStream.of(replace(stream.scan(), diff3d=np.full(before.shape, 60000, np.uint16), units="counts"))
    assert bin_detector(counts, 4, "counts").frames.dtype == np.uint32
    assert np.all(bin_detector(counts, 4, "counts").scan().diff3d == 16 * 60000)
    with pytest.raises(ConfigError, match="found 3"):
        bin_detector(stream, 3, "amplitude")


def test_binning_keeps_object_and_probe_together() -> None:
    """A probe of an eighth of the window: what the bins average over is small."""
    object = make_object("smooth", (100, 100), np.random.default_rng(4))
    x, y = raster_positions((100, 100), 64, 9, 2, np.random.default_rng(5))
    fine = simulate_scan(object, gaussian_probe(64, 6), x, y, 1e9, np.random.default_rng(0))
    stream = ScanStream.of(
        ScanFile(fine.diffraction, fine.xcoords, fine.ycoords, fine.probe, objectGuess=fine.object, units="amplitude")
    )
    binned = bin_detector(stream, 2, "amplitude")
    assert misfit(binned) < 2e-3
    flat = replace(binned.fields, probeGuess=np.abs(binned.fields.probeGuess) + 0j)  # without the ramp
    assert misfit(replace(binned, fields=flat)) > 2 * misfit(binned)


def test_the_geometry_in_the_metadata_follows_the_detector(stream: ScanStream) -> None:
    """Wavelength times distance over (N times detector pixel) stays the pixel of the object."""
    known = {"detector_pixel_size_m": 75e-6, "object_pixel_size_m": 2e-8, "origin_px": [-6.0, 10.0], "nphotons": 5}
    given = replace(stream, fields=replace(stream.fields, metadata=known))
    N = stream.frames.shape[-1]
    cropped = crop_detector(given, N // 2).fields.metadata
    assert cropped == {**known, "object_pixel_size_m": pytest.approx(4e-8), "origin_px": [-3.0, 5.0]}
    binned = bin_detector(given, 2, "amplitude").fields.metadata
    assert binned == {**known, "detector_pixel_size_m": pytest.approx(150e-6)}
    assert crop_detector(stream, N // 2).fields.metadata == stream.fields.metadata


def test_patterns_move_to_the_centre(stream: ScanStream) -> None:
    off = ScanStream.of(replace(stream.scan(), diff3d=np.roll(stream.scan().diff3d, (3, -2), (1, 2))))
    made = recentre(off, -3, 2).scan()
    assert made.mask is not None
    assert (~made.mask).sum() == 32 * 32 - 29 * 30
    np.testing.assert_array_equal(made.diff3d[:, made.mask], stream.scan().diff3d[:, made.mask])
    assert not made.diff3d[:, ~made.mask].any()
    corner = ScanStream.of(replace(stream.scan(), diff3d=np.fft.ifftshift(stream.scan().diff3d, axes=(1, 2))))
    whole = recentre(corner, 16, 16).scan()
    assert whole.mask is None
    np.testing.assert_array_equal(whole.diff3d, stream.scan().diff3d)
    with pytest.raises(ConfigError, match=r"found \(32, 0\)"):
        recentre(stream, 32, 0)


def test_bad_pixels_are_marked_and_emptied(stream: ScanStream) -> None:
    bad = np.zeros((32, 32), bool)
    bad[3, 4] = True
    made = mask_pixels(mask_pixels(stream, bad), bad.T).scan()
    assert made.mask is not None
    assert sorted(map(tuple, np.argwhere(~made.mask).tolist())) == [(3, 4), (4, 3)]
    assert not made.diff3d[:, ~made.mask].any()
    for wrong, words in ((bad[1:], "found \\(31, 32\\)"), (np.ones((32, 32), bool), "found none")):
        with pytest.raises(DataError, match=words):
            mask_pixels(stream, wrong)


def test_turning_back_undoes_turning(stream: ScanStream) -> None:
    there, back = Orientation(True, False, True), Orientation(True, True, False)
    made = turn_detector(turn_detector(stream, there), back)
    np.testing.assert_array_equal(made.scan().diff3d, stream.scan().diff3d)
    assert misfit(turn_detector(stream, there)) > 1e-3


def test_types_change_and_refuse_what_does_not_fit(stream: ScanStream) -> None:
    made = change_dtype(stream, "uint32").scan()
    np.testing.assert_array_equal(made.diff3d, np.rint(stream.scan().diff3d))
    assert change_dtype(stream, np.float16).frames.dtype == np.float16
    with pytest.raises(DataError, match="uint8 can hold, found"):
        change_dtype(stream, "uint8").scan()
    with pytest.raises(ConfigError, match="complex64"):
        change_dtype(stream, "complex64")


def test_merged_scans_follow_each_other(scan: ScanFile) -> None:
    mask = np.ones((32, 32), bool)
    mask[0] = False
    first, second = ScanStream.of(scan), ScanStream.of(replace(scan, mask=mask, diff3d=scan.diff3d.astype(np.float64)))
    n = len(scan.xcoords)
    made = merge([first, second]).scan()
    assert made.diff3d.dtype == np.float64
    np.testing.assert_array_equal(made.diff3d, np.concatenate([scan.diff3d, scan.diff3d]))
    np.testing.assert_array_equal(made.scan_index, np.repeat([0, 1], n))
    assert made.mask is not None
    assert made.mask[:n].all()
    np.testing.assert_array_equal(made.mask[n], mask)
    assert made.objectGuess is scan.objectGuess
    np.testing.assert_array_equal(merge([first, second]).frames.read(np.array([n + 1, 0])), scan.diff3d[[1, 0]])
    assert misfit(merge([first, first])) < 1e-5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"probeGuess": 1}, "differ by 100 %"),
        ({"units": "counts"}, "units amplitude in scan 1 and counts in scan 2"),
        ({"diff3d": 1, "Y": None}, r"patterns \(32, 32\) in scan 1 and \(16, 16\) in scan 2"),
    ],
)
def test_scans_that_differ_are_not_merged(scan: ScanFile, change: dict, words: str) -> None:
    if "probeGuess" in change:
        change = {"probeGuess": 2 * scan.probeGuess}
    if "diff3d" in change:
        change = {**change, "diff3d": scan.diff3d[:, :16, :16], "probeGuess": scan.probeGuess[:16, :16]}
    with pytest.raises(DataError, match=words):
        merge([ScanStream.of(scan), ScanStream.of(replace(scan, **change))])
    with pytest.raises(DataError, match="found 1"):
        merge([ScanStream.of(scan)])


def test_a_scan_without_a_probe_is_changed_like_others(scan: ScanFile) -> None:
    bare = ScanStream.of(replace(scan, probeGuess=None))
    made = (crop_detector(bare, 16), bin_detector(bare, 2, "amplitude"), merge([bare, bare]), recentre(bare, 1, 2))
    assert [stream.fields.probeGuess for stream in made] == [None] * 4
    with pytest.raises(DataError, match="found probe None in scan 1"):
        merge([bare, ScanStream.of(scan)])


def test_patterns_that_are_not_square_are_binned_moved_and_flipped(scan: ScanFile) -> None:
    """Of the probe's own sides, or of a part of the detector that a square probe belongs to."""
    N = scan.diff3d.shape[-1]
    wide = replace(scan, diff3d=scan.diff3d[:, N // 4 : -N // 4], mask=None)
    binned = bin_detector(ScanStream.of(wide), 2, "amplitude").scan()
    whole = bin_detector(ScanStream.of(scan), 2, "amplitude").scan()
    np.testing.assert_array_equal(binned.diff3d, whole.diff3d[:, N // 8 : -N // 8])
    np.testing.assert_array_equal(binned.probeGuess, whole.probeGuess)
    moved = recentre(ScanStream.of(wide), 3, -2).scan()
    np.testing.assert_array_equal(moved.diff3d[:, 3:, :-2], wide.diff3d[:, :-3, 2:])
    assert moved.mask is not None and moved.mask.sum() == (N // 2 - 3) * (N - 2)
    there = Orientation(False, True, True)
    turned = turn_detector(ScanStream.of(wide), there)
    assert turned.frames.shape == (len(scan.diff3d), N // 2, N)
    np.testing.assert_array_equal(turn_detector(turned, there).scan().diff3d, wide.diff3d)
    with pytest.raises(DataError, match=f"square patterns to exchange the axes of, found {N // 2} x {N}"):
        turn_detector(turned, Orientation(True, False, False))


def test_patterns_from_the_corner_are_rolled(stream: ScanStream) -> None:
    corner = recentre(stream, 16, 16)
    shifted = replace(corner, frames=corner.frames.map(lambda v: np.roll(v, (-1, 2), (1, 2)), None, np.float32))
    made = recentre(shifted, 17, 14).scan()
    np.testing.assert_array_equal(made.diff3d, stream.scan().diff3d)


@pytest.mark.parametrize("turn", [(True, False, False), (False, True, True), (True, True, True), (False, False, False)])
def test_turned_positions_by_hand(scan: ScanFile, turn: tuple[bool, bool, bool]) -> None:
    """Signs first, then x and y exchanged; at the starts too."""
    flip_x, flip_y, transpose = turn
    found = turned_positions(scan, flip_x=flip_x, flip_y=flip_y, transpose=transpose)
    for end in ("", "_start"):
        x, y = getattr(scan, f"xcoords{end}"), getattr(scan, f"ycoords{end}")
        expected = (-x if flip_x else x, -y if flip_y else y)
        ours = getattr(found, f"xcoords{end}"), getattr(found, f"ycoords{end}")
        np.testing.assert_array_equal(ours, expected[::-1] if transpose else expected)
    assert found.diff3d is scan.diff3d
    assert (found.objectGuess is None) == any(turn)


def test_wrong_axes_are_put_right_again(scan: ScanFile) -> None:
    """A scan whose x counts the other way explains its patterns when it is flipped, and not before."""
    wrong = replace(scan, xcoords=100 - scan.xcoords)
    right = turned_positions(wrong, flip_x=True)
    mirrored = 100 + right.xcoords
    np.testing.assert_allclose(mirrored, scan.xcoords, atol=1e-12)
    errors = []
    for x in (wrong.xcoords, mirrored):
        patches, dx, dy = extract_rounded(scan.objectGuess, x, scan.ycoords, 32)
        predicted = np.sqrt(diffract(scan.probeGuess, patches, dx, dy))
        errors.append(relative_fourier_error(predicted, scan.diff3d, np.ones(scan.diff3d.shape, bool)))
    assert errors[1] < 1e-3 < errors[0]


@pytest.mark.parametrize(
    ("frames", "patterns", "places"),
    [(1, [0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 6, 7, 8]), (-1, None, [0, 1, 2, 3, 4, 4, 5, 6, 7])],
)
def test_positions_move_from_a_pattern_on(scan: ScanFile, frames: int, patterns: list[int], places: list[int]) -> None:
    few = subset(ScanStream.of(scan), np.arange(9))
    made = move_positions(few, frames=frames, first=5)
    np.testing.assert_array_equal(made.fields.xcoords, few.fields.xcoords[places])
    kept = np.arange(9) if patterns is None else patterns
    np.testing.assert_array_equal(made.frames.read(np.arange(len(made.frames))), few.frames.read(np.asarray(kept)))
    with pytest.raises(ConfigError, match="expected a first and a last pattern from 0 to 8, found 9"):
        move_positions(few, frames=1, first=9)
