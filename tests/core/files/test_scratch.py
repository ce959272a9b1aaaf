"""Room for what is too large for memory, and choices out of memory maps."""

import gc
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.files.scratch import scratch_array, taken
from ptycho.errors import OutputError


@pytest.mark.parametrize("dtype", [np.uint16, np.complex64, bool])
def test_the_budget_decides(tmp_path: Path, dtype: type) -> None:
    size = 3 * 5 * 5 * np.dtype(dtype).itemsize
    held = scratch_array((3, 5, 5), dtype, size, tmp_path / "gone")
    mapped = scratch_array((3, 5, 5), dtype, size - 1, tmp_path)
    assert not isinstance(held, np.memmap)
    assert isinstance(mapped, np.memmap)
    assert list(tmp_path.iterdir()) == []
    for array in (held, mapped):
        assert array.shape == (3, 5, 5) and array.dtype == dtype and not array.any()
        array[1, 2, 3] = 1
        assert np.argwhere(array).tolist() == [[1, 2, 3]]
    assert scratch_array((0, 5, 5), dtype, 0, tmp_path).shape == (0, 5, 5)


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="reads the mapped files of a Linux process")
def test_the_space_is_given_back_with_the_last_view(tmp_path: Path) -> None:
    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count(str(tmp_path))

    view = scratch_array((64, 16, 16), np.float32, 0, tmp_path)[3:]
    gc.collect(1)  # the young ones: all take seconds late in a long run
    assert mapped() == 1
    del view
    gc.collect(1)  # the young ones: all take seconds late in a long run
    assert mapped() == 0


def test_no_room_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"expected room for .* GiB of masks, found: .*; buy a disk"):
        scratch_array((1 << 44, 64, 64), bool, folder=tmp_path, what="masks", advice="buy a disk")
    with pytest.raises(OutputError, match="No such file"):
        scratch_array((1, 4, 4), bool, 0, tmp_path / "gone")
    assert list(tmp_path.iterdir()) == []


def test_what_is_taken_is_what_indexing_gives(tmp_path: Path, rng: np.random.Generator) -> None:
    array = rng.integers(0, 99, (7, 3, 5)).astype(np.uint16)
    np.save(tmp_path / "a.npy", array)
    mapped, chosen = np.load(tmp_path / "a.npy", mmap_mode="r"), np.array([6, 0, 3, 3])
    for source, budget, kind in ((array, 0, np.ndarray), (mapped, 120, np.ndarray), (mapped, 119, np.memmap)):
        found = taken(source, chosen, budget, tmp_path)
        assert type(found) is kind
        np.testing.assert_array_equal(found, array[chosen])
    assert taken(mapped, np.arange(7), 0) is mapped
    assert taken(array, np.arange(7), 0) is not array
    np.testing.assert_array_equal(taken(mapped, np.arange(6), 0, tmp_path), array[:6])
