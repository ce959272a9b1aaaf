"""How a scan is cut into batches, and where patches lie."""

import numpy as np
import pytest

from ptycho.core.refinement.sums.parts import cut_parts, own_modes, places
from ptycho.errors import DataError


def test_a_patch_outside_the_object_is_an_error() -> None:
    with pytest.raises(DataError, match="enlarge the object"):
        places(np.array([7.4]), np.array([10.0]), 16, (40, 40))
    rows, cols, dx, dy = places(np.array([8.4]), np.array([31.6]), 16, (40, 40))
    assert (rows.tolist(), cols.tolist()) == ([24], [0])
    np.testing.assert_allclose([dx[0], dy[0]], [0.4, -0.4])


@pytest.mark.parametrize(
    "count, size, lanes, sizes",
    [(7, 9, 1, [7]), (7, 3, 1, [3, 2, 2]), (7, 3, 2, [2, 2, 2, 1]), (3, 1, 2, [1, 1, 1]), (0, 3, 1, [])],
)
def test_batches_are_as_large_as_each_other_and_as_many_for_every_lane(count, size, lanes, sizes) -> None:
    parts = cut_parts(np.arange(10, 10 + count), size, lanes, None, 1)
    assert [len(part.indices) for part in parts] == sizes
    assert [int(i) for part in parts for i in part.indices] == list(range(10, 10 + count))


def test_a_batch_is_of_one_scan_and_has_its_modes() -> None:
    scans = np.array([0, 1, 0, 1, 1, 0])
    parts = cut_parts(np.array([0, 1, 2, 3, 4]), 2, 1, scans, 2)
    assert [part.indices.tolist() for part in parts] == [[0, 2], [1, 3], [4]]
    assert [own_modes(part, np.arange(4)).tolist() for part in parts] == [[0, 1], [2, 3], [2, 3]]
