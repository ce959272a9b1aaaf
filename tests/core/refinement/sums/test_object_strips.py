"""Strips of an object do together what is done to the whole."""

import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame
from ptycho.core.refinement.device.images import NumpyImages
from ptycho.core.refinement.sums.object_share import WHOLE
from ptycho.core.refinement.sums.object_strips import Strips
from ptycho.core.refinement.sums.processes import strips

SHAPE, N = (37, 22), 8
Y = np.array([4.0, 4.0, 4.0, 9.2, 16.0, 17.0, 25.4, 30.0, 33.0])
SIZES = [2, 3, 5]


def laid(processes, room=0):
    return Strips.laid(strips(Y + 100, processes.size), Y, Y, N, SHAPE, room, processes)


def piece(share, image):
    held = share.held[share.processes.rank]
    return image[held.start : held.stop]


@pytest.fixture
def image(rng):
    return rng.standard_normal(SHAPE) + 1j * rng.standard_normal(SHAPE)


@pytest.mark.parametrize("size", SIZES)
def test_every_row_has_one_owner_and_every_pattern_lies_in_its_strip(size, in_threads):
    for share in in_threads(size, lambda each: laid(each, room=1)):
        assert [row for owned in share.owned for row in owned] == list(range(SHAPE[0]))
        for owned, held, part in zip(share.owned, share.held, share.parts, strict=True):
            tops = np.rint(Y[part]) - N // 2
            assert held.start <= max(0, tops.min() - 1) and held.stop >= min(SHAPE[0], tops.max() + N + 1)
            assert held.start <= owned.start and held.stop >= owned.stop
        assert sorted(np.concatenate(share.parts)) == list(range(len(Y)))
        assert share.own_patterns(Y, Y).nonzero()[0].tolist() == share.patterns.tolist()


def test_a_strip_holds_where_patterns_are_and_where_they_may_go():
    """Both have moved by 3 pixels from home and may go 5 to either side of it."""
    share = Strips.laid([np.array([0]), np.array([1])], np.array([20.0, 60.0]), np.array([17.0, 63.0]), N, (90, 9), 5)
    assert share.owned == (range(56), range(56, 90))
    assert share.held == (range(57), range(50, 90))  # a row more than is owned: slopes go across the seam
    other = Strips.laid([np.array([0]), np.array([1])], np.array([60.0, 70.0]), np.array([63.0, 70.0]), N, (90, 9), 5)
    assert other.held == (range(73), range(60, 90))


def test_every_row_has_one_owner_however_far_patterns_have_moved():
    """Those of the last strip lie above those of the middle one now."""
    home, now = np.array([20.0, 40.0, 60.0]), np.array([20.0, 40.0, 30.0])
    share = Strips.laid([np.array([k]) for k in range(3)], home, now, N, (90, 9), 2)
    assert share.owned == (range(36), range(36, 36), range(36, 90))
    assert share.held == (range(37), range(33, 47), range(23, 90))


def test_a_strip_is_worth_it_where_it_spares_a_quarter():

    def strips_of(y, room):
        return Strips.laid(strips(y, 2), y, y, N, SHAPE, room)

    few, many, wide = strips_of(Y[:4], 0), strips_of(Y, 0), strips_of(Y, 3)
    assert not few.spares  # all patterns but one lie in the first rows: one process has nearly all
    assert max(map(len, many.held)) == 25 and many.spares
    assert max(map(len, wide.held)) == 28 and not wide.spares


@pytest.mark.parametrize("size", SIZES)
def test_what_each_finds_is_added_along_the_seams(size, image, rng, in_threads):
    found = rng.standard_normal((size, *SHAPE)).astype(np.float32)

    def work(processes):
        share = laid(processes)
        numbers, seen, probe = share.sums(
            NumpyImages(), np.ones(2), piece(share, found[processes.rank]), np.full(3, 2.0)
        )
        light = share.lit(piece(share, found[processes.rank]))
        return share, numbers, seen, probe, light

    made = in_threads(size, work)
    total = np.zeros(SHAPE)
    for share, *_ in made:
        total[share.first_row :][: len(piece(share, total))] += piece(share, found[share.processes.rank])
    for share, numbers, seen, probe, light in made:
        assert numbers.tolist() == [size] * 2 and probe.tolist() == [2.0 * size] * 3
        np.testing.assert_allclose(seen, piece(share, total), atol=1e-6)
        assert np.array_equal(light, seen)


@pytest.mark.parametrize("size", SIZES)
def test_every_row_counts_once(size, image, in_threads):
    probe = np.array([[1.0 + 2.0j]])

    def work(processes):
        share = laid(processes)
        here = piece(share, image)
        return (
            share.dot(NumpyImages(), [(here, here), (probe, probe)]),
            share.largest(abs(here).max()),
            share.added(np.ones(2)),
            share.total(here.real),
        )

    for dot, largest, added, total in in_threads(size, work):
        assert total == pytest.approx(image.real.sum())
        assert dot == pytest.approx((abs(image) ** 2).sum() + 5) and largest == abs(image).max()
        assert added.tolist() == [size] * 2


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("padded", [(40, 24), (37, 25)])
def test_a_filter_sees_all_rows(size, padded, rng, in_threads):
    values = rng.standard_normal(SHAPE)
    radius = np.hypot(*WHOLE.frequencies(padded))
    expected = WHOLE.filtered(NumpyImages(), values, np.exp(-radius), padded)

    def work(processes):
        share = laid(processes)
        rows, columns = share.frequencies(padded)
        assert columns.size in (radius.shape[1] // size, radius.shape[1] // size + 1)
        return share, share.filtered(NumpyImages(), piece(share, values), np.exp(-np.hypot(rows, columns)), padded)

    for share, found in in_threads(size, work):
        np.testing.assert_allclose(found, piece(share, expected), atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_rows_come_from_who_owns_them(size, image, in_threads):
    def work(processes):
        share = laid(processes)
        here = share.scattered(image if processes.rank == 0 else None)
        assert np.array_equal(here, piece(share, image))
        rolled = share.fetched(here, lambda rows: (rows - 5) % SHAPE[0])
        whole = share.gathered(here)
        mean = share.of_whole(here, np.mean)
        assert share.shape(here) == SHAPE
        return share, rolled, whole, mean

    for share, rolled, whole, mean in in_threads(size, work):
        assert np.array_equal(rolled, piece(share, np.roll(image, 5, axis=0)))
        assert mean == image.mean()
        assert np.array_equal(whole, image) if share.processes.rank == 0 else whole is None


@pytest.mark.parametrize("size", SIZES)
def test_outermost_rows_come_from_who_owns_them(size, image, in_threads):
    def work(processes):
        share = laid(processes)
        frame = share.frame(ObjectFrame(*SHAPE, 5, 7))
        assert frame == ObjectFrame(len(piece(share, image)), SHAPE[1], 5, 7 + share.first_row)
        here = np.stack([piece(share, image)] * 2)
        for owned, held in zip(share.owned, share.held, strict=True):
            assert held.start <= max(0, owned.start - 1) and held.stop >= min(SHAPE[0], owned.stop + 1)
        wrong = here.copy()
        if share.first_row > 0:
            wrong[:, 0] = np.nan
        if frame.y0 + frame.height < 7 + SHAPE[0]:
            wrong[:, -1] = np.nan
        return np.array_equal(share.mended(wrong), here)

    assert all(in_threads(size, work))
