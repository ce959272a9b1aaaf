"""What other packages add: found by entry points, and left out with one line where it does not work."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.formats import registry
from ptycho.core.formats.catalogue import FORMATS, FormatEntry
from ptycho.core.plugins import plugins
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData

GOOD = """
from ptycho.core.formats.catalogue import FormatEntry
ENTRY = FormatEntry({name!r}, "another one", __name__, {container!r}, (".other", ".npz", ".cxi"))
def recognise(file):
    {recognise}
def read(path):
    from ptycho.core.formats.record import ScanRecord
    return ScanRecord()
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`package(module, text, name)` installs one with an entry point `name`; entries are looked up anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.cache_clear()

    def make(module: str, text: str, name: str = "other") -> None:
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / f"{module}.py").write_text(text, encoding="utf-8")
        info = tmp_path / f"{module}_package-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}-package\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{name} = {module}:ENTRY\n")

    yield make
    plugins.cache_clear()


def module(name: str = "other", container: str = "file", recognise: str = "return True") -> str:
    return GOOD.format(name=name, container=container, recognise=recognise)


def names() -> list[str]:
    return list(plugins(registry.GROUP, FormatEntry, tuple(entry.name for entry in FORMATS)))


def test_one_that_works(package, tmp_path: Path) -> None:
    package("plugin_that_works", module())
    (tmp_path / "a.bin").write_bytes(b"anything")
    assert names() == ["other"]
    assert registry.recognise(tmp_path / "a.bin").title == "another one"
    assert registry.target(tmp_path / "a.other").name == "other"


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        ("import a_module_that_is_not_there", "other", "ModuleNotFoundError: No module named 'a_module_that_is_not"),
        ("raise RuntimeError('two\\nlines')", "other", "RuntimeError: two lines"),
        ("def x(:", "other", "SyntaxError: "),
        ("pass", "other", "AttributeError: "),
        ("ENTRY = 3", "other", "expected a FormatEntry, found int"),
        (module("another"), "other", "expected an entry of that name, found 'another'"),
        (module("cxi"), "cxi", "expected a name of its own, found one that is taken"),
    ],
)
def test_one_that_does_not_is_one_line(package, fixture_file: Path, caplog, text, name, problem) -> None:
    """The package is named, and the formats of this library are read as ever."""
    package("plugin_that_fails", text, name)
    with caplog.at_level(logging.WARNING, "ptycho"):
        assert names() == []
        assert names() == []
    (line,) = caplog.messages
    point = f"{name} = plugin_that_fails:ENTRY"
    assert line.startswith(f"package plugin_that_fails-package: {point} is left out: {problem}")
    assert line.endswith("; update or remove it")
    assert "\n" not in line
    assert registry.recognise(fixture_file).name == "scan"
    assert len(RawData.from_file(fixture_file)) == 64


def test_one_that_fails_on_a_file(package, tmp_path: Path, caplog) -> None:
    package("plugin_that_trips", module(recognise="raise KeyError('header')"))
    (tmp_path / "a.bin").write_bytes(b"anything")
    with pytest.raises(DataError, match=r"a\.bin: expected one of scan NPZ, .*another one, found a file that begins"):
        registry.recognise(tmp_path / "a.bin")
    (line,) = caplog.messages
    assert line == "format other of plugin_that_trips is left out: KeyError: 'header'; update or remove it"


def test_formats_of_this_library_come_first(package, fixture_file: Path, tmp_path: Path) -> None:
    """A package that takes every archive is asked for those alone that nobody here knows; suffixes stay ours too."""
    package("plugin_that_takes_all", module(container="npz"))
    np.savez(tmp_path / "b.npz", something=np.ones(3))
    assert registry.recognise(fixture_file).name == "scan"
    assert registry.recognise(tmp_path / "b.npz").name == "other"
    assert not registry.is_added(fixture_file)
    assert registry.is_added(tmp_path / "b.npz")
    assert [registry.target(Path(name)).name for name in ("a.npz", "a.cxi", "a.other")] == ["scan", "cxi", "other"]


def test_a_format_that_nobody_has_lists_those_that_there_are(package) -> None:
    package("plugin_that_works_too", module())
    with pytest.raises(ConfigError, match=r"--to: expected one of scan, .*tiff, other, found 'matlab'"):
        registry.target(Path("a.npz"), "matlab")
