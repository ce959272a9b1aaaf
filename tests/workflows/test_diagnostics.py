"""What a run writes about its patches: lists, pictures, dumps; the flags that ask for it; two runs compared."""

import importlib.util
import json
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from ptycho import params
from ptycho.cli.infer import inference_main
from ptycho.cli.train import train_main
from ptycho.core.geometry import ObjectFrame
from ptycho.core.quality.patch_stats import batch_statistics, write_batch_statistics
from ptycho.errors import ConfigError
from ptycho.figures import drawing
from ptycho.figures import patches as figure_patches
from ptycho.figures.patches import mosaic, normalised_patches, save_patch_grid
from ptycho.tf.backend import warn_of_ignored_variables
from ptycho.workflows.diagnostics import Diagnostics, make_diagnostics
from ptycho.workflows.networks.stitch_scan import StitchedObject

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare_patch_stats.py"


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "DPI", 40)


@pytest.fixture
def patches(rng: np.random.Generator) -> np.ndarray:
    """5 groups of 4 patches of 6 x 6 pixels."""
    return (rng.uniform(0.5, 2, (5, 4, 6, 6)) * np.exp(1j * rng.uniform(-3, 3, (5, 4, 6, 6)))).astype(np.complex64)


@pytest.fixture
def stitched() -> StitchedObject:
    image = np.array([[1, 3j, 7], [-1, 3, 7]], np.complex64)
    coverage = np.array([[1, 1, 0], [2, 2, 0]], np.float32)
    return StitchedObject(image, coverage, np.zeros((2, 3), np.float32), True, (0.5, float("nan")), (0.0, 0.25))


def read(path: Path) -> Any:
    return json.loads(path.read_text())


