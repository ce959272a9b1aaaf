"""Sentences that state a default, a promise or a place: documents and descriptions of settings against the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import ptycho
from ptycho.config.config import PyTorchExecutionConfig, TrainingConfig
from ptycho.config.schema import settings_of
from ptycho.core.groups.grouped_data import GroupedData
from ptycho.networks.registry import BUILT_IN
from ptycho.raw_data import RawData
from ptycho.tf.refine import refine
from ptycho_torch import config_params
from ptycho_torch.config.options import options_of

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
SPECS = sorted((ROOT / "specs").glob("*.md"))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def sections(path: Path) -> dict[int, str]:
    """Number -> title of the numbered sections of a document."""
    found = re.findall(r"^## (\d+)\. (.+)$", text_of(path), re.MULTILINE)
    return {int(number): title for number, title in found}


def meaning(kind: type, name: str) -> str:
    return settings_of(kind)[name].doc.text


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_is_done_where_no_rate_or_limit_is_given_is_in_the_recipe(name: str) -> None:
    recipe = BUILT_IN[name].recipe
    assert f"{recipe.learning_rate:g} for {name}" in meaning(PyTorchExecutionConfig, "learning_rate")
    limit = meaning(TrainingConfig, "gradient_clip_val")
    assert f"{'none' if recipe.clip is None else format(recipe.clip, 'g')} for {name}" in limit


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_sections_that_are_named_are_there(path: Path) -> None:
    """`section 3` is of the document itself, `data_contracts.md, section 5` of the one that is named."""
    for file, number in re.findall(r"(?:(\w+\.md), )?section (\d+)", text_of(path)):
        there = path.parent / file if file else path
        assert int(number) in sections(there), f"{path.name}: section {number} of {there.name}"


def test_sections_of_the_configuration_are_those_that_the_sentences_mean() -> None:
    path = ROOT / "specs" / "ptychodus_api_spec.md"
    named = {
        r"\*refused\* for what section (\d)": "Refused",
        r"sections of the shared configuration \(section (\d)\)": "Shared configuration",
        r"interface of section (\d)": "Interface for programs",
    }
    for sentence, title in named.items():
        (number,) = re.findall(sentence, text_of(path))
        assert sections(path)[int(number)] == title


def test_what_the_contract_promises_of_a_grouped_data_set(patterns: RawData) -> None:
    section = text_of(ROOT / "specs" / "data_contracts.md").split("## 2. ", 1)[1].split("\n| key", 1)[0]
    promised = set(re.findall(r"`\.(\w+)", section))
    assert {"amplitudes", "scale"} <= promised
    assert not [name for name in promised if not hasattr(GroupedData, name)]
    grouped = patterns.generate_grouped_data(64, K=4, nsamples=5, seed=3, gridsize=2)
    some = grouped.amplitudes(grouped["nn_indices"][1:3])
    assert "diffraction" in repr(grouped).partition("not made yet")[2]
    np.testing.assert_array_equal(some, grouped["diffraction"][1:3])


def test_a_tensor_as_the_mask_of_the_probe_is_the_mask_itself() -> None:
    mask = np.zeros((64, 64), np.float32)
    mask[20:40, 20:40] = 0.5
    options = options_of(config_params.DataConfig(), config_params.ModelConfig(probe_mask=mask))
    np.testing.assert_array_equal(options.network.mask_array, mask)
    assert "an array: the mask itself" in meaning(config_params.ModelConfig, "probe_mask")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_document_recommends_a_deprecated_flag(path: Path) -> None:
    """`--refine_probe N` of the training is `--find-probe N`; of the inference it is a switch without a number."""
    told = [line for line in text_of(path).splitlines() if re.search(r"--refine[_-]probe[ =](\d|N\b)", line)]
    assert all("still works and warns" in line for line in told), told


def test_what_a_choice_of_method_says_of_the_functions() -> None:
    """`refine` of the API is for either backend, that of `ptycho.tf` for TensorFlow."""
    text = text_of(ROOT / "docs" / "choosing.md")
    assert "`ptycho.tf.refine.refine` is the same in TensorFlow" in text
    assert "`ptycho.refine` takes the backend that is installed" in text
    assert inspect.signature(ptycho.refine).parameters["backend"].default is None
    assert "iterations" in inspect.signature(refine).parameters


def test_errors_under_the_picture_of_the_demo_are_those_of_its_benchmark() -> None:
    demo = text_of(ROOT / "docs" / "benchmarks.md").split("## The demo", 1)[1].split("\n## ", 1)[0]
    rows = {row.split(" | ")[0]: row.split(" | ") for row in re.findall(r"^\| (.+) \|$", demo, re.MULTILINE)}
    network, refined = (float(rows[name][3]) for name in ("one pass of `unrolled`", "refined"))
    readme = text_of(ROOT / "README.md")
    assert f"relative error {network:.3f})" in readme
    assert f"({refined:.4f})" in readme
