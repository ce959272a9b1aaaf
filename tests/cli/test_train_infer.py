"""The command lines: every setting is a flag, bad input is one line and status 2, a run says what it did."""

import argparse
import inspect
import logging
import re
import subprocess
import sys
import time
import types
import warnings
from pathlib import Path

import numpy as np
import pytest

from ptycho.cli.flags import (
    FlagParser,
    add_config_flags,
    add_execution_flags,
    config_from_options,
    execution_from_options,
)
from ptycho.cli.train_infer import inference_main, train_main
from ptycho.config.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.config.schema import is_stated, settings_of
from ptycho.core.atomic import atomic_path
from ptycho.errors import BackendError, ConfigError, DataError

TEXT = {int: ("3", 3), float: ("0.25", 0.25), str: ("train_loss", "train_loss"), tuple: ("0,5", (0, 5))}


def other_value(declared):
    """A value that is not the field's default: as text, and as the field holds it."""
    if bool in declared.kinds:
        return str(not declared.default).lower(), not declared.default
    if declared.choices:
        value = declared.choices[-1] if declared.choices[-1] != declared.default else declared.choices[0]
        return str(value), value
    if declared.member is Path:
        return "a/b,c", (Path("a/b"), Path("c"))
    return {**TEXT, Path: ("some/where", Path("some/where"))}[declared.kinds[0]]


def fields_of(*classes):
    return [
        pytest.param(cls, declared, id=f"{cls.__name__}.{name}")
        for cls in classes
        for name, declared in settings_of(cls).items()
        if declared.nested is None and name not in ("n_images", "architecture")
    ]


def training(*flags, table=None):
    parser = FlagParser(prog="p")
    add_config_flags(parser, TrainingConfig)
    add_execution_flags(parser)
    options = parser.parse_flags(flags)
    config = config_from_options(TrainingConfig, options, table or {}, "c.yaml")
    return config, options


