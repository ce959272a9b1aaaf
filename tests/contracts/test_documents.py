"""The documents: commands with flags that exist, Python that finds the names it imports, links that lead somewhere."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "specs").glob("*.md")])


def names(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str) -> Iterator[str]:
    """Fenced blocks of a language."""
    yield from re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@cache
def table_of_commands() -> ModuleType:
    """The table of the library's commands that the documentation is made from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts" / "docs"))
        return importlib.import_module("commands")


@cache
def flags_of(name: str) -> frozenset[str]:
    """The flags that a command takes, those of its operations included."""
    parser = table_of_commands().parser_of(name)
    parsers = [parser, *table_of_commands().operations_of(parser).values()]
    return frozenset(flag for one in parsers for action in one._actions for flag in action.option_strings)


def full_help(name: str) -> str:
    """The flag that shows every flag of a subcommand."""
    return "--help-all" if name in ("train", "inference") else "--help"


def called(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Commands of this library in the document's shell blocks, with their arguments."""
    for block in blocks(path, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            name = next((n for n in (" ".join(words[:3]), *words[:1]) if n in table_of_commands().COMMANDS), None)
            if name == "ptycho" and not words[1].startswith("-"):
                yield " ".join(words[:2]), words[2:]
            elif name and name != "ptycho":
                yield name, words[len(name.split()) :]


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if any(called(path))], ids=names)
def test_commands_have_the_flags_that_they_are_called_with(path: Path) -> None:
    for name, arguments in called(path):
        flags = {word.partition("=")[0].replace("_", "-") for word in arguments if word.startswith("--")}
        unknown = flags - flags_of(name)
        assert not unknown, f"{name} in {names(path)}"


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if any(blocks(path, "python"))], ids=names)
def test_python_compiles_and_imports_what_there_is(path: Path) -> None:
    for block in blocks(path, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ptycho"):
                module = importlib.import_module(node.module)
                missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert not missing, f"{node.module} in {names(path)}"
            if isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)


@pytest.mark.parametrize("path", DOCUMENTS, ids=names)
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8"))
    missing = [link for link in targets if "://" not in link and not (path.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=names)
def test_modules_and_files_that_are_named_are_there(path: Path) -> None:
    """`package.module`, `package/file.py` and `scripts/...` in running text."""
    text = path.read_text(encoding="utf-8")
    files = set(re.findall(r"`((?:ptycho|ptycho_torch|scripts|tests|specs|docs)/[\w/.-]+\.(?:py|md))", text))
    assert not [name for name in files if not (ROOT / name).exists()]
    for name in set(re.findall(r"`((?:ptycho|ptycho_torch)(?:\.\w+)+)", text)):
        found = importlib.import_module(name.partition(".")[0])
        for part in name.split(".")[1:]:
            if not hasattr(found, part):
                found = importlib.import_module(f"{found.__name__}.{part}")
            else:
                found = getattr(found, part)
