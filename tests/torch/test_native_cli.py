"""`python -m ptycho_torch.train` and `.inference`: the command lines of `ptycho_train` and `ptycho_inference` under
another name, with PyTorch alone and without the prefix of its flags.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ptycho.cli.infer import inference_main
from ptycho.cli.programs import INFERENCE, PYTORCH_INFERENCE, PYTORCH_TRAINING, TRAINING
from ptycho.cli.settings import Command, Settled
from ptycho.cli.train import train_main
from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.config.run import TrainingRun
from ptycho.core.archive import load_archive
from ptycho.workflows import backend_selector, outputs
from ptycho.workflows.preview import PREVIEW
from ptycho_torch import inference, train

Main = Callable[[Sequence[str]], int]

EXECUTION_FLAGS = (
    *("--accelerator", "--deterministic", "--no-deterministic", "--num-workers", "--learning-rate", "--scheduler"),
    *("--accumulate-grad-batches", "--enable-checkpointing", "--disable-checkpointing", "--checkpoint-save-top-k"),
    *("--checkpoint-monitor", "--checkpoint-mode", "--early-stop-patience", "--logger", "--inference-batch-size"),
)

TIMES = re.compile(r"[\d.]+ (s|groups/s|patches/s)\b|seconds [\d.]+")
"""What differs from run to run."""


def flags_of(command: Command, *others: str) -> set[str]:
    """Every flag of a command, those of PyTorch without their prefix."""
    own = {
        flag.replace("--torch-", "--") if action.dest.startswith("execution.") else flag
        for action in command.parser()._actions
        for flag in action.option_strings
    }
    assert set(others) <= own
    return own - set(others)


class TestFlags:
    @pytest.mark.parametrize(
        ("shared", "native", "others"),
        [
            (TRAINING, PYTORCH_TRAINING, ("--device", "--disable-mlflow", "--max-epochs")),
            (INFERENCE, PYTORCH_INFERENCE, ("--device",)),
        ],
    )
    def test_both_doors_take_the_same_ones(self, shared: Command, native: Command, others: tuple[str, ...]) -> None:
        assert flags_of(native, *others) == flags_of(shared)

    def test_those_of_pytorch_have_no_prefix(self, capsys: pytest.CaptureFixture[str]) -> None:
        for main, name, wanted in (
            (train.main, "train", EXECUTION_FLAGS),
            (inference.main, "inference", ("--accelerator", "--inference-batch-size")),
        ):
            with pytest.raises(SystemExit) as status:
                main(["--help-all"])
            text = capsys.readouterr().out
            assert status.value.code == 0
            assert text.startswith(f"usage: python -m ptycho_torch.{name} --")
            assert set(wanted) <= set(text.replace(",", " ").split())
            assert "--torch-" not in text.replace("--torch-loss-mode", "")


def settled(command: Command, *flags: str, table: dict[str, Any] | None = None) -> Settled:
    return command.settle(command.parser().parse_flags(flags), table or {})


class TestSettings:
    def test_nothing_said_is_what_the_other_door_settles(self) -> None:
        for native, shared in ((PYTORCH_TRAINING, TRAINING), (PYTORCH_INFERENCE, INFERENCE)):
            found, expected = settled(native), settled(shared, "--backend", "pytorch")
            assert (found.config, found.run, found.execution) == (expected.config, expected.run, expected.execution)
        assert settled(PYTORCH_TRAINING).config == TrainingConfig(backend="pytorch")
        assert settled(PYTORCH_TRAINING).run == TrainingRun()
        assert settled(PYTORCH_INFERENCE).config == InferenceConfig(backend="pytorch")
        assert settled(PYTORCH_INFERENCE).execution == PyTorchExecutionConfig()

    def test_flags_without_prefix(self) -> None:
        flags = ["--accelerator", "cpu", "--learning-rate", "0.01", "--scheduler", "Exponential", "--logger", "none"]
        flags += ["--no-deterministic", "--disable-checkpointing", "--gradient-clip-val", "0.5", "--quiet"]
        found = settled(PYTORCH_TRAINING, *flags, "--max_epochs", "3")
        config, execution = found.config, found.execution
        assert execution is not None
        assert (config.nepochs, found.run.learning_rate) == (3, 0.01)
        assert config.gradient_clip_val == execution.gradient_clip_val == 0.5
        assert config.scheduler == execution.scheduler == "Exponential"
        assert (execution.accelerator, execution.logger_backend) == ("cpu", None)
        assert (execution.deterministic, execution.enable_checkpointing, execution.enable_progress_bar) == (False,) * 3

    def test_a_schedule_of_pytorch_alone(self) -> None:
        found = settled(PYTORCH_TRAINING, "--scheduler", "MultiStage")
        assert found.execution is not None
        assert (found.execution.scheduler, found.config.scheduler) == ("MultiStage", "Default")

    def test_flags_win_over_the_file(self) -> None:
        table = {"nepochs": 7, "scheduler": "Exponential", "gradient_clip_val": 3.0, "learning_rate": 0.1}
        flags = ["--max-epochs", "2", "--scheduler", "WarmupCosine", "--gradient_clip_val", "1", "--learning_rate", "1"]
        found = settled(PYTORCH_TRAINING, *flags, table=table | {"execution": {"gradient_clip_val": 2.0}})
        assert found.execution is not None
        assert (found.config.nepochs, found.config.scheduler, found.run.learning_rate) == (2, "WarmupCosine", 1.0)
        assert found.config.gradient_clip_val == found.execution.gradient_clip_val == 1.0

    def test_options_of_the_mask_have_the_names_of_their_fields_too(self) -> None:
        for command in (TRAINING, PYTORCH_TRAINING):
            found = settled(command, "--probe-mask", "--probe_mask_diameter", "20", "--probe-mask-sigma", "2.5")
            assert (found.config.network.mask_diameter, found.config.network.mask_sigma) == (20.0, 2.5)

    def test_deprecated_names_warn_and_give_way(self) -> None:
        for flags in (["--device", "cuda", "--accelerator", "cpu"], ["--accelerator", "cpu", "--device", "cuda"]):
            with pytest.warns(DeprecationWarning, match="--device is deprecated: use --accelerator cuda") as told:
                found = settled(PYTORCH_TRAINING, *flags)
            assert found.execution is not None
            assert (found.execution.accelerator, len(told)) == ("cpu", 1)
        with pytest.warns(DeprecationWarning, match="--disable-mlflow is deprecated: use --logger none"):
            found = settled(PYTORCH_TRAINING, "--disable_mlflow")
        assert found.execution is not None
        assert found.execution.logger_backend is None
        with pytest.warns(DeprecationWarning, match="n_images is deprecated"):
            assert settled(PYTORCH_TRAINING, "--n_images", "9").config.n_groups == 9


@pytest.fixture
def training_flags(fixture_file: Path, tmp_path: Path) -> list[str]:
    return ["--train_data_file", str(fixture_file), "--output_dir", str(tmp_path / "out")]


class TestErrors:
    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--learning-rate", "0"], "argument --learning-rate: expected a finite number above 0 or none, found 0"),
            (["--learning-rat", "1"], "unknown argument --learning-rat; did you mean --learning-rate"),
            (["--torch-accelerator", "cpu"], "unknown argument --torch-accelerator"),
            (["--backend", "tensorflow"], "argument --backend: invalid choice: 'tensorflow' (choose from 'pytorch')"),
            (["--use-xla"], "use_xla=True works with backend=tensorflow only"),
            (["--N", "128"], "N=128"),
            (["--gridsize", "2", "--neighbor_count", "3"], "neighbor_count=3 is too few for gridsize=2"),
            (["--test_data_file", "no.npz"], "--test-data-file no.npz: no such file"),
            (["--train_data_file", "no.npz"], "--train-data-file no.npz: no such file"),
        ],
    )
    def test_bad_input_is_one_line(
        self, flags: list[str], message: str, training_flags: list[str], capsys: Any, tmp_path: Path
    ) -> None:
        assert train.main([*training_flags, "--accelerator", "cpu", *flags, "--quiet"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("python -m ptycho_torch.train: error: ")
        assert message in lines[0]
        assert not (tmp_path / "out").exists()

    def test_another_backend_and_no_scan(self, tmp_path: Path, capsys: Any) -> None:
        (tmp_path / "c.yaml").write_text("backend: tensorflow\n")
        assert train.main(["--config", str(tmp_path / "c.yaml")]) == 2
        assert "backend=tensorflow: this command runs pytorch, remove 'backend'" in capsys.readouterr().err
        assert train.main([]) == 2
        assert "--train-data-file is required" in capsys.readouterr().err
        assert inference.main([]) == 2
        assert "--test-data is required" in capsys.readouterr().err

    def test_an_interrupt_names_a_checkpoint_of_this_run_alone(
        self, monkeypatch: pytest.MonkeyPatch, training_flags: list[str], tmp_path: Path, capsys: Any
    ) -> None:
        checkpoint = tmp_path / "out" / "checkpoints" / "last.ckpt"
        checkpoint.parent.mkdir(parents=True)
        for content, advice in (
            (None, "start again with the same command"),
            (b"of an older run", f"go on with the same command and --resume {checkpoint}"),
            (None, "start again with the same command"),
        ):

            def run(*_: Any, content: bytes | None = content, **__: Any) -> None:
                if content is not None:
                    checkpoint.write_bytes(content)
                raise KeyboardInterrupt

            monkeypatch.setattr(backend_selector, "run_cdi_example_with_backend", run)
            assert train.main(training_flags) == 130
            assert capsys.readouterr().err.splitlines()[-1].endswith(f"interrupted: {advice}")


def test_a_reconstruction_is_asked_for_in_the_same_words(
    monkeypatch: pytest.MonkeyPatch, fixture_file: Path, tmp_path: Path
) -> None:
    calls: list[SimpleNamespace] = []

    def reconstruct(data: Any, config: InferenceConfig, **options: Any) -> Any:
        calls.append(SimpleNamespace(config=config, **options))
        return SimpleNamespace(
            object=np.ones((2, 2)),
            coverage=np.ones((2, 2)),
            method="",
            error_history=(),
            trust=None,
            uncertainty=None,
            metadata={},
        )

    monkeypatch.setattr(backend_selector, "reconstruct_with_backend", reconstruct)
    monkeypatch.setattr(outputs, "save_reconstruction", lambda *_, **__: [])
    files = ["--model_path", str(tmp_path), "--test_data", str(fixture_file), "--output_dir", str(tmp_path / "out")]
    flags = ["--refine", "4", "--no-refine_probe"]
    own, prefixed = (["--accelerator", "cpu", "--inference-batch-size", "5"] for _ in range(2))
    prefixed = [word.replace("--", "--torch-") for word in prefixed]
    assert inference.main([*files, *own, *flags]) == 0
    assert inference_main([*files, *prefixed, *flags, "--backend", "pytorch"]) == 0
    assert calls[0] == calls[1]
    assert calls[0].execution_config == PyTorchExecutionConfig(accelerator="cpu", inference_batch_size=5)
    assert (calls[0].refine, calls[0].refinement) == (4, {"refine_probe": False})


class TestOneTrainingByBothDoors:
    """The same archive, the same files, the same lines, the same status."""

    SETTINGS = ("--n-filters-scale", "1", "--nepochs", "1", "--n-groups", "16", "--batch-size", "8", "--do-stitching")

    def trained(
        self, main: Main, prefix: str, scan: Path, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> tuple[int, list[str], list[str]]:
        """Exit status, what was told and the files."""
        flags = [f"--{prefix}{word}" for word in ("accelerator", "logger")]
        asked = ["--train-data-file", str(scan), "--output-dir", str(folder)]
        status = main([*asked, *self.SETTINGS, flags[0], "cpu", flags[1], "none"])
        lines = [line for line in capsys.readouterr().err.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
        told = [TIMES.sub("", line[9:].replace(str(folder), "FOLDER")) for line in lines]
        files = (path for path in folder.rglob("*") if path.is_file() and path.name != PREVIEW)  # only of a slow run
        return status, told, sorted(str(path.relative_to(folder)) for path in files)

    @pytest.mark.slow
    def test_they_are_the_same(self, fixture_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        def shared(flags: Sequence[str]) -> int:
            return train_main([*flags, "--backend", "pytorch"])

        found = self.trained(train.main, "", fixture_file, tmp_path / "native", capsys)
        expected = self.trained(shared, "torch-", fixture_file, tmp_path / "shared", capsys)
        assert found == expected
        status, told, files = found
        assert (status, told[-1].startswith(("INFO Trust: ", "WARNING Trust: "))) == (0, True)
        assert {"wts.h5.zip", "reconstruction.npz"} <= set(files)
        own, other = (load_archive(tmp_path / name) for name in ("native", "shared"))
        assert own.weights.keys() == other.weights.keys()
        assert all(np.array_equal(own.weights[name], other.weights[name]) for name in own.weights)
        own.configs["training"]["output_dir"] = other.configs["training"]["output_dir"]
        own.params["output_prefix"] = other.params["output_prefix"]
        assert (own.configs, own.params) == (other.configs, other.params)


@pytest.mark.parametrize("module", ["train", "inference"])
def test_complaints_come_before_a_framework_is_loaded(module: str) -> None:
    code = (
        f"import sys; from ptycho_torch import {module}; status = {module}.main(['--nonsense']); "
        "print(status, sorted({'torch', 'lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"