class TestFlags:
    @pytest.mark.parametrize(("cls", "declared"), fields_of(ModelConfig, TrainingConfig))
    def test_training_field_through_its_flag(self, cls, declared):
        text, value = other_value(declared)
        config, _ = training(f"--{declared.name}", text)
        holder = config if cls is TrainingConfig else config.model
        assert getattr(holder, declared.name) == value != declared.default
        setattr(holder, declared.name, declared.default)
        assert config == TrainingConfig()

    @pytest.mark.parametrize(("cls", "declared"), fields_of(InferenceConfig))
    def test_inference_field_through_its_flag(self, cls, declared):
        parser = FlagParser(prog="p")
        add_config_flags(parser, cls, skip=("model",))
        text, value = other_value(declared)
        options = parser.parse_flags([f"--{declared.name}", text])
        config = config_from_options(cls, options, {}, "c.yaml")
        assert getattr(config, declared.name) == value != declared.default

    @pytest.mark.parametrize(("cls", "declared"), fields_of(PyTorchExecutionConfig))
    def test_execution_field_through_its_flag(self, cls, declared):
        text, value = other_value(declared)
        flag = declared.doc.flag or declared.name.replace("_", "-")
        config, options = training("--backend", "pytorch", f"--torch-{flag}", text)
        execution = execution_from_options(options, config)
        assert getattr(execution, declared.name) == value != declared.default
        setattr(execution, declared.name, declared.default)
        assert execution == PyTorchExecutionConfig()

    @pytest.mark.parametrize(
        ("flags", "value"),
        [
            (["--object_big"], True),
            (["--no-object_big"], False),
            (["--object_big", "false"], False),
            (["--object_big=Yes"], True),
            (["--no-object_big", "--object_big"], True),
        ],
    )
    def test_switch(self, flags, value):
        assert training(*flags)[0].model.object_big is value

    @pytest.mark.parametrize(
        ("flag", "name", "value"),
        [
            ("--torch-deterministic", "deterministic", True),
            ("--torch-no-deterministic", "deterministic", False),
            ("--torch-enable-checkpointing", "enable_checkpointing", True),
            ("--torch-disable-checkpointing", "enable_checkpointing", False),
        ],
    )
    def test_execution_switch(self, flag, name, value):
        config, options = training("--backend", "pytorch", flag)
        assert getattr(execution_from_options(options, config), name) is value

    def test_deterministic_takes_warn_and_logger_takes_none(self):
        config, options = training("--backend", "pytorch", "--torch-deterministic", "warn", "--torch-logger", "none")
        execution = execution_from_options(options, config)
        assert (execution.deterministic, execution.logger_backend) == ("warn", None)

    def test_short_names_of_the_scans(self):
        config, _ = training("--train_data", "a.npz", "--test_data", "b.npz")
        assert (config.train_data_file, config.test_data_file) == (Path("a.npz"), Path("b.npz"))

    def test_flags_win_over_the_file(self):
        table = {"nepochs": 3, "batch_size": 8, "n_groups": 5, "model": {"N": 128, "gridsize": 2}}
        config, _ = training("--nepochs", "9", "--N", "256", "--n_groups", "none", table=table)
        assert config == TrainingConfig(model=ModelConfig(N=256, gridsize=2), nepochs=9, batch_size=8)

    def test_deprecated_flag_wins_over_the_file(self):
        with pytest.warns(DeprecationWarning, match="n_images"):
            config, _ = training("--n_images", "7", table={"n_groups": 5})
        assert config.n_groups == 7

    def test_execution_takes_what_the_training_configuration_says(self):
        flags = ["--backend", "pytorch", "--scheduler", "Exponential", "--gradient_clip_val", "0.5"]
        config, options = training(*flags)
        execution = execution_from_options(options, config)
        assert (execution.scheduler, execution.gradient_clip_val) == ("Exponential", 0.5)
        config, options = training(*flags, "--torch-scheduler", "Cosine")
        assert execution_from_options(options, config).scheduler == "Cosine"

    def test_execution_flags_need_pytorch(self):
        config, options = training("--torch-devices", "2")
        with pytest.raises(ConfigError, match=r"--torch- flags need --backend pytorch, found backend=tensorflow"):
            execution_from_options(options, config)
        config, options = training()
        assert execution_from_options(options, config) is None

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--nepoch", "3"], "unknown argument --nepoch; did you mean --nepochs"),
            (["--nepoch=3"], "unknown argument --nepoch; did you mean --nepochs"),
            (["scan.npz"], "unknown argument scan.npz"),
            (["--batch_size", "0"], "argument --batch-size: expected a whole number at least 1, found 0"),
            (["--N", "100"], "argument --N: expected one of 64, 128, 256, found 100"),
            (["--nphotons", "nan"], "argument --nphotons: expected a finite number above 0, found nan"),
            (["--optimizer", "lion"], "argument --optimizer: expected one of adam, adamw, sgd, found lion"),
            (["--object_big", "maybe"], "--no-object-big: expected true or false, found maybe"),
            (["--no-object_big", "true"], "argument --no-object-big: expected no value, found True"),
            (["--batch_size"], "argument --batch-size: expected one argument"),
        ],
    )
    def test_errors(self, flags, message):
        with pytest.raises(ConfigError) as caught:
            training(*flags)
        assert message in str(caught.value)


class Calls(list):
    """What the command line asked of the workflows, in order."""

    @property
    def names(self):
        return [name for name, _ in self]

    def of(self, wanted):
        return next(arguments for name, arguments in self if name == wanted)


class StandInScan:
    """What the command line needs of a scan."""

    probeGuess = np.zeros((2, 128, 128), np.complex64)

    def __len__(self):
        return 200

    def photons(self, configured=None):
        return 1234.0

    def amplitude(self, indices):
        assert len(indices) <= 64
        return np.zeros((len(indices), 128, 128), np.float32)


