"""The weights of the package: where they are, and what is said of how they were made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptycho.core.archive import ARCHIVE_NAME, load_archive
from ptycho.networks.universal import UNIVERSAL, taught, training_ranges, weights_file

LARGEST = 5_000_000  # bytes


@pytest.mark.parametrize("named", [None, Path(UNIVERSAL)])
def test_the_weights_of_the_package_are_there(named, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = weights_file(named)
    assert found.is_file() and found.stat().st_size < LARGEST


def test_a_model_under_that_name_is_meant_and_the_folder_of_a_run_is_not(tmp_path, monkeypatch) -> None:
    """`ptycho reconstruct SCAN --model universal -o universal`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / UNIVERSAL).mkdir()
    (tmp_path / UNIVERSAL / "run.json").write_text("{}")
    assert weights_file(Path(UNIVERSAL)) == weights_file(None)
    (tmp_path / UNIVERSAL / ARCHIVE_NAME).write_bytes(b"")
    assert weights_file(Path(UNIVERSAL)) == Path(UNIVERSAL)
    assert weights_file(Path("other")) == Path("other")


def test_they_say_what_made_them() -> None:
    archive = load_archive(weights_file(None))
    made = archive.scan["source"]["simulated"]
    assert Path(made["script"]).name == "universal_weights.py"
    assert made["seconds"] > 600 and made["steps"] > 1000 and made["seeds"][0] == 0 < made["seeds"][1]
    ranges = training_ranges(archive.scan)
    for name in ("overlap", "photons", "modes"):
        assert ranges[name][0] < ranges[name][1]
    assert {"zone_plate", "disk"} <= set(ranges["probes"]) and len(ranges["objects"]) > 3
    assert training_ranges({}) == training_ranges({"source": None}) == {}


def test_who_learned_from_truths_is_known() -> None:
    known = load_archive(weights_file(None)).scan
    assert taught(known) and taught({"source": {"started_from": known["source"]}})
    assert not taught({}) and not taught({"source": {"started_from": {"file": "wts.h5.zip"}}})


def test_they_are_those_of_a_trained_network() -> None:
    weights = load_archive(weights_file(None)).weights
    assert all(np.isfinite(array).all() for array in weights.values())
    heads = [array for name, array in weights.items() if name.endswith("head/kernel")]
    assert len(heads) == 4 and all(np.abs(head).max() > 1e-3 for head in heads), "a head starts at 0"
