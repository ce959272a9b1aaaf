"""The examples in docstrings are run: those of NumPy code and of the public functions, on the scan of the fixtures."""

import doctest
import importlib
from pathlib import Path

import pytest

from ptycho import params

ROOT = Path(__file__).parents[1]
FIXTURE = ROOT / "tests" / "fixtures" / "pytorch_integration" / "minimal_dataset_v1.npz"
SOURCES = sorted(
    path
    for package in ("ptycho", "ptycho_torch")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text()
)
NAMES = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES]


def test_examples_are_found() -> None:
    assert {"ptycho.core.geometry", "ptycho.api.iteration", "ptycho.api.networks", "ptycho.api.results"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_examples_give_what_they_say(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`example` is the path of a scan with 64 patterns, `folder` one to write to; `ptycho` has been imported."""
    monkeypatch.setattr(params, "cfg", dict(params.cfg))  # a training writes to it
    module = importlib.import_module(name)
    known = {"example": FIXTURE, "folder": tmp_path}
    if name.startswith("ptycho.api."):
        import ptycho

        known |= {public: getattr(ptycho, public) for public in ptycho.__all__}
    found = doctest.testmod(module, extraglobs=known)
    assert found.attempted > 0
    assert found.failed == 0
