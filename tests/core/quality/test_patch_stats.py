"""Statistics of patches: by hand, in parts, as files, and two runs side by side."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from ptycho.config.options import PatchStatsOptions
from ptycho.core.quality.patch_stats import (
    COMPARED,
    Moments,
    batch_statistics,
    compare_statistics,
    read_statistics,
    write_batch_statistics,
)
from ptycho.errors import ConfigError, DataError, MissingFileError


def patches(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.uniform(0.5, 2, shape) * np.exp(1j * rng.uniform(-3, 3, shape))).astype(np.complex64)


def test_a_batch_by_hand() -> None:
    batch = np.array([[[[1, 3], [1j, -3j]], [[2, 2], [2, 2]]]], np.complex64)
    assert batch_statistics(batch, "inference", 4) == {
        "phase": "inference",
        "batch_idx": 4,
        "batch_size": 1,
        "global_mean": 2.0,
        "global_std": 0.5**0.5,
        "var_zero_mean": 0.5,
        "per_patch": [
            {"patch_idx": 0, "mean": 2.0, "std": 1.0, "var_zero_mean": 1.0, "min": 1.0, "max": 3.0},
            {"patch_idx": 1, "mean": 2.0, "std": 0.0, "var_zero_mean": 0.0, "min": 2.0, "max": 2.0},
        ],
    }


def test_members_of_a_group_follow_each_other(rng: np.random.Generator) -> None:
    batch = patches(rng, 3, 4, 5, 5)
    found = batch_statistics(batch, "train", 0)
    assert (found["batch_size"], [entry["patch_idx"] for entry in found["per_patch"]]) == (3, list(range(12)))
    assert found["per_patch"][6]["mean"] == pytest.approx(np.abs(batch[1, 2]).mean(), rel=1e-6)


def test_the_variance_is_about_the_mean_and_does_not_cancel() -> None:
    wave = 1e-3 * np.array([[1.0, -1.0], [-1.0, 1.0]])
    found = batch_statistics((1000 + wave).astype(np.complex128)[None, None], "train", 0)
    assert found["var_zero_mean"] == pytest.approx(1e-6, rel=1e-6)


def test_what_is_not_finite_becomes_none(rng: np.random.Generator) -> None:
    batch = patches(rng, 2, 1, 3, 3)
    batch[1, 0, 0, 0] = np.inf
    found = batch_statistics(batch, "train", 0)
    assert found["global_mean"] is found["var_zero_mean"] is found["per_patch"][1]["max"] is None
    assert found["per_patch"][0]["mean"] == pytest.approx(np.abs(batch[0]).mean(), rel=1e-6)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("cuts", [[0, 70], [0, 1, 1, 30, 70], list(range(71))])
def test_moments_of_parts_are_those_of_the_whole(cuts: list[int], rng: np.random.Generator) -> None:
    values, moments = 1e4 + rng.standard_normal(70), Moments()
    for start, stop in itertools.pairwise(cuts):
        moments.add(values[start:stop])
    assert moments.count == 70
    assert moments.mean == pytest.approx(values.mean(), rel=1e-14)
    assert moments.variance == pytest.approx(values.var(), rel=1e-9)
    assert moments.as_dict()["std"] == pytest.approx(values.std(), rel=1e-9)


def test_moments_of_nothing_are_none() -> None:
    assert Moments().as_dict() == dict.fromkeys(COMPARED)


def test_no_batch_is_made_beyond_the_limit(rng: np.random.Generator, tmp_path: Path) -> None:
    made = []

    def batches():
        for index in range(5):
            made.append(index)
            yield patches(rng, 2, 1, 3, 3)

    path = write_batch_statistics(tmp_path / "s.json", batches(), "train", limit=3)
    assert ([entry["batch_idx"] for entry in json.loads(path.read_text())], made) == ([0, 1, 2], [0, 1, 2])


@pytest.mark.parametrize(("first", "second"), [(2, 1), (0, 2), (1, 0), (0, 0)])
def test_a_second_purpose_goes_behind_the_first(first: int, second: int, rng: np.random.Generator, tmp_path) -> None:
    path = tmp_path / "s.json"
    write_batch_statistics(path, [patches(rng, 1, 1, 3, 3)] * first, "train")
    write_batch_statistics(path, [patches(rng, 1, 1, 3, 3)] * second, "inference", after=path)
    purposes = [entry["phase"] for entry in json.loads(path.read_text())]
    assert purposes == ["train"] * first + ["inference"] * second
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.json"]


def test_an_error_on_the_way_leaves_what_was_there(rng: np.random.Generator, tmp_path: Path) -> None:
    path = write_batch_statistics(tmp_path / "s.json", [patches(rng, 1, 1, 3, 3)], "train")
    before = path.read_bytes()

    def broken():
        yield patches(rng, 1, 1, 3, 3)
        raise DataError("no more")

    with pytest.raises(DataError, match="no more"):
        write_batch_statistics(path, broken(), "train")
    assert (path.read_bytes(), len(list(tmp_path.iterdir()))) == (before, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"log_patch_stats": True, "patch_stats_limit": 0},
            "patch_stats_limit=0: expected a whole number at least 1 or none",
        ),
        ({"patch_stats_limit": 2}, "patch_stats_limit=2 limits statistics that are not written"),
    ],
)
def test_options_that_cannot_work(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PatchStatsOptions(**settings)


def test_a_list_of_batches_is_pooled_over_its_last_purpose(rng: np.random.Generator, tmp_path: Path) -> None:
    whole = patches(rng, 5, 2, 3, 3)
    path = write_batch_statistics(tmp_path / "s.json", [9 * whole], "train")
    write_batch_statistics(path, [whole[:2], whole[2:]], "inference", after=path)
    found = read_statistics(path)
    amplitude = np.abs(whole).astype(np.float64)
    expected = {"mean": amplitude.mean(), "std": amplitude.std(), "var_zero_mean": amplitude.var()}
    assert found == {"patch": pytest.approx(expected, rel=1e-12)}


def test_a_folder_names_its_statistics(tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(MissingFileError, match="run with --log-patch-stats"):
        read_statistics(tmp_path)
    (tmp_path / "analysis").mkdir()
    batch = [patches(rng, 1, 1, 3, 3)]
    one = write_batch_statistics(tmp_path / "analysis" / "torch_patch_stats.json", batch, "train")
    assert read_statistics(tmp_path) == read_statistics(one)
    write_batch_statistics(tmp_path / "analysis" / "tf_patch_stats.json", batch, "train")
    with pytest.raises(DataError, match=r"expected one file of statistics, found .*tf_patch_stats.json, .*torch_"):
        read_statistics(tmp_path)
    zero = dict.fromkeys(COMPARED, 0.0)
    (tmp_path / "stats.json").write_text(json.dumps({"patch": zero, "canvas": zero}))
    assert read_statistics(tmp_path) == {"patch": zero, "canvas": zero}


@pytest.mark.parametrize("text", ["{", "{}", "[]", "[3]", "3", '{"patch": {"mean": 1}}'])
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "stats.json").write_text(text)
    with pytest.raises(DataError, match=r"stats.json: expected statistics of patches"):
        read_statistics(tmp_path)


def test_ratios_and_what_has_none() -> None:
    found = {"patch": {"mean": 3.0, "std": 2.0, "var_zero_mean": 4.0}, "canvas": dict.fromkeys(COMPARED, 1.0)}
    baseline = {"patch": {"mean": 1.5, "std": 0.0, "var_zero_mean": None}}
    ratios = compare_statistics(found, baseline)
    assert [(each.name, each.ratio, each.status) for each in ratios] == [
        ("ratio_patch_mean", 2.0, "ok"),
        ("ratio_patch_std", None, "zero baseline"),
        ("ratio_patch_var_zero_mean", None, "not finite"),
    ]
    with pytest.raises(DataError, match="found patch and canvas and none"):
        compare_statistics(found, {})