@pytest.fixture
def workflows(monkeypatch):
    """Workflows that record their calls instead of working; `workflows.fail[name]`, an error or what makes one, is
    raised.
    """
    calls = Calls()
    calls.fail = {}
    reconstruction = types.SimpleNamespace(
        object=np.ones((5, 7), np.complex64),
        coverage=np.ones((5, 7), np.float32),
        method="network+refined",
        error_history=(0.5, 0.125),
        trust=types.SimpleNamespace(grade="usable", verdict="usable, with numbers"),
    )

    def step(name, result):
        def call(*args, **kwargs):
            calls.append((name, (args, kwargs)))
            if name in calls.fail:
                failure = calls.fail[name]
                raise failure() if callable(failure) else failure
            return result(*args, **kwargs)

        return call

    def example(
        train_data,
        test_data,
        config,
        *,
        do_stitching=False,
        learning_rate=None,
        execution_config=None,
        resume=None,
        max_seconds=None,
        diagnostics=None,
    ):
        results = {"history": {"train_loss": [3.0, 1.25], "val_loss": []}}
        return None, None, {**results, **({"reconstructions": [reconstruction]} if do_stitching else {})}

    def write(folder, name):
        (folder / name).write_text("written")
        return folder / name

    selector = types.SimpleNamespace(
        require_backend=step("require_backend", lambda name: None),
        run_cdi_example_with_backend=step("train", example),
        refine_probe_with_backend=step("refine_probe", lambda *args, **kwargs: "the scan with its own probe"),
        save_bundle_with_backend=step("archive", lambda results, config, folder: write(folder, "wts.h5.zip")),
        reconstruct_with_backend=step("reconstruct", lambda *args, **kwargs: reconstruction),
    )

    def save_all(made, folder):
        return [path for found in made for path in outputs.save_reconstruction(found, folder)]

    outputs = types.SimpleNamespace(
        save_reconstruction=step("save", lambda made, folder, patterns=None: [write(folder, "reconstruction.npz")]),
        save_reconstructions=save_all,
    )
    data = StandInScan()
    load = step("load", lambda path, units=None, memory_map="auto": data)
    scans = types.SimpleNamespace(RawData=types.SimpleNamespace(from_file=load))

    def read_experiments(files, units=None, memory_map="auto"):
        return tuple([path and load(path, units, memory_map) for path in paths] for paths in zip(*files, strict=True))

    monkeypatch.setattr("ptycho.workflows.experiments.read_experiments", read_experiments)
    monkeypatch.setitem(sys.modules, "ptycho.workflows.backend_selector", selector)
    monkeypatch.setitem(sys.modules, "ptycho.workflows.outputs", outputs)
    monkeypatch.setitem(sys.modules, "ptycho.raw_data", scans)
    return calls


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "scan.npz"
    path.write_bytes(b"")
    return path


@pytest.fixture
def train_flags(tmp_path, scan):
    return [
        "--backend",
        "pytorch",
        "--train_data_file",
        str(scan),
        "--output_dir",
        str(tmp_path / "new" / "run"),
    ]


@pytest.fixture
def inference_flags(tmp_path, scan):
    model = tmp_path / "model"
    model.mkdir()
    out = str(tmp_path / "out")
    return ["--backend", "pytorch", "--model_path", str(model), "--test_data", str(scan), "--output_dir", out]


class TestTrain:
    def test_order_of_a_run(self, workflows, train_flags, tmp_path):
        assert train_main(train_flags) == 0
        assert workflows.names == ["require_backend", "load", "train", "archive"]
        assert workflows.of("require_backend") == (("pytorch",), {})
        assert (tmp_path / "new" / "run" / "wts.h5.zip").is_file()

    def test_stitching_validation_scan_and_units(self, workflows, train_flags, scan):
        flags = ["--test_data", str(scan), "--do_stitching", "--units", "counts"]
        assert train_main(train_flags + flags) == 0
        assert workflows.names == ["require_backend", "load", "load", "train", "archive", "save"]
        assert workflows.of("load") == ((scan, "counts", "auto"), {})
        (_, (test_data,), config), options = workflows.of("train")
        assert test_data is not None
        assert options["do_stitching"] is True
        assert options["execution_config"] == PyTorchExecutionConfig()
        assert config.train_data_file == scan

    def test_pattern_size_comes_from_the_scan_unless_given(self, workflows, train_flags):
        train_main(train_flags)
        assert workflows.of("train")[0][2].model.N == 128
        workflows.clear()
        train_main([*train_flags, "--N", "64"])
        assert workflows.of("train")[0][2].model.N == 64

    def test_configuration_file(self, workflows, train_flags, tmp_path):
        path = tmp_path / "c.toml"
        path.write_text("nepochs = 7\nbatch_size = 8\n[model]\nN = 256\n")
        assert train_main([*train_flags, "--config", str(path), "--batch_size", "4"]) == 0
        config = workflows.of("train")[0][2]
        assert (config.nepochs, config.batch_size, config.model.N) == (7, 4, 256)

    def test_report_names_files_and_numbers(self, workflows, train_flags, tmp_path, capsys):
        assert train_main([*train_flags, "--do_stitching"]) == 0
        captured = capsys.readouterr()
        assert captured.out == ""
        for text in (
            "train_loss 1.25",
            "5 x 7 pixels, 100.0 % covered (network+refined)",
            "0.5 before",
            "0.125 after",
            "wts.h5.zip",
            "reconstruction.npz",
        ):
            assert text in captured.err

    def test_quiet(self, workflows, train_flags, capsys):
        assert train_main([*train_flags, "--quiet"]) == 0
        assert capsys.readouterr().err == ""
        assert workflows.of("train")[1]["execution_config"].enable_progress_bar is False

    def test_logging_is_left_as_it_was(self, workflows, train_flags):
        loggers = [logging.getLogger(name) for name in ("ptycho", "ptycho_torch")]
        before = [(logger.level, list(logger.handlers)) for logger in loggers] + [warnings.showwarning]
        train_main([*train_flags, "--debug"])
        after = [(logger.level, list(logger.handlers)) for logger in loggers] + [warnings.showwarning]
        assert after == before

    def test_rich_log_on_a_terminal(self, workflows, train_flags, monkeypatch, capsys):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        assert train_main(train_flags) == 0
        text = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().err)
        assert re.search(r"\[\d\d/\d\d/\d\d .*INFO +Last of 2 epochs", text)

    def test_deprecated_name_is_one_warning_in_the_log(self, workflows, train_flags, capsys):
        assert train_main([*train_flags, "--n_images", "9", "--n_groups", "5"]) == 0
        assert workflows.of("train")[0][2].n_groups == 5
        lines = [line for line in capsys.readouterr().err.splitlines() if "is deprecated" in line]
        assert len(lines) == 1
        assert "WARNING" in lines[0]
        assert "n_images=9 gives way to n_groups=5" in lines[0]


