"""The tree: what lies at the top, which way imports point, who mirrors whom, and who reads the legacy dictionary."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("ptycho", "ptycho_torch")

BASE = {
    "ptycho": {"__main__", "errors", "params", "raw_data"},
    "ptycho_torch": {
        *("config_params", "config_bridge", "config_factory", "lightning_utils", "train", "inference", "images"),
    },
}
"""Files at the top that hold more than imports; those of `ptycho_torch` beside the twins of `ptycho/tf`."""


@cache
def modules() -> dict[str, Path]:
    """Every module of both packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def imported(name: str) -> set[str]:
    """Modules of this project that a module imports: at its top, in a function, or for types alone."""
    known, found = modules(), set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = inner & known.keys()
            found |= submodules
            if len(submodules) < len(inner):
                found.add(node.module)
    return {one for one in found if one in known and one != name}


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in arrows[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            circle = []
            while not circle or circle[-1] != node:
                circle.append(stack.pop())
            if len(circle) > 1:
                found.append(sorted(circle))

    for node in arrows:
        if node not in index:
            visit(node)
    return found


def room(name: str) -> str:
    """The folder of a module."""
    path = modules()[name]
    return ".".join(path.parent.relative_to(ROOT).parts)


def is_face(name: str) -> bool:
    """Whether a module holds a docstring, imports and `__all__`, and nothing else."""
    for node in tree_of(name).body:
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        names = isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
        if not (text or names or isinstance(node, ast.Import | ast.ImportFrom)):
            return False
    return True


def test_a_file_at_the_top_only_passes_names_on() -> None:
    twins = {name.rpartition(".")[2] for name in modules() if name.startswith("ptycho.tf.")}
    for package, base in BASE.items():
        own = {name for name in modules() if room(name) == package and name != package}
        held = {name.rpartition(".")[2] for name in own if not is_face(name)}
        assert held == base | (twins & held if package == "ptycho_torch" else set())


def test_a_face_is_told_from_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    face = '"""A face."""\nfrom ptycho.core.geometry import x\n__all__ = ["x"]'
    for text, expected in ((face, True), (f"{face}\ny = 1", False), (f"{face}\ndef f():\n    pass", False)):
        monkeypatch.setattr(sys.modules[__name__], "tree_of", lambda _name, text=text: ast.parse(text))
        assert is_face("any") is expected


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def listed_rooms() -> dict[str, set[str]]:
    """The modules of every folder as the tree in docs/architecture.md has them; `__init__` is not listed."""
    tree = READERS.read_text(encoding="utf-8").split("## The tree", 1)[1].split("```")[1]
    found: dict[str, set[str]] = {}
    for line in tree.splitlines():
        if line.startswith("ptycho"):
            folder = line.split()[0].rstrip("/").replace("/", ".")
            assert folder not in found, f"{folder} is listed twice"
            found[folder] = set()
        elif line.strip():
            found[folder] |= set(line.split())
    return found


def test_the_tree_is_the_one_of_the_document() -> None:
    there: dict[str, set[str]] = {}
    for name, path in modules().items():
        inside = there.setdefault(room(name), set())
        if path.stem != "__init__":
            inside.add(path.stem)
    assert listed_rooms() == there


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles({name: imported(name) for name in modules()}) == []


def test_arrows_between_the_folders_of_core_run_one_way() -> None:
    names = [name for name in modules() if name.startswith("ptycho.core.")]
    arrows: dict[str, set[str]] = {}
    for name in names:
        here = room(name) if room(name) != "ptycho.core" else name
        for other in imported(name):
            if other.startswith("ptycho.core."):
                there = room(other) if room(other) != "ptycho.core" else other
                arrows.setdefault(here, set())
                arrows.setdefault(there, set())
                if there != here:
                    arrows[here].add(there)
    assert circles(arrows) == []


READERS = ROOT / "docs" / "architecture.md"
WRITES = {"update", "clear"}
"""Methods of the legacy dictionary that only write."""
READING = {"get", "params", "get_bigN", "get_padded_size", "validate"}
"""Functions of `ptycho.params` that read the legacy dictionary."""


def parents(tree: ast.Module) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def legacy_reads(name: str) -> list[int]:
    """Lines on which a module reads `params.cfg`: all but assignments of a key, `.update(...)` and the like.

    Handing the dictionary to `update_legacy_dict` writes it.
    """
    tree, found = tree_of(name), []
    above = parents(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "ptycho.params":
            found.append(node.lineno)
        if not isinstance(node, ast.Attribute) or ast.unparse(node.value) not in ("params", "ptycho.params"):
            continue
        parent = above[node]
        if node.attr in READING:
            found.append(node.lineno)
        elif node.attr == "cfg":
            stores = isinstance(parent, ast.Subscript) and isinstance(parent.ctx, ast.Store | ast.Del)
            writes = isinstance(parent, ast.Attribute) and parent.attr in WRITES
            mirrors = isinstance(parent, ast.Call) and ast.unparse(parent.func).endswith("update_legacy_dict")
            if not (stores or writes or mirrors):
                found.append(node.lineno)
    return found


def listed_readers() -> set[str]:
    """The modules that docs/architecture.md lets read `params.cfg`: bullets that begin with a module in backquotes."""
    section = READERS.read_text(encoding="utf-8").split("## Who reads `params.cfg`", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"^\* `(ptycho[\w.]*)`", section, re.MULTILINE))


def test_the_legacy_dictionary_is_read_where_the_documents_say() -> None:
    found = {name: legacy_reads(name) for name in modules() if name != "ptycho.params"}
    assert {name for name, lines in found.items() if lines} == listed_readers()


def test_a_read_of_the_legacy_dictionary_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {
        "params.cfg['a'] = 1": [],
        "params.cfg.update(a=1)": [],
        "update_legacy_dict(params.cfg, config)": [],
        "a = params.cfg['a']": [1],
        "a = params.cfg.get('a')": [1],
        "a = params.get('a')": [1],
        "a = dict(ptycho.params.cfg)": [1],
        "from ptycho.params import cfg": [1],
    }
    for line, expected in lines.items():
        monkeypatch.setattr(sys.modules[__name__], "tree_of", lambda _name, line=line: ast.parse(line))
        assert legacy_reads("any") == expected, line
