"""Which files are a run's own."""

from pathlib import Path

import pytest

from ptycho.core.files.written import written, written_before
from ptycho.errors import DataError


def test_a_file_that_is_written_anew_is_another_one(tmp_path: Path) -> None:
    kept, old, new = tmp_path / "before.json", tmp_path / "old.ckpt", tmp_path / "new.ckpt"
    old.write_text("1")
    assert written(new) is None
    before = written_before(kept, [old, new])
    assert before == {"old.ckpt": written(old), "new.ckpt": None}
    for path in (old, new):
        (tmp_path / "made").write_text("2")
        (tmp_path / "made").replace(path)
    assert written_before(kept, [old, new]) == before
    assert before["old.ckpt"] != written(old)
    kept.write_text("{}")
    with pytest.raises(DataError, match="expected what was there before a run"):
        written_before(kept, [old])
