"""Memory is foretold: a canvas that does not fit is refused before anything is made."""

from pathlib import Path

import pytest

from ptycho.core import memory
from ptycho.core.geometry import ObjectFrame
from ptycho.core.memory import available_bytes, check_room, object_bytes
from ptycho.errors import DataError


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 3 GiB left, in a container without a limit."""
    for name, text in {"_MEMINFO": "MemTotal: 9 kB\nMemAvailable: 3145728 kB\n", "_LIMIT": "max", "_USED": "5"}.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(memory, name, tmp_path / name)
    return tmp_path


def test_of_machine_and_container_the_smaller_counts(machine: Path) -> None:
    assert available_bytes() == 3 << 30
    (machine / "_LIMIT").write_text(str(1 << 30))
    assert available_bytes() == (1 << 30) - 5
    for path in machine.iterdir():
        path.unlink()
    assert available_bytes() is None
    check_room(ObjectFrame(10**6, 10**6, 0, 0))


def test_what_does_not_fit_is_refused_with_both_numbers(machine: Path) -> None:
    assert object_bytes(ObjectFrame(2000, 6000, 0, 0)) == 216 * 12_000_000
    check_room(ObjectFrame(2000, 6000, 0, 0))
    with pytest.raises(DataError, match=r"room for 9\.7 GiB, .* object of 6000 x 8000 pixels takes, found 3\.0 GiB"):
        check_room(ObjectFrame(8000, 6000, 0, 0))
