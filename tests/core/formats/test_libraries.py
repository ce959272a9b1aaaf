"""Optional libraries are loaded on use, and named with the command that installs them."""

import sys
from pathlib import Path

import pytest

from ptycho.core.formats.libraries import LIBRARIES, library
from ptycho.errors import DataError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert library("json.decoder", "x").__name__ == "json.decoder"
    monkeypatch.setitem(sys.modules, "rsciio", None)
    words = r"a\.mib: expected rosettasciio, found it not installed .*pip install rosettasciio \(extra 'electron'"
    with pytest.raises(DataError, match=words):
        library("rsciio.mib", "a.mib")


def test_the_extras_bring_them() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for package, extra in LIBRARIES.values():
        free = package != "rosettasciio"  # under the GPL: only ever what a user asks for
        for name in (extra, "dev") if free else (extra,):
            assert any(entry.startswith(package) for entry in extras[name]), f"{package} in {name}"
    others = [entry for name, entries in extras.items() if name != "electron" for entry in entries]
    assert not any("rosettasciio" in entry for entry in [*project["dependencies"], *others])
    assert "rosettasciio" not in (Path(__file__).parents[3] / "requirements.lock").read_text(encoding="utf-8")