class TestPictures:
    def test_places_row_by_row(self) -> None:
        image = mosaic(np.arange(3.0)[:, None, None] + np.zeros((3, 2, 2)))
        assert image.shape == (6, 6)
        np.testing.assert_array_equal(image[[0, 0, 4, 0, 4], [0, 4, 1, 2, 4]], [0, 1, 2, np.nan, np.nan])

    def test_each_patch_is_spanned_by_itself(self) -> None:
        found = normalised_patches(np.array([[[1.0, 1.5], [2, 3]], [[4, 4], [4, 4]]]))
        np.testing.assert_array_equal(found, [[[0, 0.25], [0.5, 1]], [[0.5, 0.5], [0.5, 0.5]]])

    @pytest.mark.parametrize(("normalised", "limits"), [(True, (0, 1)), (False, (1, 4))])
    def test_colours(self, normalised: bool, limits: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        kept: list[Figure] = []
        monkeypatch.setattr(figure_patches, "save_figure", lambda figure, path: kept.append(figure) or path)
        save_patch_grid(np.array([[[1.0, 2], [3, 4]], [[1, 2], [3, 4]]]), tmp_path / "p.png", "2 of 9", normalised)
        image = kept[0].axes[0].get_images()[0]
        assert image.get_clim() == limits
        assert kept[0].axes[0].get_title() == "2 of 9"


class TestDiagnostics:
    @pytest.fixture
    def pictures(self) -> None:
        """They are drawn: they are looked at here."""

    @pytest.mark.parametrize(("backend", "prefix"), [("pytorch", "torch"), ("tensorflow", "tf")])
    def test_statistics_and_picture_of_each_purpose(self, backend, prefix, patches, tmp_path: Path) -> None:
        found = make_diagnostics(tmp_path / "run", backend, 2, log_patch_stats=True)
        found.trained([patches[:3], patches[3:]])
        found.predicted(patches)
        assert [path.relative_to(tmp_path / "run" / "analysis").name for path in found.written] == [
            f"{prefix}_patch_stats.json",
            f"{prefix}_patch_grid.png",
        ]
        entries = read(found.written[0])
        assert [(entry["phase"], entry["batch_size"]) for entry in entries] == [
            *[("train", 3), ("train", 2)],
            *[("inference", 2), ("inference", 2), ("inference", 1)],
        ]
        assert entries[4] == batch_statistics(patches[4:], "inference", 2)
        assert imread(found.written[1]).shape[0] > 200

    def test_a_file_of_an_earlier_run_is_replaced(self, patches: np.ndarray, tmp_path: Path) -> None:
        for _ in range(2):
            make_diagnostics(tmp_path, "pytorch", log_patch_stats=True).predicted(patches)
        assert len(read(tmp_path / "analysis" / "torch_patch_stats.json")) == 1

    def test_the_limit_holds_for_each_purpose(self, patches: np.ndarray, tmp_path: Path) -> None:
        found = make_diagnostics(tmp_path, "pytorch", 1, log_patch_stats=True, patch_stats_limit=2)
        found.trained(patches[k : k + 1] for k in range(5))
        found.predicted(patches)
        assert [(entry["phase"], entry["batch_idx"]) for entry in read(found.written[0])] == [
            *[("train", 0), ("train", 1), ("inference", 0), ("inference", 1)]
        ]

    def test_dump(self, patches: np.ndarray, stitched: StitchedObject, tmp_path: Path) -> None:
        found = make_diagnostics(tmp_path / "run", "tensorflow", 2, debug_dump=tmp_path / "new" / "dump")
        positions = np.arange(40.0).reshape(5, 1, 2, 4)
        found.trained([patches])
        found.predicted(patches)
        found.stitched(patches, positions, stitched, ObjectFrame(2, 3, -4, 5))
        assert sorted(path.name for path in (tmp_path / "new" / "dump").iterdir()) == [
            "canvas.json",
            "offsets.json",
            "pred_patches_amp_grid.png",
            "pred_patches_amp_grid_normalized.png",
            "stats.json",
        ]
        assert not (tmp_path / "run").exists()
        statistics = read(tmp_path / "new" / "dump" / "stats.json")
        amplitude = np.abs(patches).astype(np.float64)
        expected = {"mean": amplitude.mean(), "std": amplitude.std(), "var_zero_mean": amplitude.var()}
        assert statistics["patch"] == pytest.approx(expected, rel=1e-12)
        assert statistics["canvas"] == {"mean": 2.0, "std": 1.0, "var_zero_mean": 1.0}
        offsets = read(tmp_path / "new" / "dump" / "offsets.json")
        assert offsets["global_offsets"][1] == [9.5, 13.5]
        assert offsets["local_offsets"][1] == [[1.5, 1.5], [0.5, 0.5], [-0.5, -0.5], [-1.5, -1.5]]
        canvas = read(tmp_path / "new" / "dump" / "canvas.json")
        assert (canvas["height"], canvas["width"], canvas["x0"], canvas["y0"]) == (2, 3, -4, 5)
        assert (canvas["covered_pixels"], canvas["groups"], canvas["members"], canvas["patch_size"]) == (4, 5, 4, 6)
        assert (canvas["agreement"], canvas["plane_rad_per_pixel"]) == ([0.5, None], [0.0, 0.25])

    def test_patches_that_stitching_would_refuse_are_told_of(self, patches, stitched, tmp_path: Path) -> None:
        patches[0, 1, 2, 2], patches[0, 2] = np.inf, np.nan
        found = make_diagnostics(tmp_path, "pytorch", log_patch_stats=True, debug_dump=tmp_path)
        found.predicted(patches)
        found.stitched(patches, np.zeros((5, 1, 2, 4)), stitched, ObjectFrame(2, 3, 0, 0))
        (entry,) = read(tmp_path / "analysis" / "torch_patch_stats.json")
        assert [patch["mean"] is None for patch in entry["per_patch"]] == [False, True, True] + 17 * [False]
        assert read(tmp_path / "stats.json")["patch"] == dict.fromkeys(("mean", "std", "var_zero_mean"))

    def test_nothing_asked_nothing_done(self, tmp_path: Path) -> None:
        assert make_diagnostics(tmp_path, "pytorch") is None
        with pytest.raises(ConfigError, match="set log_patch_stats"):
            make_diagnostics(tmp_path, "pytorch", patch_stats_limit=2)

    def test_without_statistics_no_batch_is_made(self, tmp_path: Path) -> None:
        Diagnostics(tmp_path, "pytorch").trained(pytest.fail("a batch was made") for _ in range(1))


@pytest.fixture
def compare() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_patch_stats", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestComparison:
    def test_lines(self, compare, patches: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        one = write_batch_statistics(tmp_path / "a.json", [2 * patches], "inference")
        other = write_batch_statistics(tmp_path / "b.json", [patches[:2], patches[2:]], "inference")
        assert compare.main([str(one), str(other)]) == 0
        printed = capsys.readouterr().out
        lines = [line.split() for line in printed.splitlines()]
        assert lines[:3] == [
            ["ratio_patch_mean", "2", "ok"],
            ["ratio_patch_std", "2", "ok"],
            ["ratio_patch_var_zero_mean", "4", "ok"],
        ]
        amplitude = np.abs(patches).astype(np.float64)
        deltas = {name: float(value) for name, value, _ in lines[3:]}
        assert deltas == pytest.approx(
            {
                "delta_patch_mean": amplitude.mean(),
                "delta_patch_std": amplitude.std(),
                "delta_patch_var_zero_mean": 3 * amplitude.var(),
            },
            rel=1e-5,
        )
        assert compare.main(["--baseline-stats", str(other), "--candidate-stats", str(one)]) == 0
        assert capsys.readouterr().out == printed

    def test_json_and_zero_baselines(self, compare, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        flat, lively = {"mean": 1.0, "std": 0.0, "var_zero_mean": 0.0}, {"mean": 2.0, "std": 1.0, "var_zero_mean": 1.0}
        for name, content in (("a", {"patch": lively, "canvas": flat}), ("b", {"patch": flat, "canvas": lively})):
            (tmp_path / name).mkdir()
            (tmp_path / name / "stats.json").write_text(json.dumps(content))
        assert compare.main([str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
        found = {line["name"]: (line["ratio"], line["status"]) for line in json.loads(capsys.readouterr().out)}
        assert found == {
            "ratio_patch_mean": (2.0, "ok"),
            "ratio_patch_std": (None, "zero baseline"),
            "ratio_patch_var_zero_mean": (None, "zero baseline"),
            "ratio_canvas_mean": (0.5, "ok"),
            "ratio_canvas_std": (0.0, "ok"),
            "ratio_canvas_var_zero_mean": (0.0, "ok"),
        }

    @pytest.mark.parametrize(
        "arguments",
        [
            ["nowhere", "nowhere"],
            ["one"],
            ["a", "b", "--what"],
            ["--baseline-stats", "b"],
            ["a", "b", "--candidate-stats", "a", "--baseline-stats", "b"],
        ],
    )
    def test_bad_input_is_one_line(self, compare, arguments, capsys: pytest.CaptureFixture[str]) -> None:
        assert compare.main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("compare_patch_stats: error: ")
        assert (captured.out, captured.err.count("\n")) == ("", 1)


class TestFlags:
    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (
                ["--patch-stats-limit", "2"],
                "patch_stats_limit=2 limits statistics that are not written: set log_patch_stats",
            ),
            (["--log-patch-stats", "--patch-stats-limit", "0"], "expected a whole number at least 1 or none, found 0"),
        ],
    )
    @pytest.mark.parametrize("main", [train_main, inference_main])
    def test_bad_values(self, main, flags, message, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(flags) == 2
        assert message in capsys.readouterr().err

    def test_a_dump_needs_stitching(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert train_main(["--debug-dump", "d"]) == 2
        assert "--debug-dump shows what stitching works with: give --do-stitching too" in capsys.readouterr().err

    def test_a_dump_that_cannot_be_written_is_found_before_the_work(self, fixture_file, tmp_path, capsys) -> None:
        (tmp_path / "file").touch()
        files = ["--model_path", fixture_file, "--test_data", fixture_file, "--output_dir", tmp_path / "out"]
        assert inference_main([*map(str, files), "--debug-dump", str(tmp_path / "file")]) == 2
        assert f"--debug-dump {tmp_path / 'file'}: cannot be written" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


class TestEnvironment:
    @pytest.mark.parametrize("names", [["USE_XLA_TRANSLATE"], ["USE_XLA_TRANSLATE", "USE_XLA_COMPILE"], []])
    def test_variables_of_old_are_ignored_with_one_warning(self, names, monkeypatch, caplog) -> None:
        for name in names:
            monkeypatch.setenv(name, "1")
        warn_of_ignored_variables.cache_clear()
        with caplog.at_level(logging.WARNING, "ptycho"):
            warn_of_ignored_variables()
            warn_of_ignored_variables()
        warn_of_ignored_variables.cache_clear()
        text = f"XLA by {', '.join(names)} is deprecated: ignored; to compile with it use --use_xla (use_xla=True)"
        expected = [f"{text}; removed in 1.0"] if names else []
        assert [record.getMessage() for record in caplog.records] == expected


@pytest.mark.usefixtures("without_graphs")
@pytest.mark.slow
@pytest.mark.parametrize("gridsize", [1, 2])
def test_tensorflow_trains_and_stitches_patches_that_are_not_flat(
    gridsize, fixture_file, tmp_path, monkeypatch
) -> None:
    """The twin of tests/torch/test_cli_train_torch.py, training and reconstruction in one command."""
    monkeypatch.setattr(params, "cfg", dict(params.cfg))
    settings = ["--gridsize", gridsize, "--n_filters_scale", 1, "--nepochs", 2, "--n_groups", 16, "--batch_size", 8]
    asked = ["--do_stitching", "--log-patch-stats", "--patch-stats-limit", 2, "--debug-dump", tmp_path / "dump"]
    files = ["--train_data_file", fixture_file, "--output_dir", tmp_path / "run", "--backend", "tensorflow"]
    assert train_main([*map(str, [*files, *settings, *asked]), "--quiet"]) == 0
    entries = read(tmp_path / "run" / "analysis" / "tf_patch_stats.json")
    assert [(entry["phase"], entry["batch_size"]) for entry in entries] == [
        *[("train", 8), ("train", 8), ("inference", 64)]
    ]
    for entry in entries:
        assert entry["var_zero_mean"] > 1e-6
        assert abs(entry["global_mean"]) > 1e-9
        assert len(entry["per_patch"]) == gridsize**2 * entry["batch_size"]
    assert (tmp_path / "run" / "analysis" / "tf_patch_grid.png").is_file()
    statistics = read(tmp_path / "dump" / "stats.json")
    assert statistics["patch"]["mean"] == pytest.approx(entries[2]["global_mean"], rel=1e-9)
    assert statistics["canvas"]["var_zero_mean"] > 1e-6
