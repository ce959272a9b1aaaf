"""The files of a result come together, or not at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from ptycho.core.files.whole_set import UNFINISHED, whole_set

OLD = {"result.npz": "old", "trust.png": "old", "notes.txt": "mine"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in OLD.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_new_files_take_the_places_and_stale_ones_go(folder: Path) -> None:
    with whole_set(folder, ["result.npz", "trust.png", "absent.png"]) as made:
        (made / "result.npz").write_text("new")
        (made / "summary.png").write_text("new")
        assert (folder / "result.npz").read_text() == "old"
    assert content(folder) == {"result.npz": "new", "summary.png": "new", "notes.txt": "mine"}


def test_a_failure_leaves_what_was_there(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole_set(folder, OLD) as made:
        (made / "result.npz").write_text("new")
        raise KeyboardInterrupt
    assert content(folder) == OLD


KILLED = """
import os, sys
from pathlib import Path
from ptycho.core.files.whole_set import whole_set
replace, left = Path.replace, [int(sys.argv[2])]
def killed(self, target):
    if self.parent.name.startswith(".result."):
        if not left[0]:
            os._exit(9)
        left[0] -= 1
    return replace(self, target)
Path.replace = killed
with whole_set(Path(sys.argv[1]), ["result.npz", "trust.png"]) as made:
    for name in ("result.npz", "summary.png"):
        (made / name).write_text("new")
"""


@pytest.mark.parametrize("moved", [0, 1])
def test_a_run_that_is_killed_in_the_last_step_is_marked_until_the_next(moved: int, folder: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, folder, str(moved)], check=False).returncode == 9
    assert "may be of two results" in (folder / UNFINISHED).read_text()
    with whole_set(folder, ["result.npz", "trust.png"]) as made:
        (made / "result.npz").write_text("newer")
    assert content(folder)["result.npz"] == "newer"
    assert not (folder / UNFINISHED).exists() and not list(folder.glob(".*"))


def test_a_new_folder_is_never_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptycho.core.files.whole_set.atomic_path", None)
    with whole_set(tmp_path / "new") as made:
        (made / "a").write_text("new")
    assert content(tmp_path / "new") == {"a": "new"}
