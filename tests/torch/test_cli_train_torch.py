"""`python -m ptycho_torch.train` and `.inference`: what they write about the patches of the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ptycho_torch import inference, train


class TestPatchStatsCLI:
    """Train, then infer: a network that gives one flat patch for everything shows in the files of either."""

    @pytest.mark.slow
    @pytest.mark.parametrize("gridsize", [1, 2])
    def test_patch_stats_dump(self, gridsize: int, fixture_file: Path, tmp_path: Path) -> None:
        model, result, dump = tmp_path / "model", tmp_path / "result", tmp_path / "dump"
        members = gridsize**2
        settings = ["--gridsize", gridsize, "--n_filters_scale", 1, "--max_epochs", 2, "--n_groups", 16]
        settings += ["--batch_size", 8, "--logger", "none", "--disable-checkpointing"]
        self.run(train, "--train_data_file", fixture_file, "--output_dir", model, *settings)
        files = ["--model_path", model, "--test_data", fixture_file, "--output_dir", result, "--debug-dump", dump]
        self.run(inference, *files, "--inference-batch-size", 24, "--patch-stats-limit", 2)
        for folder, phase, sizes in ((model, "train", [8, 8]), (result, "inference", [24, 24])):
            entries = json.loads((folder / "analysis" / "torch_patch_stats.json").read_text())
            assert [(entry["phase"], entry["batch_size"]) for entry in entries] == [(phase, size) for size in sizes]
            for entry in entries:
                assert entry["var_zero_mean"] > 1e-6
                assert abs(entry["global_mean"]) > 1e-9
                assert len(entry["per_patch"]) == members * entry["batch_size"]
                assert all(patch["min"] < patch["mean"] < patch["max"] for patch in entry["per_patch"])
            assert (folder / "analysis" / "torch_patch_grid.png").stat().st_size > 0
        statistics = json.loads((dump / "stats.json").read_text())
        assert all(statistics[kind]["var_zero_mean"] > 1e-6 for kind in ("patch", "canvas"))
        offsets = json.loads((dump / "offsets.json").read_text())
        assert len(offsets["global_offsets"]) == len(offsets["local_offsets"]) == 64
        assert len(offsets["local_offsets"][0]) == members

    @staticmethod
    def run(command: Any, *flags: object) -> None:
        assert command.main([*map(str, flags), "--accelerator", "cpu", "--log-patch-stats", "--quiet"]) == 0
