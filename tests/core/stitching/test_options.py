"""What is stitched, with which weight, and which part of the canvas is shown: by hand, and through the stitching."""

import re
from typing import Any

import numpy as np
import pytest

from ptycho.config.options import NEUTRAL_STITCHING, StitchOptions
from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.probes import gaussian_probe
from ptycho.core.stitching.options import lay_out, patch_weight, result_frames
from ptycho.core.stitching.stitch import central_weight, probe_weight, reassemble_position, stitch, stitch_variants
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.networks.stitch_scan import StitchedObject, stitch_scan

N = 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patch_weighting": "central"}, "patch_weighting='central': expected one of probe, uniform"),
        ({"middle_trim": -1}, "middle_trim=-1: expected a whole number at least 0"),
        ({"window": -2}, "window=-2: expected a whole number at least 0"),
    ],
)
def test_values_that_an_option_may_not_hold(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        StitchOptions(**values)


def test_weights_by_hand() -> None:
    probe = np.zeros((2, 2, 2), complex)
    probe[0, 0, 1], probe[1, 0, 1], probe[1, 1, 0] = 3, 4j, 1
    assert patch_weight(probe, NEUTRAL_STITCHING).tolist() == [[0, 25], [1, 0]]
    assert patch_weight(probe, StitchOptions("uniform")).tolist() == [[1, 1], [1, 1]]
    assert [StitchOptions(middle_trim=M).middle(8) for M in (0, 1, 7, 8, 20)] == [None, 1, 7, None, None]


# The middle of each patch


def test_two_patches_meet_by_their_middles_alone() -> None:
    """Patches of 1 and 3, two pixels apart: half and half where both reach; their middles of 2 do not overlap."""
    patches = np.stack([np.full((N, N), 1 + 0j), np.full((N, N), 3 + 0j)])
    x, y = np.array([4.0, 6.0]), np.array([4.0, 4.0])
    frame = object_frame(x, y, N)
    assert frame == ObjectFrame(8, 10, 0, 0)
    (whole,) = stitch_variants(patches, x, y, np.ones((N, N)), frame, [None])
    assert whole.object[4].real.tolist() == [1, 1, 2, 2, 2, 2, 2, 2, 3, 3]
    (middle,) = stitch_variants(patches, x, y, np.ones((N, N)), frame, [None], 2)
    assert middle.object[4].real.tolist() == [1, 1, 1, 1, 1, 3, 3, 1, 1, 1]
    assert middle.coverage[4].tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0, 0]
    assert middle.coverage.sum() == 8 and np.isnan(middle.spread).all()


def test_holes_between_the_middles_are_filled_from_whole_patches() -> None:
    patches = np.stack([np.full((N, N), 1 + 0j), np.full((N, N), 3 + 0j)])
    x, y = np.array([4.0, 8.0]), np.array([4.0, 4.0])
    frame = object_frame(x, y, N)
    (found,) = stitch_variants(patches, x, y, np.ones((N, N)), frame, [None], 2)
    # middles at 3, 4 and 7, 8; between them both whole patches count, outside of them nothing is made up
    assert found.object[4].real.tolist() == [1, 1, 1, 1, 1, 2, 2, 3, 3, 1, 1, 1]
    assert found.coverage[4].tolist() == [0, 0, 0, 1, 1, 2, 2, 1, 1, 0, 0, 0]
    np.testing.assert_array_equal(np.isnan(found.spread[4]), [True] * 5 + [False] * 2 + [True] * 5)
    np.testing.assert_allclose(found.spread[4, 5:7], np.sqrt(2))


@pytest.mark.parametrize("M", [1, 3, 4, 7])
def test_the_middle_agrees_with_reassembly(M: int, rng: np.random.Generator) -> None:
    probe = gaussian_probe(N, fwhm=5)
    x, y = rng.integers(4, 26, 40).astype(float), rng.integers(4, 20, 40).astype(float)
    truth = (1 + rng.random((26, 32))) * np.exp(2j * rng.random((26, 32)))
    patches = extract_rounded(truth, x, y, N)[0].astype(np.complex64)
    offsets = np.stack([x, y], axis=1)[:, None, :, None]
    expected = reassemble_position(patches, offsets, M, probe, shape=truth.shape)
    (found,) = stitch_variants(patches, x, y, probe_weight(probe), ObjectFrame(26, 32, 0, 0), [None], M)
    seen = found.coverage > 0
    assert 0.3 < seen.mean() < 1
    np.testing.assert_allclose(found.object[seen], truth[seen], rtol=1e-5)
    # reassembly synchronises phases, which are the same up to one for all
    turn = np.exp(-1j * np.angle(np.vdot(truth[seen], expected[seen])))
    np.testing.assert_allclose(expected[seen] * turn, truth[seen], rtol=1e-4)
    np.testing.assert_array_equal(expected == 1, ~seen)
    centre, coverage = stitch(patches, x, y, probe_weight(probe) * central_weight(N, M), ObjectFrame(26, 32, 0, 0))
    np.testing.assert_array_equal(found.object[coverage > 0], centre[coverage > 0])
    np.testing.assert_array_equal(found.coverage[coverage > 0], coverage[coverage > 0])
    assert seen.sum() > (coverage > 0).sum()  # there were holes


# The canvas