class TestInference:
    def test_run(self, workflows, inference_flags, tmp_path, scan, capsys):
        assert inference_main([*inference_flags, "--refine", "40", "--torch-inference-batch-size", "8"]) == 0
        assert workflows.names == ["require_backend", "load", "reconstruct", "save"]
        (_, config), options = workflows.of("reconstruct")
        assert (config.model_path, config.test_data_file) == (tmp_path / "model", scan)
        assert (options["refine"], options["refinement"]) == (40, {})
        assert options["execution_config"].inference_batch_size == 8
        told = capsys.readouterr().err
        assert str(tmp_path / "out" / "reconstruction.npz") in told
        assert told.splitlines()[-1].endswith("Trust: usable, with numbers")

    def test_no_refinement_unless_asked(self, workflows, inference_flags):
        assert inference_main(inference_flags) == 0
        assert workflows.of("reconstruct")[1]["refine"] == 0

    def test_how_to_refine(self, workflows, inference_flags):
        how = ["--no-refine_probe", "--refine_positions", "--refine_likelihood", "poisson", "--refine_holdout", "0.05"]
        assert inference_main([*inference_flags, "--refine", "9", *how]) == 0
        expected = {"refine_probe": False, "refine_positions": True, "likelihood": "poisson", "holdout": 0.05}
        assert workflows.of("reconstruct")[1]["refinement"] == expected

    @pytest.mark.parametrize(("flag", "expected"), [("", {"noise": 0.0}), ("no-", {})])
    def test_refinement_stops_at_the_noise_unless_asked_to_go_on(self, flag, expected, workflows, inference_flags):
        assert inference_main([*inference_flags, "--refine", "9", f"--{flag}refine_beyond_noise"]) == 0
        assert workflows.of("reconstruct")[1]["refinement"] == expected

    def test_debug_reaches_the_configuration(self, workflows, inference_flags):
        assert inference_main([*inference_flags, "--debug"]) == 0
        assert workflows.of("reconstruct")[0][1].debug is True

    def test_model_settings_are_not_the_callers(self, workflows, inference_flags, tmp_path, capsys):
        path = tmp_path / "c.yaml"
        path.write_text("model: {N: 128}\n")
        assert inference_main([*inference_flags, "--config", str(path)]) == 2
        assert "the settings of the model come with --model-path" in capsys.readouterr().err
        assert inference_main([*inference_flags, "--gridsize", "2"]) == 2


def last_line(capsys):
    lines = capsys.readouterr().err.splitlines()
    assert lines, "nothing on stderr"
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


