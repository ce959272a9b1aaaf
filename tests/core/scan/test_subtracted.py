"""What to add to counts of which a background was subtracted: known answers, and what is not believed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ptycho.core.scan.subtracted import subtracted_background

n, N = 300, 12
LIT = np.s_[:, 4:8, 4:8]


@pytest.fixture
def counts(rng: np.random.Generator) -> NDArray[Any]:
    """300 patterns, 9 counts of background everywhere and some 60 of light in the middle, without the former."""
    values = rng.poisson(9, (n, N, N)).astype(np.float64) - 9.3
    values[LIT] += rng.poisson(60, values[LIT].shape)
    return values


def test_next_to_nothing_is_left_below_0(counts: NDArray[Any]) -> None:
    found = subtracted_background(counts, None, "counts")
    assert found is not None and found.shape == (N, N)
    dark = np.ones((N, N), bool)
    dark[LIT[1:]] = False
    assert found[dark].min() >= 5 and np.median(found[dark]) == pytest.approx(9, rel=0.1) and found.max() < 15
    assert found[LIT[1:]].min() > 5, "pixels that are never dark have as much"
    assert np.mean(counts + found < 0) < 3e-3
    np.testing.assert_array_equal(subtracted_background(counts, None, None), found)


def test_a_pixel_far_below_0_is_its_own(counts: NDArray[Any]) -> None:
    """A hot pixel of which a dark frame was subtracted says nothing of its neighbours."""
    plain = subtracted_background(counts, None, "counts")
    counts[:, 1, 1] = 30 * counts[:, 1, 1]
    found = subtracted_background(counts, None, "counts")
    assert plain is not None and found is not None
    assert found[1, 1] > 150
    changed = found != plain
    changed[1, 1] = False
    assert np.abs(found - plain)[changed].max(initial=0) < 3


def test_what_is_not_valid_does_not_count(counts: NDArray[Any]) -> None:
    counts[:, 2, 2], counts[5, 3, 3] = -1e6, np.nan
    for shape in ((N, N), (n, N, N)):
        mask = np.ones(shape, bool)
        mask[..., 2, 2] = False
        found = subtracted_background(counts, mask, "counts")
        assert found is not None and found.max() < 15


def test_where_nothing_is_believed_there_is_none(counts: NDArray[Any]) -> None:
    half = np.where(np.arange(N) < 6, -30.0, 20.0) * np.ones((n, N, N))
    unsigned = np.ones((n, N, N), np.uint16)
    for values, units in ((counts, "amplitude"), (np.abs(counts), "counts"), (half, None), (unsigned, "counts")):
        assert subtracted_background(values, None, units) is None
    assert subtracted_background(np.zeros((0, N, N)), None, "counts") is None
