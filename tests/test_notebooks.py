"""The notebooks: well formed, with the outputs of a run without Jupyter, which writes nothing beside them.

Run as a program, this file is the fresh interpreter in which the cells of one notebook are executed.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LAST_LINE = {
    "analysis_frc": (r"resolution by the one-bit rule: ([\d.]+) nm", 15.0, 30.0),
    "real_scan": (r"relative Fourier error ([\d.]+)", 0.0105, 0.0115),
    "probe_similarity": (r"deviance over that of noise: [\d.]+ -> ([\d.]+)", 0.9, 1.25),
    "simulate_train_reconstruct": (r"refined, deviance over that of noise: ([\d.]+)", 0.9, 1.25),
    "supervised_set": (r"labels and patterns differ by ([\d.]+) %", 2.0, 5.0),
}
"""What the last printed line of each notebook says, and the range that its number lies in."""
LONGEST = {"code": 45, "markdown": 12}
"""Lines of a cell."""
LARGEST = 200_000
"""Bytes of a notebook with its outputs."""


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def code_of(path: Path) -> list[tuple[str, str]]:
    """Name and source of the code cells."""
    cells = read(path)["cells"]
    return [(cell["id"], "".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]


def outputs_of(path: Path) -> list[tuple[str, list[str], int]]:
    """Name, printed lines and number of pictures of the code cells."""
    found = []
    for cell in (cell for cell in read(path)["cells"] if cell["cell_type"] == "code"):
        printed = [line for output in cell["outputs"] for line in output.get("text", ())]
        pictures = [output for output in cell["outputs"] if "image/png" in output.get("data", {})]
        found.append((cell["id"], printed, len(pictures)))
    return found


def execute(path: Path, output: Path, allowed: Path) -> None:
    """Run a notebook, write it with its outputs; exit 1 if a file was made outside `allowed`."""
    sys.path.insert(0, str(ROOT / "scripts" / "docs"))
    from run_notebook import run_cells

    strays = watch(allowed)
    notebook = read(path)
    run_cells(notebook["cells"], path.name)
    output.write_text(json.dumps(notebook), encoding="utf-8")
    if strays:
        sys.exit(f"written outside of {allowed}: {strays}")


def watch(allowed: Path) -> list[str]:
    """A list that gains every file or folder that Python makes or removes outside of `allowed`."""
    import matplotlib

    places = [place.resolve() for place in (allowed, Path(matplotlib.get_cachedir()), Path(os.devnull).parent)]
    strays: list[str] = []

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            changes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        else:
            changes = event in ("os.mkdir", "os.remove", "os.rmdir", "os.rename")
        if changes:
            target = arguments[1 if event == "os.rename" else 0]
            if isinstance(target, (str, bytes, os.PathLike)):
                path = Path(os.fsdecode(target)).resolve()
                if not any(path.is_relative_to(place) for place in places):
                    strays.append(str(path))

    sys.addaudithook(hear)
    return strays


def run(path: Path, folder: Path, scans: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Execute a notebook in a fresh interpreter; everything it writes, done.ipynb too, lies below `folder`."""
    for name in ("work", "temporary"):
        (folder / name).mkdir()
    environment = {
        **os.environ,
        **{"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONDONTWRITEBYTECODE": "1"},
        "TMPDIR": str(folder / "temporary"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "cache"),  # else in the temporary folder, or in that of this process
    }
    if scans is not None:
        environment["PTYCHO_SCANS"] = str(scans.resolve())
    line = [sys.executable, __file__, str(path), str(folder / "done.ipynb"), str(folder)]
    return subprocess.run(line, cwd=folder / "work", env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_every_notebook_is_listed() -> None:
    listed = re.findall(r"\]\((\w+)\.ipynb\)", (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == [path.stem for path in NOTEBOOKS] == sorted(LAST_LINE)


def test_the_structure_is_nbformat_4_5(notebook: Path) -> None:
    found = read(notebook)
    assert set(found) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    assert found["metadata"]["kernelspec"] == {"display_name": "Python 3", "language": "python", "name": "python3"}
    names = [cell["id"] for cell in found["cells"]]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)
    for cell in found["cells"]:
        parts = {"cell_type", "id", "metadata", "source"}
        code = cell["cell_type"] == "code"
        assert set(cell) == (parts | {"execution_count", "outputs"} if code else parts), cell["id"]
        assert cell["cell_type"] in LONGEST
        *lines, last = cell["source"]
        assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)
        assert last.strip() and "\n" not in last


def test_it_is_stored_with_the_outputs_of_a_run_from_top_to_bottom(notebook: Path) -> None:
    assert notebook.stat().st_size < LARGEST
    cells = read(notebook)["cells"]
    assert all(cell["metadata"] == {} for cell in cells)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert {output["output_type"] for cell in code for output in cell["outputs"]} == {"stream", "display_data"}
    assert_last_line(notebook)


def assert_last_line(path: Path, stem: str | None = None) -> None:
    """The last line that a notebook with outputs has printed says a number in its range."""
    pattern, low, high = LAST_LINE[stem or path.stem]
    last = [line for _, printed, _ in outputs_of(path) for line in printed][-1]
    said = re.match(pattern, last)
    assert said, last
    assert low <= float(said[1]) <= high


def test_it_begins_with_a_title_has_short_cells_and_ends_with_a_number(notebook: Path) -> None:
    cells = read(notebook)["cells"]
    assert cells[0]["cell_type"] == "markdown" and cells[0]["source"][0].startswith("# ")
    assert cells[-1]["cell_type"] == "code" and cells[-1]["source"][-1].startswith("print(")
    for cell in cells:
        assert len(cell["source"]) <= LONGEST[cell["cell_type"]], cell["id"]
        assert max(map(len, cell["source"])) <= 121, cell["id"]


def test_it_imports_what_there_is(notebook: Path) -> None:
    for name, source in code_of(notebook):
        for node in ast.walk(ast.parse(source, f"{notebook.name}#{name}")):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ptycho"):
                module = importlib.import_module(str(node.module))
                assert not [alias.name for alias in node.names if not hasattr(module, alias.name)], node.module


def test_a_notebook_that_writes_beside_itself_is_caught(tmp_path: Path) -> None:
    """The check of the next test, on a notebook that leaves a file outside of its folder."""
    (tmp_path / "inside").mkdir()
    target = tmp_path / "stray.txt"
    cell = {"cell_type": "code", "id": "stray", "source": [f"open({str(target)!r}, 'w').close()"]}
    path = tmp_path / "writes.ipynb"
    path.write_text(json.dumps({"cells": [cell]}), encoding="utf-8")
    done = run(path, tmp_path / "inside")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"['{target.resolve()}']")


@pytest.mark.slow
def test_it_runs_leaves_nothing_behind_and_says_what_is_stored(
    notebook: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    scans = request.getfixturevalue("scan_dir") if notebook.stem == "real_scan" else None
    done = run(notebook, tmp_path, scans)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not [*(tmp_path / "work").iterdir(), *(tmp_path / "temporary").iterdir()]
    assert_last_line(tmp_path / "done.ipynb", notebook.stem)
    fresh, stored = outputs_of(tmp_path / "done.ipynb"), outputs_of(notebook)
    for (name, printed, pictures), (_, said, shown) in zip(fresh, stored, strict=True):
        assert pictures == shown, name
        assert [words_of(line) for line in printed] == [words_of(line) for line in said], name


def words_of(line: str) -> list[str]:
    """A printed line without its numbers, which differ from machine to machine."""
    return re.findall(r"[^\W\d_]+", re.sub(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?|\bnan\b", " ", line))


if __name__ == "__main__":
    execute(*map(Path, sys.argv[1:]))
