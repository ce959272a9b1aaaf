"""The code on the pages runs: every Python block and every command, page by page, from top to bottom, on a small scan.

Each page has a folder of its own with the files that its blocks name, and one namespace. Trainings are cut to one short
epoch, refinements to a few iterations, the doctor goes without its reconstructions; but for the README, pictures stay
blank and TensorFlow makes no graphs: what is tested is that a reader can type it. A block that cannot run here says so
in a comment before it, `<!-- not run: reason -->`.
"""

from __future__ import annotations

import copy
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest

from ptycho import params
from ptycho.raw_data import RawData

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "specs").glob("*.md")])
BLOCK = re.compile(
    r"^(?:<!-- not run: ?(?P<reason>.*?) ?-->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE
)
LANGUAGES = ("bash", "python", "text", "yaml")
MEASURED = ("docs/your_data.md", "docs/probe.md")
"""Pages whose results are compared with the truth, each by a test of its own."""
FEWER = (
    (r"\bnepochs=\d+", "nepochs=1"),
    (r'"epochs": \d+', '"epochs": 1'),
    (r'"n_groups": \d+', '"n_groups": 8'),
    (r"\biterations=\d+", "iterations=3"),
    (r"\brefine_iterations=\d+", "refine_iterations=3"),
)
"""What is made smaller in Python, by pattern."""
ENERGY_KEV, DISTANCE_M, DETECTOR_PIXEL_M = 8.0, 2.0, 55e-6


class Block(NamedTuple):
    language: str
    text: str
    reason: str | None


def blocks_of(page: Path) -> list[Block]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(block["language"], block["text"], block["reason"]) for block in found]


def runs(page: Path) -> list[Block]:
    """The blocks of a page that are run."""
    return [block for block in blocks_of(page) if block.language in ("bash", "python") and block.reason is None]


def uses_a_network(page: Path) -> bool:
    """Whether a page trains or loads one, which takes long enough to leave to the slow tests."""
    return any(
        re.search(r"_train\b|\.train |run_cdi_example|train_cdi|model[-_]path", block.text) for block in runs(page)
    )


def begins_with_a_model(page: Path) -> bool:
    """Whether the first command with a network loads one that is there."""
    words = [
        word for block in runs(page) for word in re.findall(r"_train\b|\.train |--model[-_]path|train_cdi", block.text)
    ]
    return words[:1] in (["--model_path"], ["--model-path"])


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def case(page: Path) -> Any:
    return pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] if uses_a_network(page) else [])


def write_scans(folder: Path, commands: Any, side: int) -> None:
    """The files that the pages name: a simulated scan, the same as a detector wrote it, folders of it."""
    flags = ["--quiet", "--size", str(side), "--photons", "1e6", "--units", "counts"]
    assert commands.find_command("ptycho")(["simulate", "--output", str(folder / "scan.npz"), *flags]) == 0
    for copied in ("test.npz", "train_data.npz", "test_data.npz"):
        shutil.copyfile(folder / "scan.npz", folder / copied)
    for day in ("monday", "tuesday"):
        (folder / day).mkdir()
        shutil.copyfile(folder / "scan.npz", folder / day / "train_data.npz")
    write_as_detector(RawData.from_file(folder / "scan.npz"), folder)


def write_as_detector(scan: RawData, folder: Path) -> None:
    """Frames with a margin around the pattern, off the middle, and positions in micrometres."""
    frames = np.zeros((len(scan), 96, 100), np.uint16)
    frames[:, 12:76, 20:84] = np.minimum(scan.diff3d, 65534)
    pixel_m = 12.398e-10 / ENERGY_KEV * DISTANCE_M / (scan.N * DETECTOR_PIXEL_M)
    with h5py.File(folder / "frames.h5", "w") as file:
        file["entry/data/data"] = frames
    np.savetxt(folder / "positions.txt", 1e6 * pixel_m * np.column_stack([scan.xcoords - 70, scan.ycoords - 70]))


