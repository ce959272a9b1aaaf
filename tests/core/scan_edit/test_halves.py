"""The halves of a scan: every piece of the object gives half of its points to each."""

import numpy as np
import pytest

from ptycho.core.scan_edit.halves import half_scans, hilbert_order
from ptycho.errors import DataError


def test_a_square_grid_becomes_two_checkerboards(rng: np.random.Generator) -> None:
    y, x = np.divmod(rng.permutation(256), 16)
    first, second = half_scans(x, y)
    assert len({(x[j] + y[j]) % 2 for j in first}) == 1
    assert len({(x[j] + y[j]) % 2 for j in second}) == 1
    assert sorted([*first, *second]) == list(range(256))


def test_the_curve_visits_neighbours_one_after_the_other() -> None:
    y, x = np.divmod(np.arange(64), 8)
    order = hilbert_order(x.astype(float), y.astype(float))
    steps = np.abs(np.diff(x[order])) + np.abs(np.diff(y[order]))
    assert (steps == 1).all()


def test_any_region_is_shared_alike(rng: np.random.Generator) -> None:
    x, y = rng.uniform(0, 100, 801), rng.uniform(0, 40, 801)  # not square, an odd number
    first, second = half_scans(1e-6 * x, 1e-6 * y)
    assert (len(first), len(second)) == (401, 400)
    for x0, y0 in ((0, 0), (30, 10), (70, 20)):
        inside = (x >= x0) & (x < x0 + 30) & (y >= y0) & (y < y0 + 20)
        assert abs(inside[first].sum() - inside.sum() / 2) < 8  # a random draw: 5 standard deviations would be 27


def test_exposures_of_one_place_go_to_both_halves() -> None:
    x, y = np.repeat([0.0, 5.0, 9.0], 2), np.zeros(6)
    assert {tuple(x[half]) for half in half_scans(x, y)} == {(0.0, 5.0, 9.0)}
    assert [half.tolist() for half in half_scans(np.zeros(3), np.zeros(3))] == [[0, 2], [1]]


def test_one_point_has_no_halves() -> None:
    with pytest.raises(DataError, match="at least 2 scan points, found 1"):
        half_scans([1.0], [2.0])