def test_what_is_shown_of_the_canvas_by_hand() -> None:
    x, y = [10.0, 17.5], [20.0, 26.0]
    whole = ObjectFrame(14, 16, 6, 16)
    assert result_frames(x, y, N) == (whole, whole) == (object_frame(x, y, N),) * 2
    assert result_frames(x, y, N, StitchOptions(window=3)) == (ObjectFrame(8, 10, 9, 19), whole)
    # pixels 10 to 18 and 20 to 26: those of the positions, the last one included
    box = ObjectFrame(7, 9, 10, 20)
    assert result_frames(x, y, N, StitchOptions(pad_eval=False)) == (box, box)
    assert result_frames(x, y, N, StitchOptions(pad_eval=False, window=1)) == (ObjectFrame(5, 7, 11, 21), box)
    with pytest.raises(ConfigError, match=r"window=7: the canvas has 14 x 16 pixels, .* lower window to at most 6"):
        result_frames(x, y, N, StitchOptions(window=7))
    assert result_frames(x, y, N, StitchOptions(window=6))[0] == ObjectFrame(2, 4, 12, 22)


def test_laying_out() -> None:
    work, image = ObjectFrame(4, 5, 2, 1), np.arange(20).reshape(4, 5)
    np.testing.assert_array_equal(lay_out(image, work, work, work, -1), image)
    window = lay_out(image, work, ObjectFrame(2, 3, 3, 2), work, -1)
    assert window.tolist() == [[-1] * 5, [-1, 6, 7, 8, -1], [-1, 11, 12, 13, -1], [-1] * 5]
    # on the grid of an object of 5 x 6 pixels
    laid = lay_out(image, work, ObjectFrame(2, 3, 3, 2), ObjectFrame(5, 6, 0, 0), -1)
    assert laid[2:4, 3:6].tolist() == [[6, 7, 8], [11, 12, 13]] and (laid == -1).sum() == 24
    box = ObjectFrame(2, 2, 5, 3)
    assert lay_out(image, work, box, box, -1).tolist() == [[13, 14], [18, 19]]


# Through the stitching of a scan


@pytest.fixture
def scan(rng: np.random.Generator) -> tuple[RawData, Any]:
    truth = 0.9 * np.exp(0.3j * rng.random((96, 100)))
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(36.0, 65, 7), np.arange(36.0, 61, 8)))
    probe = gaussian_probe(64, fwhm=14, energy=1e6)
    patches, dx, dy = extract_rounded(truth, x, y, 64)
    counts = rng.poisson(diffract(probe, patches, dx, dy)).astype(np.uint32)
    # what a network says of dark pixels is no truth
    dark = np.abs(probe) < 0.05 * np.abs(probe).max()
    noise = rng.standard_normal(patches.shape) + 1j * rng.standard_normal(patches.shape)
    patches = np.where(dark, patches + noise, patches)
    return RawData(x, y, None, None, counts, probe), (truth, patches.astype(np.complex64)[:, None])


def stitched(scan: tuple[RawData, Any], *options: StitchOptions) -> StitchedObject:
    data, (_, patches) = scan
    positions = np.stack([data.xcoords, data.ycoords], axis=1)[:, None, :, None]
    frame = object_frame(data.xcoords, data.ycoords, 64)
    return stitch_scan(patches, positions, data, data.probeGuess[None], frame, *options)


def error(found: StitchedObject, scan: tuple[RawData, Any], part: Any = np.s_[:]) -> float:
    frame = object_frame(scan[0].xcoords, scan[0].ycoords, 64)
    expected = scan[1][0][frame.y0 : frame.y0 + frame.height, frame.x0 : frame.x0 + frame.width]
    seen = np.zeros(expected.shape, bool)
    seen[part] = True
    seen &= found.coverage > 0
    return float(np.linalg.norm((found.object - expected)[seen]) / np.linalg.norm(expected[seen]))


def test_the_default_is_all_of_each_patch_by_the_probe(scan: tuple[RawData, Any]) -> None:
    first, same = stitched(scan), stitched(scan, StitchOptions())
    np.testing.assert_array_equal(first.object, same.object)
    np.testing.assert_array_equal(first.coverage, same.coverage)
    assert error(first, scan, np.s_[30:60, 30:60]) < 0.01


def test_uniform_weights_believe_dark_pixels_too(scan: tuple[RawData, Any]) -> None:
    found = stitched(scan, StitchOptions("uniform"))
    inner = np.s_[30:60, 30:60]
    assert (found.coverage > 0).all() and found.coverage.max() == pytest.approx(20, abs=1e-4)
    assert error(found, scan, inner) > 20 * error(stitched(scan), scan, inner)


def test_the_middle_of_uniform_patches_leaves_the_dark_pixels_out(scan: tuple[RawData, Any]) -> None:
    found = stitched(scan, StitchOptions("uniform", middle_trim=12))
    # 12 pixels around every position, 7 and 8 apart: no holes
    x, y = (axis - 6 - low for axis, low in ((scan[0].xcoords, 4), (scan[0].ycoords, 4)))
    box = np.s_[int(y.min()) : int(y.max()) + 12, int(x.min()) : int(x.max()) + 12]
    expected = np.zeros(found.object.shape, bool)
    expected[box] = True
    np.testing.assert_array_equal(found.coverage > 0, expected)
    np.testing.assert_array_equal(found.object[~expected], 1)
    assert error(found, scan) < 1e-3