@pytest.fixture(scope="module")
def commands() -> Iterator[Any]:
    """The table of the library's commands that the documentation is made from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts" / "docs"))
        import commands as table

        yield table


@pytest.fixture
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: Any
) -> Iterator[Path]:
    """The working folder with those files, of an object of 100 pixels or `param`; `params.cfg` is put back."""
    before = copy.copy(params.cfg)
    monkeypatch.chdir(tmp_path)
    write_scans(tmp_path, commands, getattr(request, "param", 100))
    yield tmp_path
    params.cfg.clear()
    params.cfg.update(before)


def run_page(page: Path, commands: Any) -> dict[str, Any]:
    """Run the blocks of a page; the namespace of its Python."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.language == "yaml":
            Path("settings.yaml").write_text(block.text, encoding="utf-8")
        elif block.reason is not None:
            continue
        elif block.language == "bash":
            for words in command_lines(block.text):
                assert run_command(words, commands) in expected_status(words), shlex.join(words)
        elif block.language == "python":
            exec(compile(shortened(block.text), name_of(page), "exec"), namespace)
    return namespace


def command_lines(text: str) -> list[list[str]]:
    lines = (shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines())
    return [line for line in lines if line]


def run_command(words: Sequence[str], commands: Any) -> int:
    """Run a command of the library in this process.

    Raises:
        AssertionError: it is none.
    """
    names = (" ".join(words[:3]), words[0])
    name = next((name for name in names if name in commands.COMMANDS), None)
    assert name is not None, f"expected a command of the library or a reason not to run it, found {shlex.join(words)}"
    status: int = commands.find_command(name)([*words[len(name.split()) :], *shorter(words, name)])
    return status


def shorter(words: Sequence[str], name: str) -> Sequence[str]:
    """Flags that make a command short; the last of a flag counts."""
    if name.endswith("train"):
        return ("--nepochs", "1", "--n_groups", "8", "--n_filters_scale", "1", "--find-probe", "0")
    if "doctor" in words:
        return ("--no-trials",)
    if "reconstruct" in words or "frc" in words:
        return ("--iterations", "3", "--modes", "none", "--refine-probe", "true")
    return ("--refine", "3") if name.endswith("inference") and "--no-refine" not in words else ()


def expected_status(words: Sequence[str]) -> tuple[int, ...]:
    """The doctor may find a fault in a scan of few patterns."""
    return (0, 1) if words[:2] == ["ptycho", "doctor"] else (0,)


def shortened(text: str) -> str:
    for pattern, fewer in FEWER:
        text = re.sub(pattern, fewer, text)
    return text


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_block_says_its_language_and_why_it_is_not_run(page: Path) -> None:
    fences = re.findall(r"^```(\w*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert sum(language != "" for language in fences) == len(blocks_of(page))
    assert {block.language for block in blocks_of(page)} <= set(LANGUAGES)
    assert all(block.reason is None or len(block.reason.split()) >= 3 for block in blocks_of(page))


@pytest.mark.parametrize("page", [case(page) for page in PAGES if runs(page) and name_of(page) not in MEASURED])
def test_the_blocks_of_a_page_run(page: Path, folder: Path, commands: Any, request: pytest.FixtureRequest) -> None:
    if page.name != "README.md":
        request.getfixturevalue("without_graphs")
    if begins_with_a_model(page):
        train = ["ptycho_train", "--backend", "pytorch", "--train_data_file", "scan.npz", "--output_dir", "model"]
        assert run_command(train, commands) == 0
    run_page(page, commands)


def test_frames_and_positions_become_the_scan_that_was_simulated(folder: Path, commands: Any) -> None:
    run_page(ROOT / "docs" / "your_data.md", commands)
    truth, made = RawData.from_file("scan.npz"), np.load("measured.npz")
    np.testing.assert_array_equal(made["diffraction"], truth.diff3d)
    shift = made["xcoords"][0] - truth.xcoords[0], made["ycoords"][0] - truth.ycoords[0]
    np.testing.assert_allclose(made["xcoords"], truth.xcoords + shift[0], atol=1e-3)
    np.testing.assert_allclose(made["ycoords"], truth.ycoords + shift[1], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("folder", [160], indirect=True)
def test_the_probe_that_is_made_from_the_patterns_is_the_true_one(folder: Path, commands: Any) -> None:
    truth = RawData.from_file("scan.npz").probeGuess
    run_page(ROOT / "docs" / "your_data.md", commands)
    run_page(ROOT / "docs" / "probe.md", commands)
    found = RawData.from_file("scan.npz").probeGuess.reshape(truth.shape)
    assert abs(np.vdot(found, truth)) / (np.linalg.norm(found) * np.linalg.norm(truth)) > 0.99
