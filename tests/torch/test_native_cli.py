"""`python -m ptycho_torch.train` and `.inference`: flags to settings, with stand-ins for the work itself."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ptycho import params
from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.config.schema import settings_of
from ptycho.raw_data import RawData
from ptycho.workflows import outputs
from ptycho_torch import inference, train
from ptycho_torch.config.options import NEUTRAL_OPTIONS
from ptycho_torch.workflows import components

NOT_FLAGS = ("model", "backend", "use_xla", "debug", "scheduler")
EXECUTION_FLAGS = (
    *("--accelerator", "--deterministic", "--no-deterministic", "--num-workers", "--learning-rate", "--scheduler"),
    *("--accumulate-grad-batches", "--enable-checkpointing", "--disable-checkpointing", "--checkpoint-save-top-k"),
    *("--checkpoint-monitor", "--checkpoint-mode", "--early-stop-patience", "--logger", "--inference-batch-size"),
)


def dashed(flags: Iterable[str]) -> list[str]:
    return [flag.replace("_", "-") for flag in flags]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """The calls that stand in for training and reconstruction."""
    calls: list[SimpleNamespace] = []

    def run(train_data: list[RawData], test_data: list[Any], config: TrainingConfig, **options: Any) -> Any:
        (train,), (test,) = train_data, test_data
        calls.append(SimpleNamespace(train=train, test=test, config=config, cfg=dict(params.cfg), **options))
        stitched = {"reconstructions": ("object",)} if options["do_stitching"] else {}
        return None, None, {"models": ("model",), **stitched}

    def reconstruct(data: RawData, config: InferenceConfig, **options: Any) -> Any:
        calls.append(SimpleNamespace(data=data, config=config, cfg=dict(params.cfg), **options))
        return SimpleNamespace(trust=None)

    def save(found: Any, folder: Path, patterns: Any = None) -> list[Path]:
        return [folder / "reconstruction.npz"]

    monkeypatch.setattr(components, "run_cdi_example_torch", run)
    monkeypatch.setattr(components, "reconstruct_torch", reconstruct)
    monkeypatch.setattr(components, "save_torch_bundle", lambda folder, model, config: folder / "wts.h5.zip")
    monkeypatch.setattr(outputs, "save_reconstruction", save)
    return calls


@pytest.fixture
def training_flags(fixture_file: Path, tmp_path: Path) -> list[str]:
    return ["--train_data_file", str(fixture_file), "--output_dir", str(tmp_path / "out")]


@pytest.fixture
def inference_flags(fixture_file: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "model").mkdir()
    files = ["--model_path", str(tmp_path / "model"), "--test_data", str(fixture_file)]
    return [*files, "--output_dir", str(tmp_path / "out")]


def test_help_has_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    for main, cls, others in (
        (train.main, TrainingConfig, (*EXECUTION_FLAGS, "--max_epochs", "--do_stitching", "--N", "--gridsize")),
        (inference.main, InferenceConfig, ("--refine", "--accelerator", "--inference-batch-size")),
    ):
        with pytest.raises(SystemExit) as status:
            main(["--help-all"])
        text = capsys.readouterr().out
        fields = [f"--{name}" for name, one in settings_of(cls).items() if name not in NOT_FLAGS and not one.nested]
        missing = {*dashed(fields), *dashed(others), "--device", "--config", "--units", "--quiet", "--debug"} - set(
            text.replace(",", " ").split()
        )
        assert (status.value.code, missing) == (0, set())
        assert "--torch-" not in text.replace("--torch-loss-mode", "")


class TestTraining:
    def test_defaults_are_those_that_help_shows(self, work: Any, training_flags: list[str], fixture_file: Path) -> None:
        assert train.main(training_flags) == 0
        (call,) = work
        expected = TrainingConfig(backend="pytorch", train_data_file=fixture_file, output_dir=Path(training_flags[-1]))
        assert call.config == expected
        assert call.training_payload.execution_config == PyTorchExecutionConfig()
        assert call.training_payload.options == NEUTRAL_OPTIONS
        assert (call.test, call.do_stitching, call.resume, len(call.train)) == (None, False, None, 64)
        assert (call.cfg["train_data_file_path"], call.cfg["backend"]) == (str(fixture_file), "pytorch")

    def test_flags(self, work: Any, training_flags: list[str], fixture_file: Path, caplog: Any) -> None:
        flags = ["--max_epochs", "3", "--n_groups", "9", "--gridsize", "2", "--test_data_file", str(fixture_file)]
        flags += ["--accelerator", "cpu", "--learning-rate", "0.01", "--scheduler", "Cosine", "--logger", "none"]
        flags += ["--no-deterministic", "--disable-checkpointing", "--gradient-clip-val", "0.5", "--do_stitching"]
        with caplog.at_level("INFO", "ptycho_torch"):
            assert train.main([*training_flags, *flags, "--quiet", "--units", "counts"]) == 0
        (call,) = work
        config, execution = call.config, call.training_payload.execution_config
        assert (config.nepochs, config.n_groups, config.model.gridsize) == (3, 9, 2)
        assert config.gradient_clip_val == execution.gradient_clip_val == 0.5
        assert config.scheduler == execution.scheduler == "WarmupCosine"
        assert (execution.accelerator, execution.learning_rate, execution.logger_backend) == ("cpu", 0.01, None)
        assert (execution.deterministic, execution.enable_checkpointing, execution.enable_progress_bar) == (False,) * 3
        assert (len(call.test), call.do_stitching, call.train.units) == (64, True, "counts")

    def test_an_interrupt_names_a_checkpoint_of_this_run_alone(
        self, monkeypatch, training_flags: list[str], tmp_path: Path, capsys: Any
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

            monkeypatch.setattr(components, "run_cdi_example_torch", run)
            assert train.main(training_flags) == 130
            assert capsys.readouterr().err.splitlines()[-1].endswith(f"interrupted: {advice}")

    def test_what_was_written_is_reported(self, work: Any, training_flags: list[str], capsys: Any) -> None:
        assert train.main([*training_flags, "--do_stitching"]) == 0
        text = capsys.readouterr().err
        assert "Wrote" in text
        assert [name in text for name in ("wts.h5.zip", "reconstruction.npz")] == [True, True]

    def test_flags_win_over_the_file(self, work: Any, training_flags: list[str], tmp_path: Path) -> None:
        table = tmp_path / "c.toml"
        table.write_text(
            'nepochs = 7\nscheduler = "Exponential"\nneighbor_count = 5\ngradient_clip_val = 3.0\n[model]\nN = 64\n'
            "n_filters_scale = 1\n"
        )
        flags = ["--config", str(table), "--max_epochs", "2", "--scheduler", "WarmupCosine"]
        assert train.main([*training_flags, *flags, "--gradient-clip-val", "1"]) == 0
        config = work[0].config
        assert (config.nepochs, config.scheduler, config.neighbor_count) == (2, "WarmupCosine", 5)
        assert (config.gradient_clip_val, config.model.n_filters_scale) == (1.0, 1)

    def test_deprecated_flags(self, work: Any, training_flags: list[str], capsys: Any) -> None:
        flags = ["--n_images", "9", "--device", "cpu", "--disable_mlflow"]
        assert train.main([*training_flags, *flags]) == 0
        text = capsys.readouterr().err
        assert [text.count(f"{name} is deprecated") for name in ("n_images", "--device", "--disable_mlflow")] == [1] * 3
        call = work[0]
        assert (call.config.n_groups, call.training_payload.execution_config.accelerator) == (9, "cpu")
        assert call.training_payload.execution_config.logger_backend is None

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--learning-rate", "0"], "argument --learning-rate: expected a finite number above 0 or none, found 0"),
            (["--learning-rat", "1"], "unknown argument --learning-rat; did you mean --learning-rate"),
            (["--torch-accelerator", "cpu"], "unknown argument --torch-accelerator"),
            (["--N", "128"], "N=128 in overrides, but"),
            (["--gridsize", "2", "--neighbor_count", "3"], "neighbor_count=3 is too few for gridsize=2"),
            (["--test_data_file", "no.npz"], "no.npz: expected the test scan"),
            (["--train_data_file", "no.npz"], "no.npz: expected the scan to train on"),
        ],
    )
    def test_bad_input_is_one_line(
        self, flags: list[str], message: str, work: Any, training_flags: list[str], capsys: Any, tmp_path: Path
    ) -> None:
        assert train.main([*training_flags, *flags, "--quiet"]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if "test_data_file is missing" not in line]
        assert len(lines) == 1
        assert lines[0].startswith(f"python -m ptycho_torch.train: error: {message}")
        assert (work, (tmp_path / "out").exists()) == ([], False)

    def test_another_backend_and_no_scan(self, work: Any, tmp_path: Path, capsys: Any) -> None:
        (tmp_path / "c.yaml").write_text("backend: tensorflow\n")
        assert train.main(["--config", str(tmp_path / "c.yaml")]) == 2
        assert "backend=tensorflow: this command runs pytorch" in capsys.readouterr().err
        assert train.main([]) == 2
        assert "--train-data-file is required" in capsys.readouterr().err


class TestInference:
    def test_flags(self, work: Any, inference_flags: list[str], tmp_path: Path, fixture_file: Path) -> None:
        flags = ["--accelerator", "cpu", "--inference-batch-size", "5", "--refine", "4", "--no-refine_probe"]
        assert inference.main([*inference_flags, *flags]) == 0
        (call,) = work
        assert call.config == InferenceConfig(
            model_path=tmp_path / "model", test_data_file=fixture_file, output_dir=tmp_path / "out", backend="pytorch"
        )
        assert call.execution_config == PyTorchExecutionConfig(accelerator="cpu", inference_batch_size=5)
        assert (call.refine_iterations, call.refinement) == (4, {"refine_probe": False})
        assert call.cfg["model_path"] == str(tmp_path / "model")

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--refine", "-1"], "argument --refine: expected a whole number at least 0, found -1"),
            (["--refine_positions"], "--refine-positions says how to refine"),
            (["--model_path", "nowhere"], "nowhere: expected a trained model"),
        ],
    )
    def test_bad_input_is_one_line(
        self, flags: list[str], message: str, work: Any, inference_flags: list[str], capsys: Any
    ) -> None:
        assert inference.main([*inference_flags, *flags]) == 2
        text = capsys.readouterr().err
        assert text.startswith(f"python -m ptycho_torch.inference: error: {message}")
        assert (text.count("\n"), work) == (1, [])

    def test_what_is_required(self, capsys: Any) -> None:
        assert inference.main([]) == 2
        assert "--model-path is required" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["train", "inference"])
def test_complaints_come_before_a_framework_is_loaded(module: str) -> None:
    code = (
        f"import sys; from ptycho_torch import {module}; status = {module}.main(['--nonsense']); "
        "print(status, sorted({'torch', 'lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"
