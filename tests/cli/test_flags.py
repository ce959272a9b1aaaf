"""Flags made from the configuration: every setting is one, and a bad value is one line."""

import argparse
from pathlib import Path

import pytest

from ptycho.cli.console import FlagParser
from ptycho.cli.flags import add_config_flags, add_execution_flags, config_from_options, execution_from_options
from ptycho.config.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.config.options import IterationOptions
from ptycho.config.schema import settings_of
from ptycho.errors import ConfigError

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

    @pytest.mark.parametrize(
        ("flags", "value"), [([], None), (["--fly"], "auto"), (["--fly", "5"], 5), (["--fly", "none"], None)]
    )
    def test_a_flag_alone_means_what_its_field_says(self, flags, value):
        parser = FlagParser(prog="p")
        add_config_flags(parser, IterationOptions)
        assert config_from_options(IterationOptions, parser.parse_flags(flags), {}, "c.yaml").fly_points == value

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
        config, options = training("--torch-devices", "2", "--torch-num-workers", "2")
        with pytest.raises(ConfigError, match=r"PyTorch need --backend pytorch, found num-workers with tensorflow"):
            execution_from_options(options, config)
        config, options = training()
        assert execution_from_options(options, config) is None

    def test_tensorflow_takes_the_processes(self):
        asked = {"devices": 2, "nodes": 3, "process_timeout": 9.0}
        expected = PyTorchExecutionConfig(**asked)
        config, options = training("--torch-devices", "2", "--torch-nodes", "3", "--torch-process-timeout", "9")
        assert execution_from_options(options, config) == expected
        config, options = training("--torch-devices", "2")
        assert execution_from_options(options, config, {"nodes": 3, "process_timeout": 9}) == expected
        with pytest.raises(ConfigError, match="command line: accelerator needs backend: pytorch, found backend=tens"):
            execution_from_options(options, config, {"accelerator": "cpu"})

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


def test_abbreviations_are_not_taken():
    parser = FlagParser(prog="p")
    add_config_flags(parser, TrainingConfig)
    with pytest.raises(ConfigError, match="unknown argument --batch"):
        parser.parse_flags(["--batch", "4"])


def test_flags_not_given_are_absent():
    assert training()[1] == argparse.Namespace()
