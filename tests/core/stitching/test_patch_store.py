"""Room for patches: in memory or in a file that nobody sees, and gone with the array."""

import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame
from ptycho.core.stitching.patch_store import patch_array
from ptycho.core.stitching.stitch import stitch
from ptycho.core.stitching.synchronise import synchronise
from ptycho.errors import OutputError


def test_below_the_budget_it_is_memory(tmp_path):
    found = patch_array((3, 2, 4, 4), budget_bytes=8 * 96, folder=tmp_path / "gone")
    assert not isinstance(found, np.memmap) and found.dtype == np.complex64 and (found == 0).all()


def test_above_the_budget_it_is_a_file_without_a_name(tmp_path):
    found = patch_array((3, 2, 4, 4), budget_bytes=8 * 96 - 1, folder=tmp_path)
    assert isinstance(found, np.memmap) and found.shape == (3, 2, 4, 4) and (found == 0).all()
    assert list(tmp_path.iterdir()) == []
    found[2] = 3j
    assert found.reshape(-1, 4, 4)[5, 3, 3] == 3j and (found[:2] == 0).all()


def test_the_patches_of_a_large_scan_are_in_a_file_unasked(tmp_path):
    assert isinstance(patch_array((8193, 1, 64, 64), folder=tmp_path), np.memmap)
    assert not isinstance(patch_array((8192, 1, 64, 64), folder=tmp_path), np.memmap)


def test_no_room_is_said_at_once(tmp_path):
    with pytest.raises(OutputError, match=r"expected room for .* GiB of patches, found: "):
        patch_array((1 << 40, 1, 64, 64), folder=tmp_path)
    with pytest.raises(OutputError, match="No such file"):
        patch_array((1, 1, 4, 4), budget_bytes=0, folder=tmp_path / "gone")
    assert list(tmp_path.iterdir()) == []


def test_stitching_from_the_file_is_the_same(tmp_path, rng):
    x, y = (4.0 * a.ravel() + 8 for a in np.meshgrid(np.arange(6), np.arange(5)))
    plain = (rng.standard_normal((30, 16, 16)) + 1j * rng.standard_normal((30, 16, 16))).astype(np.complex64)
    stored = patch_array((30, 1, 16, 16), budget_bytes=0, folder=tmp_path)
    for start in range(0, 30, 7):
        stored[start : start + 7, 0] = plain[start : start + 7]
    mapped, weight = stored.reshape(-1, 16, 16), np.ones((16, 16))
    one, other = (stitch(p, x, y, weight, ObjectFrame(32, 36, 0, 0)) for p in (plain, mapped))
    np.testing.assert_array_equal(one[0], other[0])
    one, other = (synchronise(p, x, y, weight) for p in (plain, mapped))
    np.testing.assert_array_equal(one.solved.phases, other.solved.phases)
