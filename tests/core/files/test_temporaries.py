"""What killed runs leave is known by its name, and what lives is left alone."""

import os
import subprocess
import sys
import time
from pathlib import Path

from ptycho.core.files.temporaries import remove_left, temporary_path


def of_process(path: Path, process: int) -> Path:
    """A temporary name as another process of this machine would choose it."""
    mine = temporary_path(path)
    return mine.with_name(mine.name.replace(f"{os.getpid():06x}", f"{process:06x}"))


def ended() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_name_is_hidden_and_has_the_suffix_of_its_target(tmp_path: Path) -> None:
    made = temporary_path(tmp_path / "last.ckpt")
    assert made.parent == tmp_path and made.name.startswith(".last.") and made.suffix == ".ckpt"
    assert made != temporary_path(tmp_path / "last.ckpt")
    assert temporary_path(tmp_path / "folder").suffix != ".folder"


def test_files_and_folders_of_dead_processes_go_and_nothing_else(tmp_path: Path) -> None:
    dead = ended()
    left = [of_process(tmp_path / name, dead) for name in ("last.ckpt", "other.npz", "plain")]
    folder = of_process(tmp_path / "scan.npz.map", dead)
    alive = [of_process(tmp_path / "last.ckpt", os.getppid()), temporary_path(tmp_path / "last.ckpt")]
    user = [tmp_path / name for name in (".last.mine.ckpt", ".x.0123abcd.npz", "last.ckpt", ".profile")]
    for path in (*left, *alive, *user):
        path.touch()
    folder.mkdir()
    (folder / "member").touch()
    remove_left(tmp_path / "result.npz")
    assert sorted(tmp_path.iterdir()) == sorted([*alive, *user])


def test_of_another_machine_only_what_is_old_and_of_this_target_goes(tmp_path: Path) -> None:
    names = [".last.ffffff0000010123.ckpt", ".last.ffffff0000020123.ckpt", ".best.ffffff0000010123.ckpt"]
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.touch()
    for path in paths[1:]:
        os.utime(path, (time.time() - 7200,) * 2)
    remove_left(tmp_path / "last.ckpt")
    assert sorted(tmp_path.iterdir()) == sorted([paths[0], paths[2]])


def test_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove_left(tmp_path / "absent" / "a")