class TestErrors:
    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ([], "--train-data-file is required"),
            (["--train_data_file", "."], "--train-data-file is required"),
            (["--train_data_file", "absent.npz"], "--train-data-file absent.npz: no such file"),
            (["--test_data_file", "absent.npz"], "--test-data-file absent.npz: no such file"),
            (["--config", "absent.yaml"], "absent.yaml: no such configuration file"),
            (["--nepoch", "3"], "unknown argument --nepoch; did you mean --nepochs"),
            (["--batch_size", "0"], "argument --batch-size: expected a whole number at least 1, found 0"),
            (["--resume", "absent.ckpt"], "--resume absent.ckpt: no such file"),
            (["--units", "volts"], "expected one of amplitude, counts or none, found volts"),
            (["--gridsize", "2", "--neighbor_count", "3"], "raise neighbor_count to 4"),
            (["--torch-learning-rate", "-1"], "--torch-learning-rate: expected a finite number above 0"),
            (["--torch-prefetch-factor", "2"], "prefetch_factor=2 needs num_workers above 0"),
            (["--quiet", "--debug-dumps", "x"], "unknown argument --debug-dumps; did you mean --debug-dump"),
            (["--debug-dump", "x"], "--debug-dump shows what stitching works with: give --do-stitching too"),
        ],
    )
    def test_bad_input_stops_before_any_work(self, flags, message, workflows, train_flags, tmp_path, capsys):
        given = train_flags[:2] + train_flags[4:] if "--train_data_file" in flags or not flags else train_flags
        assert train_main([*given, *flags]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert len(captured.err.splitlines()) == 1
        assert captured.err.startswith("ptycho_train: error: ")
        assert message in captured.err
        assert workflows == []
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize("missing", ["--model_path", "--test_data"])
    def test_inference_needs_its_files(self, missing, workflows, inference_flags, capsys):
        place, dashed = inference_flags.index(missing), missing.replace("_", "-")
        assert inference_main(inference_flags[:place] + inference_flags[place + 2 :]) == 2
        assert last_line(capsys).startswith(f"ptycho_inference: error: {dashed} is required: name the ")
        assert inference_main([*inference_flags, missing, "absent"]) == 2
        assert f"{dashed} absent: no such file" in last_line(capsys)
        assert workflows == []

    @pytest.mark.parametrize("count", ["-1", "1.5", "few"])
    def test_refine_takes_a_count(self, count, workflows, inference_flags, capsys):
        assert inference_main([*inference_flags, f"--refine={count}"]) == 2
        assert f"--refine: expected a whole number at least 0, found {count}" in last_line(capsys)

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--refine_positions"], "--refine-positions says how to refine: give --refine N too"),
            (["--refine", "0", "--refine_likelihood", "poisson"], "--refine-likelihood says how to refine"),
            (
                ["--refine", "5", "--refine_likelihood", "gauss"],
                "--refine-likelihood: expected one of amplitude, poisson",
            ),
            (["--refine", "5", "--refine_holdout", "-1"], "--refine-holdout: expected a finite number at least 0"),
        ],
    )
    def test_a_refinement_that_cannot_work(self, flags, message, workflows, inference_flags, capsys):
        assert inference_main([*inference_flags, *flags]) == 2
        assert message in last_line(capsys)
        assert workflows == []

    def test_backend_that_is_not_there(self, workflows, train_flags, tmp_path, capsys):
        workflows.fail["require_backend"] = BackendError("TensorFlow is not there: use --backend pytorch")
        assert train_main(train_flags) == 2
        assert last_line(capsys) == "ptycho_train: error: TensorFlow is not there: use --backend pytorch"
        assert workflows.names == ["require_backend"]
        assert not (tmp_path / "new").exists()

    def test_the_time_is_limited(self, workflows, train_flags, capsys):
        assert train_main([*train_flags, "--max_seconds", "90"]) == 0
        assert workflows.of("train")[1]["max_seconds"] == 90.0
        assert train_main([*train_flags, "--max_seconds", "0"]) == 2
        assert "--max-seconds: expected a finite number above 0 or none, found 0" in last_line(capsys)

    def test_simulated_objects_train_and_the_scan_validates(self, workflows, train_flags, monkeypatch):
        made, calls = object(), []

        def simulated_scan_like(data, objects, photons, seed):
            calls.append((objects, photons, seed))
            return made

        stand_in = types.SimpleNamespace(simulated_scan_like=simulated_scan_like)
        monkeypatch.setitem(sys.modules, "ptycho.workflows.simulated_training", stand_in)
        assert train_main([*train_flags, "--simulated_objects", "3", "--subsample_seed", "8"]) == 0
        (train_data,), (test_data,), _ = workflows.of("train")[0]
        assert train_data is made and isinstance(test_data, StandInScan)
        assert calls == [(3, 1234.0, 8)]

    def test_the_older_name_of_find_probe_warns(self, workflows, train_flags, capsys):
        assert train_main([*train_flags, "--refine_probe", "7"]) == 0
        assert capsys.readouterr().err.count("--refine-probe is deprecated: use --find-probe 7") == 1
        assert workflows.of("refine_probe")[0][2] == 7

    @pytest.mark.parametrize("command", ["train", "native"])
    def test_what_cannot_be_stitched_is_found_before_any_work(self, command, workflows, train_flags, capsys):
        from ptycho_torch.train import main

        flags = ["--no-positions-provided", "--do-stitching"]
        run = train_main if command == "train" else main
        assert run([*train_flags[2 * (command == "native") :], *flags]) == 2
        assert "positions_provided=False: stitching needs the scan positions" in last_line(capsys)
        assert workflows == []

    @pytest.mark.parametrize("stated", [True, False])
    def test_a_dose_counts_as_a_claim_where_it_was_stated(self, stated, workflows, train_flags):
        assert train_main([*train_flags, *(["--nphotons", "1e9"] if stated else [])]) == 0
        config = workflows.of("train")[0][2]
        assert (config.nphotons, is_stated(config, "nphotons")) == (1e9, stated)

    def test_the_probe_is_refined_before_anything_is_trained(self, workflows, train_flags):
        assert train_main([*train_flags, "--find-probe", "7"]) == 0
        (data, config, iterations), options = workflows.of("refine_probe")
        assert isinstance(data, StandInScan) and iterations == 7
        assert options["execution_config"] is workflows.of("train")[1]["execution_config"]
        assert workflows.of("train")[0][0] == ["the scan with its own probe"]
        assert config is workflows.of("train")[0][2]

    @pytest.mark.parametrize("main", ["train", "inference"])
    def test_output_folder_that_cannot_be_written(self, main, workflows, request, scan, capsys):
        flags = [*request.getfixturevalue(f"{main}_flags"), "--output_dir", str(scan / "out")]
        assert {"train": train_main, "inference": inference_main}[main](flags) == 2
        line = last_line(capsys)
        assert f"error: --output-dir {scan / 'out'}: cannot be written: " in line
        assert workflows.names == ["require_backend"]

    def test_failure_leaves_no_empty_folder(self, workflows, train_flags, tmp_path, capsys):
        workflows.fail["load"] = DataError("scan.npz: expected\n  xcoords, found none")
        assert train_main(train_flags) == 2
        assert last_line(capsys) == "ptycho_train: error: scan.npz: expected xcoords, found none"
        assert not (tmp_path / "new").exists()

    def test_failure_leaves_a_folder_that_was_there(self, workflows, train_flags, tmp_path):
        (tmp_path / "new").mkdir()
        workflows.fail["train"] = DataError("no")
        assert train_main(train_flags) == 2
        assert (tmp_path / "new").is_dir()
        assert not (tmp_path / "new" / "run").exists()

    def test_disk_full_while_writing(self, workflows, train_flags, capsys):
        workflows.fail["archive"] = OSError(28, "No space left on device")
        assert train_main(train_flags) == 2
        assert "No space left on device" in last_line(capsys)

    def test_debug_shows_the_traceback(self, workflows, train_flags, capsys):
        workflows.fail["load"] = DataError("bad scan")
        assert train_main([*train_flags, "--debug"]) == 2
        captured = capsys.readouterr().err
        assert "Traceback" in captured
        assert captured.splitlines()[-1] == "ptycho_train: error: bad scan"

    def test_a_defect_of_the_program_is_not_hidden(self, workflows, train_flags):
        workflows.fail["train"] = ZeroDivisionError("a defect")
        with pytest.raises(ZeroDivisionError, match="a defect"):
            train_main(train_flags)

    @pytest.mark.parametrize("backend", ["tensorflow", "pytorch"])
    def test_the_learning_rate_is_for_either_backend(self, backend, workflows, train_flags):
        flags = [*train_flags, "--backend", backend]
        assert train_main([*flags, "--learning_rate", "3e-4"]) == 0
        assert workflows.of("train")[1]["learning_rate"] == 3e-4

    def test_the_learning_rate_is_given_once(self, workflows, train_flags, capsys):
        assert train_main([*train_flags, "--learning_rate", "3e-4", "--torch-learning-rate", "1e-3"]) == 2
        assert "--torch-learning-rate are the same setting: give one of them" in last_line(capsys)
        assert train_main([*train_flags, "--learning_rate", "0"]) == 2
        assert "--learning-rate: expected a finite number above 0 or none, found 0" in last_line(capsys)

    def test_interrupt(self, workflows, train_flags, tmp_path, capsys):
        workflows.fail["train"] = KeyboardInterrupt()
        assert train_main(train_flags) == 130
        assert last_line(capsys) == "ptycho_train: interrupted: start again with the same command"
        assert not (tmp_path / "new").exists()

    def test_interrupt_with_a_checkpoint_says_how_to_go_on(self, workflows, train_flags, tmp_path, capsys):
        checkpoint = tmp_path / "new" / "run" / "checkpoints" / "last.ckpt"

        def trained_an_epoch():
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(checkpoint) as temporary:
                temporary.write_bytes(b"an epoch")
            return KeyboardInterrupt()

        workflows.fail["train"] = trained_an_epoch
        assert train_main(train_flags) == 130
        advice = f"go on with the same command and --resume {checkpoint}"
        assert last_line(capsys) == f"ptycho_train: interrupted: {advice}"
        workflows.fail.clear()
        workflows.clear()
        assert train_main([*train_flags, "--resume", str(checkpoint)]) == 0
        assert workflows.of("train")[1]["resume"] == checkpoint
        # the next run takes the folder, and is stopped before and after its first epoch
        workflows.fail["train"] = KeyboardInterrupt()
        assert train_main(train_flags) == 130
        assert last_line(capsys) == "ptycho_train: interrupted: start again with the same command"
        workflows.fail["train"] = trained_an_epoch
        assert train_main(train_flags) == 130
        assert last_line(capsys) == f"ptycho_train: interrupted: {advice}"


