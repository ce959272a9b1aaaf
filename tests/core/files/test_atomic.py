"""Files appear whole or not at all, and a place that cannot be written gets one clear line."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ptycho.core.files.atomic import atomic_path, new_output_folder, output_folder
from ptycho.errors import OutputError


def test_file_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "result.npz"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".npz"
        temporary.write_bytes(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "result.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("half way")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "atomic"):
        pass
    plain, atomic = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic"))
    assert atomic == plain


def test_missing_folder(tmp_path: Path) -> None:
    missing = pytest.raises(OutputError, match=r"a\.png: expected the folder .*gone, found none")
    with missing, atomic_path(tmp_path / "gone" / "a.png"):
        pytest.fail("the block must not run")


def test_target_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OutputError, match="expected a file, found a folder"), atomic_path(tmp_path / "a.png"):
        pytest.fail("the block must not run")


def test_folder_that_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", refuse)
    refused = pytest.raises(OutputError, match="expected a writable folder, found Permission denied; choose")
    with refused, atomic_path(tmp_path / "a.png"):
        pytest.fail("the block must not run")


def test_full_disk_is_an_output_error_and_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left on device; free"), atomic_path(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        (tmp_path / "input").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_output_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    assert output_folder(tmp_path / "a" / "b").is_dir()
    assert output_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot make the folder .*file"):
        output_folder(tmp_path / "file" / "b")


def test_the_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a crash of the machine could leave an empty file in the place of the former one."""
    target, sync, seen = tmp_path / "a.ckpt", os.fsync, []

    def watched(descriptor: int) -> None:
        seen.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), target.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
    assert seen == [(False, False), (True, True)]


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def as_on_windows(path, *rest) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *rest)

    monkeypatch.setattr(os, "open", as_on_windows)
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_disk_that_is_full_when_it_is_synced_keeps_the_old_file(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "a"
    target.write_text("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device; free"), atomic_path(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_run_left_goes_with_the_next_write(tmp_path: Path) -> None:
    killed = "import os\nfrom pathlib import Path\nfrom ptycho.core.files.atomic import atomic_path\n"
    killed += f"with atomic_path(Path({str(tmp_path / 'a.npz')!r})):\n    os._exit(1)"
    subprocess.run([sys.executable, "-c", killed], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with atomic_path(tmp_path / "b"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "b"]


def test_a_folder_with_a_result_gives_way_to_the_next_number(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert new_output_folder(out) == out
    out.mkdir()
    (out / "wts.h5.zip").touch()  # a model is no result
    assert new_output_folder(out) == out
    (out / "reconstruction.npz").touch()
    assert new_output_folder(out) == tmp_path / "out-2"
    (tmp_path / "out-2").mkdir()
    (tmp_path / "out-2" / "reconstruction.h5").touch()
    assert new_output_folder(out) == tmp_path / "out-3"
    assert new_output_folder(out, overwrite=True) == out
    assert new_output_folder(out, results=("wts.h5.zip",)) == tmp_path / "out-2"
    assert not (tmp_path / "out-3").exists()
