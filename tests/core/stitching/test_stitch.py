"""Stitching: against a slow loop, as the adjoint of cutting out, and where it has to be exact."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.physics.patches import assemble, extract
from ptycho.core.stitching.overlaps import Turns
from ptycho.core.stitching.stitch import central_weight, probe_weight, reassemble_position, stitch, stitch_variants
from ptycho.errors import DataError

FRAME = ObjectFrame(height=23, width=31, x0=-4, y0=3)


def complex_noise(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


@pytest.fixture
def scan(rng):
    """40 patches of 6 x 6 with an uneven weight on 5 x 3 of them, some partly or wholly outside of FRAME."""
    weight = rng.uniform(0.1, 3.0, (6, 6))
    weight[0] = weight[:, 3:] = 0
    xcoords, ycoords = rng.uniform(-12, 36, 40), rng.uniform(-6, 35, 40)
    xcoords[:4] = -5.6, -4.6, 10, 11  # one or two columns or rows reach into the frame
    ycoords[:4] = 10, 11, -0.6, 0.6
    return complex_noise(rng, 40, 6, 6), xcoords, ycoords, weight


def slow_stitch(patches, xcoords, ycoords, weight, frame):
    """Pixel by pixel: every patch pixel shared out between the four canvas pixels around it."""
    N = len(weight)
    top, bottom = np.zeros(frame.shape, complex), np.zeros(frame.shape)
    for patch, x, y in zip(patches, xcoords, ycoords, strict=True):
        for r in range(N):
            for c in range(N):
                v, u = y - N / 2 + r - frame.y0, x - N / 2 + c - frame.x0
                for row in (int(np.floor(v)), int(np.floor(v)) + 1):
                    for column in (int(np.floor(u)), int(np.floor(u)) + 1):
                        if 0 <= row < frame.height and 0 <= column < frame.width:
                            share = (1 - abs(v - row)) * (1 - abs(u - column)) * weight[r, c] / weight.max()
                            top[row, column] += share * patch[r, c]
                            bottom[row, column] += share
    covered = bottom >= 1e-6
    return np.where(covered, top / np.where(covered, bottom, 1), 1), np.where(covered, bottom, 0)


def test_agrees_with_a_loop_over_pixels(scan):
    expected, expected_coverage = slow_stitch(*scan, FRAME)
    assert 0.3 < (expected_coverage > 0).mean() < 1  # the comparison sees covered and uncovered pixels
    result, coverage = stitch(*scan, FRAME)
    assert result.dtype == np.complex64 and coverage.dtype == np.float32
    assert result.shape == coverage.shape == FRAME.shape
    np.testing.assert_array_equal(coverage > 0, expected_coverage > 0)
    np.testing.assert_allclose(coverage, expected_coverage, rtol=3e-6)
    np.testing.assert_allclose(result, expected, rtol=3e-5, atol=1e-6)
    precise, _ = stitch(scan[0].astype(complex), *scan[1:], FRAME)
    np.testing.assert_allclose(precise, expected.astype(np.complex64), rtol=2e-7)


def test_is_the_quotient_of_two_adjoints_of_extract(scan, rng):
    patches, xcoords, ycoords, weight = scan
    weight = weight / weight.max()
    result, coverage = stitch(patches, xcoords, ycoords, weight, FRAME)
    x, y = FRAME.local(xcoords, ycoords)
    numerator = assemble(weight * patches, x, y, FRAME.shape)
    np.testing.assert_allclose(coverage, assemble(np.tile(weight, (40, 1, 1)), x, y, FRAME.shape), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result[coverage > 0], numerator[coverage > 0] / coverage[coverage > 0], rtol=1e-4)
    # <A o, w p> = <o, A^H w p>: the numerator is the adjoint of cutting out, weighted
    canvas = complex_noise(rng, *FRAME.shape)
    cut = extract(canvas, x, y, 6)
    assert np.vdot(cut, weight * patches) == pytest.approx(
        np.vdot(canvas[coverage > 0], (result * coverage)[coverage > 0])
    )


@pytest.mark.parametrize("unit", [1.0, 1e-12, 1e12])
def test_constant_patches_give_the_constant_wherever_there_is_coverage(scan, unit):
    _, xcoords, ycoords, weight = scan
    weight = unit * weight * np.logspace(0, -5.5, 6)[:, None]
    value = np.complex64(0.3 - 1.7j)
    result, coverage = stitch(np.full((40, 6, 6), value), xcoords, ycoords, weight, FRAME)
    assert coverage[coverage > 0].min() < 1e-4
    np.testing.assert_allclose(result[coverage > 0], value, rtol=1e-6)
    assert (coverage == 0).any() and (result[coverage == 0] == 1).all()


def test_less_than_a_millionth_of_a_patch_is_no_coverage():
    weight = np.ones((4, 4))
    patch = np.full((1, 4, 4), 2.0, np.complex64)
    frame = ObjectFrame(4, 6, 0, 0)
    result, coverage = stitch(patch, [2 + 2e-6], [2], weight, frame)
    np.testing.assert_allclose(coverage[:, 4], 2e-6, rtol=1e-3)
    np.testing.assert_allclose(result[:, 4], 2, rtol=1e-6)
    result, coverage = stitch(patch, [2 + 0.5e-6], [2], weight, frame)
    assert (coverage[:, 4] == 0).all() and (result[:, 4] == 1).all()


def test_a_shift_by_whole_pixels_is_a_roll(scan):
    patches, xcoords, ycoords, weight = scan
    frame = object_frame(xcoords, ycoords, 6)
    wide = replace(frame, height=frame.height + 5, width=frame.width + 9)
    here, there = stitch(*scan, wide), stitch(patches, xcoords + 9, ycoords + 5, weight, wide)
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(np.roll(a, (5, 9), (0, 1)), b, rtol=1e-4)


def test_a_smaller_frame_is_a_crop_of_a_larger_one(scan):
    large = ObjectFrame(height=60, width=70, x0=-20, y0=-15)
    for whole, part in zip(stitch(*scan, large), stitch(*scan, FRAME), strict=True):
        np.testing.assert_array_equal(whole[18 : 18 + 23, 16 : 16 + 31], part)


def test_patches_outside_the_frame_leave_it_empty(scan):
    result, coverage = stitch(scan[0], scan[1] + 100, scan[2], scan[3], FRAME)
    assert (result == 1).all() and (coverage == 0).all()


def test_patches_of_an_object_on_whole_pixels_give_the_object_back(rng):
    truth = complex_noise(rng, 24, 26)
    x, y = (a.ravel().astype(float) for a in np.meshgrid(np.arange(4, 23, 3), np.arange(4, 21, 3)))
    phases = np.exp(2j * np.pi * rng.random(len(x)))
    patches = extract(truth, x, y, 8) * phases[:, None, None].conj()
    result, coverage = stitch(patches.astype(np.complex64), x, y, np.ones((8, 8)), ObjectFrame(24, 26, 0, 0), phases)
    assert (coverage > 0).mean() > 0.9
    np.testing.assert_allclose(result[coverage > 0], truth[coverage > 0], atol=1e-5)


def test_batches_give_what_one_array_gives(scan):
    patches, *rest = scan
    batches = (patches[k : k + 7] for k in range(0, 40, 7))
    for one, other in zip(stitch(patches, *rest, FRAME), stitch(batches, *rest, FRAME), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_memory_is_that_of_the_canvas_and_a_batch(rng):
    n, N = 3000, 32
    x, y = rng.uniform(16, 80, (2, n))
    batches = (np.ones((100, N, N), np.complex64) for _ in range(n // 100))  # 25 MB in all
    tracemalloc.start()
    stitch(batches, x, y, np.ones((N, N)), ObjectFrame(96, 96, 0, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


def test_results_are_made_without_further_canvases(rng):
    n, N = 784, 32
    x, y = (16.0 * a.ravel() + 16 for a in np.meshgrid(np.arange(28), np.arange(28)))
    patches = np.broadcast_to(complex_noise(rng, N, N).astype(np.complex64), (n, N, N))
    frame = ObjectFrame(464, 464, 0, 0)
    tracemalloc.start()
    stitch_variants(patches, x, y, np.ones((N, N)), frame, [None, None])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    sums, results = 8 + 8 + 2 * 16 + 8, 2 * (8 + 4 + 4)  # bytes per pixel; the sums have a margin of a window
    assert peak < sums * (464 + 2 * 33) ** 2 + (results + 16) * 464**2 + 2e6


class TestSpread:
    """The standard deviation of one patch about the mean of all."""

    def test_agrees_with_a_loop_over_patches(self, scan):
        """Each patch alone, placed by bilinear interpolation, against the mean."""
        patches, xcoords, ycoords, weight = scan
        xcoords, ycoords = xcoords / 3, ycoords / 3
        found = stitch_variants(patches.astype(complex), xcoords, ycoords, weight, FRAME, [None])[0]
        values, weights = np.zeros((40, *FRAME.shape), complex), np.zeros((40, *FRAME.shape))
        for j in range(40):
            alone = slow_stitch(patches[j : j + 1], xcoords[j : j + 1], ycoords[j : j + 1], weight, FRAME)
            values[j], weights[j] = np.where(alone[1] > 0, alone[0], 0), alone[1]
        total, squared = weights.sum(axis=0), (weights**2).sum(axis=0)
        several = (total > 0) & (total**2 > 1.5 * squared)
        mean = (weights * values).sum(axis=0)[several] / total[several]
        variance = (weights[:, several] * np.abs(values[:, several] - mean) ** 2).sum(axis=0) / total[several]
        corrected = variance / (1 - squared[several] / total[several] ** 2)
        assert 0.1 < several.mean() < 0.9
        np.testing.assert_array_equal(np.isfinite(found.spread), several)
        np.testing.assert_allclose(found.spread[several], np.sqrt(corrected), rtol=1e-4)

    @pytest.mark.parametrize("copies", [2, 5, 200])
    def test_it_is_the_noise_of_one_patch_however_few_there_are(self, rng, copies):
        noise = 0.1 * complex_noise(rng, copies, 64, 64) / np.sqrt(2)
        places = np.full(copies, 32.0)
        found = stitch_variants(1j + noise, places, places, np.ones((64, 64)), ObjectFrame(64, 64, 0, 0), [None])[0]
        assert np.sqrt(np.mean(found.spread**2)) == pytest.approx(0.1, rel=0.03)
        assert np.std(found.object - 1j) == pytest.approx(0.1 / np.sqrt(copies), rel=0.05)

    def test_one_patch_alone_says_nothing(self):
        weight = np.outer(np.ones(4), [1, 1, 1, 0.1])
        patches = np.array([1, 3], np.complex64)[:, None, None] * np.ones((2, 4, 4), np.complex64)
        found = stitch_variants(patches, [2, 4], [2, 2], weight, ObjectFrame(4, 7, 0, 0), [None])[0]
        assert np.isnan(found.spread[:, [0, 1, 4, 5, 6]]).all()
        np.testing.assert_allclose(found.object[:, 2], 2, rtol=1e-6)
        np.testing.assert_allclose(found.spread[:, 2], np.sqrt(2), rtol=1e-5)  # of 1 and 3
        assert np.isnan(found.spread[:, 3]).all()  # 1.2 patches count where the second has ten times the weight

    def test_patches_that_agree_have_none(self, scan):
        found = stitch_variants(np.full((40, 6, 6), 2 - 1j, np.complex64), *scan[1:], FRAME, [None])[0]
        assert np.nanmax(found.spread) < 1e-3 and np.isfinite(found.spread).any()


def test_variants_in_one_pass_are_what_each_gives_alone(scan, rng):
    phases = np.exp(2j * np.pi * rng.random(40)).astype(np.complex64)
    turns = [None, Turns(phases), Turns(phases, rng.uniform(-0.3, 0.3, (40, 2)))]
    together = stitch_variants(*scan, FRAME, turns)
    for turn, found in zip(turns, together, strict=True):
        alone = stitch_variants(*scan, FRAME, [turn])[0]
        np.testing.assert_array_equal(found.object, alone.object)
        np.testing.assert_array_equal(found.spread, alone.spread)
    np.testing.assert_array_equal(together[0].object, stitch(*scan, FRAME)[0])
    np.testing.assert_array_equal(together[1].object, stitch(*scan, FRAME, phases)[0])
    np.testing.assert_allclose(together[0].spread, stitch_variants(*scan, FRAME, [None])[0].spread)


def test_ramps_turn_about_the_centre_of_a_patch(rng):
    patches, ramps = complex_noise(rng, 3, 8, 8), rng.uniform(-1, 1, (3, 2))
    v, u = np.indices((8, 8)) - 4
    by_hand = patches * np.exp(1j * (ramps[:, 0, None, None] * u + ramps[:, 1, None, None] * v))
    places = np.array([4.0, 20, 36]), np.full(3, 4.0)
    frame = ObjectFrame(8, 48, 0, 0)
    found = stitch_variants(patches, *places, np.ones((8, 8)), frame, [Turns(np.ones(3), ramps)])[0]
    np.testing.assert_allclose(found.object, stitch(by_hand, *places, np.ones((8, 8)), frame)[0], atol=1e-5)


def test_weight_of_a_probe_adds_its_modes():
    probe = np.array([[[3j, 1], [0, 0]], [[4, 0], [0, 2]]], np.complex64)
    np.testing.assert_array_equal(probe_weight(probe), [[25, 1], [0, 4]])
    np.testing.assert_array_equal(probe_weight(probe[0]), [[9, 1], [0, 0]])


@pytest.mark.parametrize(("M", "filled"), [(1, [4]), (2, [3, 4]), (3, [3, 4, 5]), (8, range(8)), (20, range(8))])
def test_central_weight(M, filled):
    expected = np.zeros(8)
    expected[list(filled)] = 1
    np.testing.assert_array_equal(central_weight(8, M), np.outer(expected, expected))


def changed(scan, **changes):
    return {**dict(zip(("patches", "xcoords", "ycoords", "weight"), scan, strict=True)), "frame": FRAME, **changes}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"patches": s[0][:39]}, "expected 40, one per position, found 39"),
        (lambda s: {"patches": iter([s[0], s[0]])}, "expected 40, one per position, found 80"),
        (lambda s: {"patches": s[0][:, :5]}, r"expected complex \(n, 6, 6\)"),
        (lambda s: {"patches": s[0].real}, "found float32"),
        (lambda s: {"xcoords": s[1][:3]}, r"found \(3,\) and \(40,\)"),
        (lambda s: {"ycoords": np.where(np.arange(40) == 8, np.nan, s[2])}, "nan.* at 8"),
        (lambda s: {"weight": np.zeros((6, 6))}, "some positive, found 0.0 to 0.0"),
        (lambda s: {"weight": s[3] - 2}, "none negative"),
        (lambda s: {"weight": s[3][:5]}, r"expected \(N, N\), found \(5, 6\)"),
        (lambda s: {"phases": np.ones(3)}, r"expected one per patch \(40\), found \(3,\)"),
    ],
)
def test_what_does_not_fit_is_refused(scan, change, message):
    with pytest.raises(DataError, match=message):
        stitch(**changed(scan, **change(scan)))


def test_a_patch_that_is_not_finite_is_named(scan):
    scan[0][17, 2, 3] = np.inf
    with pytest.raises(DataError, match="in patch 17"):
        stitch(iter([scan[0][:10], scan[0][10:]]), *scan[1:], FRAME)


class TestReassemblePosition:
    """A 64 x 70 object scanned around (39, 25), 7 px and 4 px off its middle, in patches of 16."""

    shape = (64, 70)

    @pytest.fixture
    def truth(self, rng):
        return np.exp(1j * rng.uniform(-1, 1, self.shape)) * rng.uniform(0.5, 1.5, self.shape)

    @pytest.fixture
    def offsets(self):
        x, y = np.meshgrid(42 + np.arange(-15, 16, 5), 28 + np.arange(-10, 11, 5))
        return np.stack([x.ravel(), y.ravel()], axis=1).astype(float)[:, None, :, None]

    def patches(self, truth, offsets):
        return extract(truth, offsets[:, 0, 0, 0], offsets[:, 0, 1, 0], 16).astype(np.complex64)

    def test_shape_of_the_object_keeps_its_pixel_frame(self, truth, offsets):
        result = reassemble_position(self.patches(truth, offsets)[..., None], offsets, M=6, shape=self.shape)
        assert result.shape == self.shape and result.dtype == np.complex64
        inside = (slice(28 - 13, 28 + 13), slice(42 - 18, 42 + 18))
        np.testing.assert_allclose(result[inside], truth[inside], atol=2e-6)
        result[inside] = 1
        assert (result == 1).all()

    def test_the_smallest_canvas_has_the_mean_position_in_its_middle(self, truth, offsets):
        offsets = offsets[: 7 * 4]  # rows y = 18 .. 33: the mean is 25.5, rounded to 26
        result = reassemble_position(self.patches(truth, offsets), offsets, M=16)
        assert result.shape == (2 * (26 - (18 - 8)), 2 * (15 + 8))
        np.testing.assert_allclose(result[:31], truth[10:41, 42 - 23 : 42 + 23], atol=2e-6)
        assert (result[31:] == 1).all()

    def test_positions_between_pixels_fit_on_the_canvas(self, rng):
        offsets = rng.uniform(0, 9, (30, 1, 2, 1))
        result = reassemble_position(np.full((30, 8, 8), 2j, np.complex64), offsets, M=8)
        frame = object_frame(offsets[:, 0, 0, 0], offsets[:, 0, 1, 0], 8)
        assert (result != 1).any(axis=1).sum() == frame.height and (result != 1).any(axis=0).sum() == frame.width

    def test_phases_are_synchronised(self, truth, offsets, rng):
        planted = np.exp(2j * np.pi * rng.random(len(offsets)))[:, None, None]
        result = reassemble_position(self.patches(truth, offsets) * planted, offsets, M=6, shape=self.shape)
        inside = (slice(28 - 13, 28 + 13), slice(42 - 18, 42 + 18))
        turn = np.vdot(result[inside], truth[inside])
        assert abs(turn) == pytest.approx(np.linalg.norm(truth[inside]) ** 2, rel=1e-5)
        np.testing.assert_allclose(result[inside] * turn / abs(turn), truth[inside], atol=1e-5)

    def test_ramps_are_taken_out(self, rng):
        truth = np.exp(1j * rng.uniform(-1, 1, (64, 70)))
        x, y = (a.ravel() for a in np.meshgrid(np.arange(14.0, 57, 3), np.arange(14.0, 51, 3)))
        offsets = np.stack([x, y], axis=1)[:, None, :, None]
        v, u = np.indices((16, 16)) - 8
        kx, ky = rng.uniform(-0.15, 0.15, (2, len(x), 1, 1))
        patches = extract(truth, x, y, 16) * np.exp(1j * (kx * u + ky * v))
        result = reassemble_position(patches, offsets, M=16, shape=(64, 70))[10:54, 10:60]
        truth = truth[10:54, 10:60]
        row, column = np.indices(truth.shape)
        plane = np.exp(-1j * (column * kx.mean() + row * ky.mean()))  # what all share stays, for overlaps cannot tell
        turned = result * plane
        match = abs(np.vdot(truth, turned)) / np.linalg.norm(truth) / np.linalg.norm(turned)
        assert match > 0.999

    @pytest.mark.parametrize("M", [2, 4])
    def test_holes_inside_the_scan_are_filled_and_only_those(self, truth, offsets, M):
        result = reassemble_position(self.patches(truth, offsets), offsets, M=M, shape=self.shape)
        rows, columns = slice(18 - M // 2, 38 + M // 2), slice(27 - M // 2, 57 + M // 2)
        np.testing.assert_allclose(result[rows, columns], truth[rows, columns], atol=2e-6)
        covered = np.zeros(self.shape, bool)
        covered[rows, columns] = True
        assert (result[~covered] == 1).all()

    def test_holes_of_a_slanted_scan_are_filled_up_to_its_edge(self, truth):
        x = np.arange(20.0, 45, 6)
        offsets = np.stack([x, x - 2], axis=1)[:, None, :, None]
        result = reassemble_position(self.patches(truth, offsets), offsets, M=2, shape=self.shape)
        y, x = np.indices(self.shape)
        hull = (x >= 19) & (x <= 44) & (y >= 17) & (y <= 42) & (np.abs(x - y - 2) <= 1)
        np.testing.assert_allclose(result[hull], truth[hull], atol=2e-6)
        assert (result[~hull] == 1).all()

    def test_the_probe_weighs_when_it_fits(self, rng):
        values = np.array([1, 3], np.complex64)[:, None, None] * np.ones((2, 8, 8), np.complex64)
        offsets = np.array([[4.0, 4], [8, 4]])[:, None, :, None]
        probe = np.sqrt(np.tile(np.arange(1.0, 9), (8, 1))).astype(np.complex64)
        plain = reassemble_position(values, offsets, M=8, shape=(8, 12))
        np.testing.assert_allclose(plain[:, 4:8], 2, rtol=1e-6)
        weighted = reassemble_position(values, offsets, M=8, shape=(8, 12), probe=probe[None])
        expected = (np.arange(5, 9) * 1 + np.arange(1, 5) * 3) / (np.arange(5, 9) + np.arange(1, 5))
        np.testing.assert_allclose(weighted[3, 4:8], expected, rtol=1e-6)
        np.testing.assert_array_equal(reassemble_position(values, offsets, 8, np.ones((4, 4)), (8, 12)), plain)

    def test_a_probe_without_light_in_the_central_pixels(self, truth, offsets):
        probe = np.ones((16, 16)) - central_weight(16, 6)
        result = reassemble_position(self.patches(truth, offsets), offsets, M=4, shape=self.shape, probe=probe)
        inside = (slice(28 - 13, 28 + 13), slice(42 - 18, 42 + 18))
        np.testing.assert_allclose(result[inside], truth[inside], atol=2e-6)

    def test_what_does_not_fit_is_refused(self, truth, offsets):
        patches = self.patches(truth, offsets)
        with pytest.raises(DataError, match=r"found \(35, 16, 16\) and \(35, 2\)"):
            reassemble_position(patches, offsets[:, 0, :, 0])
        with pytest.raises(DataError, match=r"offsets \(B, 1, 2, 1\)"):
            reassemble_position(patches[:-1], offsets)
        with pytest.raises(DataError, match="at least 1 central pixel"):
            reassemble_position(patches, offsets, M=0)