def test_workflows_take_the_calls_that_the_command_lines_make():
    from ptycho.raw_data import RawData
    from ptycho.workflows import backend_selector, outputs

    for call, args, options in [
        (RawData.from_file, ["scan"], ["units"]),
        (backend_selector.require_backend, ["name"], []),
        (
            backend_selector.run_cdi_example_with_backend,
            ["train", "test", "config"],
            ["do_stitching", "learning_rate", "execution_config", "resume", "max_seconds", "diagnostics"],
        ),
        (backend_selector.refine_probe_with_backend, ["data", "config", 3], ["execution_config"]),
        (backend_selector.save_bundle_with_backend, ["results", "config", "folder"], []),
        (
            backend_selector.reconstruct_with_backend,
            ["data", "config"],
            ["refine", "refinement", "execution_config", "diagnostics"],
        ),
        (outputs.save_reconstruction, ["reconstruction", "folder"], ["patterns"]),
    ]:
        inspect.signature(call).bind(*args, **dict.fromkeys(options))


@pytest.mark.parametrize("script", ["scripts/training/train.py", "scripts/inference/inference.py"])
def test_help_is_quick_and_loads_nothing_heavy(script):
    root = Path(__file__).parents[2]
    code = (
        "import runpy, sys\n"
        "sys.argv = [sys.argv[1], '--help']\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    heavy = {'torch', 'tensorflow', 'lightning', 'numpy', 'scipy', 'h5py'} & set(sys.modules)\n"
        "    sys.exit(f'loaded {heavy}, status {stop.code}' if heavy or stop.code else 0)\n"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--output-dir" in done.stdout
    assert time.perf_counter() - started < 5.0  # a tenth of a second on an idle machine


def test_help_names_every_field(capsys):
    with pytest.raises(SystemExit) as caught:
        train_main(["--help-all"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for cls in (ModelConfig, TrainingConfig):
        for name, declared in settings_of(cls).items():
            for key in settings_of(declared.nested) if declared.nested else [declared.doc.flag or name]:
                assert re.search(f"--{key.replace('_', '-')}[ ,]", text)


def test_abbreviations_are_not_taken():
    parser = FlagParser(prog="p")
    add_config_flags(parser, TrainingConfig)
    with pytest.raises(ConfigError, match="unknown argument --batch"):
        parser.parse_flags(["--batch", "4"])


def test_flags_not_given_are_absent():
    assert training()[1] == argparse.Namespace()
