"""A file that is written: opened when its writer lets, without being in its way, and known to be closed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.core.live import growing_file
from ptycho.core.live.growing_file import GrowingFile, column
from ptycho.errors import DataError


def test_it_opens_when_the_writer_lets_and_sees_what_is_added(
    tmp_path: Path, elsewhere: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing_file, "_GRACE", 0.0)
    path = tmp_path / "scan.h5"
    file = GrowingFile(path)
    assert file.opened is None and not file.closed
    elsewhere(f"file = h5py.File({str(path)!r}, 'w', libver='latest')")
    elsewhere("made = file.create_dataset('x', (1,), 'f8', maxshape=(None,), chunks=(4,)); file.flush()")
    assert file.opened is None  # no reader is safe yet
    elsewhere("file.swmr_mode = True")
    assert file.sets(["none"]) is None
    assert [len(one) for one in file.sets(["x"]) or ()] == [1]
    elsewhere("made.resize(3, axis=0); made.flush()")
    assert [len(one) for one in file.sets(["x"]) or ()] == [3]
    file.rest()
    assert [len(one) for one in file.sets(["x"]) or ()] == [3]
    assert not file.closed
    elsewhere("file.close()")
    file.close()
    assert file.closed or file.closed  # the first may be the look that has seen it change
    assert [one.name for one in file.look()] == ["/x"]


def test_a_writer_is_not_kept_from_a_file_that_is_read(tmp_path: Path, elsewhere: Callable[[str], None]) -> None:
    path = tmp_path / "scan.h5"
    elsewhere(f"h5py.File({str(path)!r}, 'w', libver='latest').create_dataset('x', (1,)).file.close()")
    file = GrowingFile(path)
    assert file.opened is not None
    elsewhere(f"file = h5py.File({str(path)!r}, 'r+', libver='latest'); file.swmr_mode = True; file.close()")
    file.close()


def test_a_file_that_is_not_written_is_let_go_of(tmp_path: Path) -> None:
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as writer:
        writer["x"] = np.arange(3)
    file = GrowingFile(path)
    assert file.sets(["x"]) is not None
    file.rest()
    with h5py.File(path, "a") as writer:
        writer["y"] = np.arange(3)
    assert [one.name for one in file.look()] == ["/x", "/y"]


def test_a_column_has_numbers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "texts.h5", "w") as file:
        assert column(file.create_dataset("x", data=np.arange(5)), 1, 3, "x").tolist() == [1, 2]
        with pytest.raises(DataError, match="texts: expected numbers"):
            column(file.create_dataset("texts", data=[b"a"]), 0, 1, "texts")
