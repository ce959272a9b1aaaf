"""Triton after TensorFlow: with a stand-in for its library, and with Triton where it is installed."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ptycho_torch.lightning.triton_library import load_triton

PACKAGE = Path(__file__).parents[3] / "ptycho_torch"
LIBRARY = "triton._C.libtriton"
DEEP = pytest.mark.skipif(not hasattr(os, "RTLD_DEEPBIND"), reason="a flag of the loader of Linux")


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`stand_in(text)`: a library of that text in Python, to be loaded in the place of Triton's."""
    for name in [one for one in sys.modules if one.partition(".")[0] == "triton"]:
        monkeypatch.delitem(sys.modules, name)

    def write(text: str) -> None:
        (tmp_path / "triton" / "_C").mkdir(parents=True)
        (tmp_path / "triton" / "__init__.py").write_text("import triton._C.libtriton\n")
        (tmp_path / "triton" / "_C" / "__init__.py").touch()
        (tmp_path / "triton" / "_C" / "libtriton.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))

    yield write
    for name in ("triton", "triton._C", LIBRARY):
        sys.modules.pop(name, None)


@DEEP
def test_the_library_is_bound_to_its_own_symbols_and_nothing_else_is(stand_in) -> None:
    stand_in("import sys; flags = sys.getdlopenflags()")
    before = sys.getdlopenflags()
    load_triton()
    assert sys.modules[LIBRARY].flags == before | os.RTLD_DEEPBIND
    assert sys.getdlopenflags() == before


@DEEP
def test_one_that_does_not_load_is_left_to_torch(stand_in) -> None:
    stand_in("raise ImportError('libtriton.so: cannot open shared object file')")
    before = sys.getdlopenflags()
    load_triton()
    assert sys.getdlopenflags() == before


def imports_of(path: Path) -> list[str]:
    """Modules that a file imports at its top, in their order."""
    found: list[str] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return found


def test_whoever_imports_lightning_imports_the_package_that_loads_it_first() -> None:
    """A module of that package cannot be imported without it."""
    users = {path: imports_of(path) for path in PACKAGE.rglob("*.py") if path.parent.name != "lightning"}
    users = {path: names for path, names in users.items() if any(n.partition(".")[0] == "lightning" for n in names)}
    assert {path.name for path in users} >= {"fit.py", "training.py"}
    for path, names in users.items():
        assert names[:2] == ["__future__", "ptycho_torch.lightning"], path


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed: torch for the CPU")
def test_tensorflow_and_then_lightning_live_in_one_process() -> None:
    line = "import tensorflow, ptycho_torch.fit, triton"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
