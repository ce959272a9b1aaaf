"""Every field of the PyTorch dataclasses: where it goes, that overrides win, what is refused, and what specs/ says."""

import dataclasses
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ptycho import params
from ptycho.config import config as shared
from ptycho.config.config import KEY_MAPPINGS, PyTorchExecutionConfig, update_legacy_dict
from ptycho.config.options import StitchOptions
from ptycho.config.schema import Setting, settings_of
from ptycho.errors import ConfigError
from ptycho_torch import config_params
from ptycho_torch.config.options import NEUTRAL_OPTIONS, neutral_settings, options_of
from ptycho_torch.config.routes import COUNTS, LABELS, MEMBERS, OPTIONS, REFUSED, ROUTES
from ptycho_torch.config_bridge import (
    labels_of,
    to_execution_config,
    to_inference_config,
    to_model_config,
    to_training_config,
)
from ptycho_torch.config_params import DataConfig, DatagenConfig, InferenceConfig, ModelConfig, TrainingConfig

SPEC = Path(__file__).parents[2] / "specs" / "ptychodus_api_spec.md"
PYTORCH = (DataConfig, ModelConfig, TrainingConfig, InferenceConfig)
REQUIRED = {"train_data_file": "train.npz", "test_data_file": "test.npz", "n_groups": 64, "nphotons": 1e9}
FOUND = {"model_path": "model", "test_data_file": "test.npz", "n_groups": 64}


class Case(NamedTuple):
    """One field: the value given to it, the shared field, its values by default and then, and one that is refused."""

    cls: type
    name: str
    given: Any
    to: str
    default: Any
    value: Any
    bad: Any


CASES = [
    Case(DataConfig, "nphotons", 1e6, "nphotons", 1e5, 1e6, 0),
    Case(DataConfig, "N", 128, "N", 64, 128, 100),
    Case(DataConfig, "K", 9, "neighbor_count", 6, 9, 0),
    Case(DataConfig, "subsample_seed", 5, "subsample_seed", None, 5, -1),
    Case(DataConfig, "grid_size", (3, 3), "gridsize", 2, 3, (2, 3)),
    Case(DataConfig, "probe_scale", 6.0, "probe_scale", 4.0, 6.0, 0),
    Case(ModelConfig, "mode", "Supervised", "model_type", "pinn", "supervised", "Selfsupervised"),
    Case(ModelConfig, "architecture", "unrolled", "architecture", "cnn", "unrolled", "fno"),
    Case(ModelConfig, "intensity_scale_trainable", True, "intensity_scale_trainable", False, True, "yes"),
    Case(ModelConfig, "n_filters_scale", 3, "n_filters_scale", 2, 3, 0),
    Case(ModelConfig, "amp_activation", "relu", "amp_activation", "swish", "relu", "gelu"),
    Case(ModelConfig, "probe_mask", True, "probe_mask", False, True, None),
    Case(ModelConfig, "object_big", False, "object_big", True, False, 1),
    Case(ModelConfig, "probe_big", False, "probe_big", True, False, 1),
    Case(ModelConfig, "pad_object", False, "pad_object", True, False, None),
    Case(ModelConfig, "gaussian_smoothing_sigma", 0.5, "gaussian_smoothing_sigma", 0.0, 0.5, -0.5),
    Case(ModelConfig, "loss_function", "MAE", "torch_loss_mode", "poisson", "mae", "Gauss"),
    Case(TrainingConfig, "nll", False, "nll_weight", 1.0, 0.0, 0.5),
    Case(TrainingConfig, "device", "cpu", "accelerator", "auto", "cpu", "abacus"),
    Case(TrainingConfig, "strategy", "ddp", "strategy", "auto", "ddp", "fsdp"),
    Case(TrainingConfig, "n_devices", 2, "devices", 1, 2, 0),
    Case(TrainingConfig, "orchestrator", "Mlflow", "logger_backend", "csv", "mlflow", "wandb"),
    Case(TrainingConfig, "learning_rate", 0.01, "learning_rate", None, 0.01, 0),
    Case(TrainingConfig, "epochs", 7, "nepochs", 50, 7, 0),
    Case(TrainingConfig, "batch_size", 3, "batch_size", 16, 3, 0),
    Case(TrainingConfig, "scheduler", "Cosine", "scheduler", "Default", "WarmupCosine", "Triangle"),
    Case(TrainingConfig, "lr_warmup_epochs", 2, "lr_warmup_epochs", 0, 2, -1),
    Case(TrainingConfig, "lr_min_ratio", 0.2, "lr_min_ratio", 0.1, 0.2, 2),
    Case(TrainingConfig, "warmup_epochs", 2, "lr_warmup_epochs", 0, 2, 0.5),
    Case(TrainingConfig, "min_lr_ratio", 0.2, "lr_min_ratio", 0.1, 0.2, -1),
    Case(TrainingConfig, "num_workers", 1, "num_workers", 4, 1, -1),
    Case(TrainingConfig, "accum_steps", 2, "accum_steps", 1, 2, 0),
    Case(TrainingConfig, "gradient_clip_val", 0.5, "gradient_clip_val", None, 0.5, 0),
    Case(TrainingConfig, "gradient_clip_algorithm", "agc", "gradient_clip_algorithm", "norm", "agc", "l1"),
    Case(TrainingConfig, "optimizer", "sgd", "optimizer", "adam", "sgd", "lion"),
    Case(TrainingConfig, "momentum", 0.5, "momentum", 0.9, 0.5, 1),
    Case(TrainingConfig, "weight_decay", 0.1, "weight_decay", 0.0, 0.1, -1),
    Case(TrainingConfig, "adam_beta1", 0.8, "adam_beta1", 0.9, 0.8, 1),
    Case(TrainingConfig, "adam_beta2", 0.99, "adam_beta2", 0.999, 0.99, 1),
    Case(TrainingConfig, "torch_loss_mode", "mae", "torch_loss_mode", "poisson", "mae", "MAE"),
    Case(TrainingConfig, "train_data_file", Path("a.npz"), "train_data_file", Path("train.npz"), Path("a.npz"), 3),
    Case(TrainingConfig, "test_data_file", Path("a.npz"), "test_data_file", Path("test.npz"), Path("a.npz"), 3),
    Case(TrainingConfig, "output_dir", Path("a"), "output_dir", Path("training_outputs"), Path("a"), None),
    Case(TrainingConfig, "n_groups", 5, "n_groups", 64, 5, 0),
    Case(TrainingConfig, "training_directories", (Path("a"),), "training_directories", (), (Path("a"),), 3),
    Case(InferenceConfig, "experiment_number", 2, "experiment_number", 0, 2, -1),
    Case(InferenceConfig, "batch_size", 8, "inference_batch_size", None, 8, 0),
]
ASKED = {  # the fields of OPTIONS: a value, the option that it sets, and what that then is
    DataConfig: {
        "K_quadrant": (8, "K_quadrant", 8),
        "n_subsample": (3, "groups_per_seed", 3),
        "neighbor_function": ("Min_dist", "neighbor_function", "Min_dist"),
        "min_neighbor_distance": (1.0, "min_neighbor_distance", 1.0),
        "max_neighbor_distance": (9.0, "max_neighbor_distance", 9.0),
        "scan_pattern": ("Rectangular", "scan_pattern", "Rectangular"),
        "normalize": ("None", "normalize", "None"),
        "probe_ramp_removal": (True, "probe_ramp_removal", True),
        "data_scaling": ("Max", "data_scaling", "Max"),
        "phase_subtraction": (False, "phase_subtraction", False),
        "x_bounds": ((0.2, 0.9), "x_bounds", (0.2, 0.9)),
        "y_bounds": ([0.1, 0.8], "y_bounds", (0.1, 0.8)),
    },
    ModelConfig: {
        "intensity_scale": (1.0, "intensity_scale", 1.0),
        "batch_norm": (True, "batch_norm", True),
        "probe_mask_tensor": (np.ones((64, 64)), "mask_array", np.ones((64, 64))),
        "probe_mask_sigma": (2.0, "mask_sigma", 2.0),
        "probe_mask_diameter": (20.0, "mask_diameter", 20.0),
        "edge_pad": (4, "edge_pad", 4),
        "decoder_last_c_outer_fraction": (0.5, "outer_fraction", 0.5),
        "decoder_last_amp_channels": (1, "amplitude_channels", 1),
        "use_shared_decoder": (True, "use_shared_decoder", True),
        "eca_encoder": (True, "eca_encoder", True),
        "cbam_encoder": (False, "cbam_encoder", False),
        "cbam_bottleneck": (True, "cbam_bottleneck", True),
        "cbam_decoder": (True, "cbam_decoder", True),
        "eca_decoder": (True, "eca_decoder", True),
        "spatial_decoder": (True, "spatial_decoder", True),
        "decoder_spatial_kernel": (3, "decoder_spatial_kernel", 3),
        "amp_loss": ("Total_Variation", "amp_loss", "Total_Variation"),
        "phase_loss": ("Mean_Deviation", "phase_loss", "Mean_Deviation"),
        "amp_loss_coeff": (0.5, "amp_loss_coeff", 0.5),
        "phase_loss_coeff": (0.5, "phase_loss_coeff", 0.5),
        "probe_reference_coeff": (0.1, "probe_reference_coeff", 0.1),
        "amplitude_variance_loss": (True, "amplitude_variance_loss", True),
        "amplitude_variance_coeff": (0.1, "amplitude_variance_coeff", 0.1),
    },
    TrainingConfig: {
        name: (value, name, value)
        for name, value in {
            "epochs_fine_tune": 5,
            "fine_tune_gamma": 0.5,
            "physics_weight_schedule": "cosine",
            "stage_3_lr_factor": 0.5,
            "enable_staged_finetuning": True,
            "finetune_skip_stage3": False,
            "finetune_early_stop_patience": 9,
            "finetune_val_split": 0.5,
            "finetune_stage1_lr_decoder": 0.5,
            **{f"stage_{stage}_epochs": 3 for stage in (1, 2, 3)},
            **{f"finetune_stage{stage}_epochs": 1 for stage in (1, 2, 3)},
            **{f"finetune_stage2_lr_{part}": 0.5 for part in ("encoder_top", "decoder", "phase_head")},
            **{
                f"finetune_stage3_lr_{part}": 0.5 for part in ("encoder_bottom", "encoder_top", "decoder", "phase_head")
            },
        }.items()
    },
    InferenceConfig: {
        "middle_trim": (20, "middle_trim", 20),
        "pad_eval": (False, "pad_eval", False),
        "window": (0, "window", 0),
        "patch_weighting": ("uniform", "patch_weighting", "uniform"),
        "log_patch_stats": (True, "log_patch_stats", True),
        "patch_stats_limit": (2, "patch_stats_limit", 2),
    },
}
NOT_SUPPORTED = {  # the fields of REFUSED: a value that is not the default
    DataConfig: {"probe_normalize": False},
    ModelConfig: {},
    TrainingConfig: {"framework": "Keras"},
    InferenceConfig: {},
}


def ids(case: Case) -> str:
    return f"{case.cls.__name__}.{case.name}"


def bridge(changes: dict[type, dict[str, Any]] | None = None, overrides: dict[str, Any] | None = None) -> dict:
    """Every shared value by name, the model's, the training's and the execution's, and what arrives in params.cfg.

    Overrides go to the dataclass that has the field, and through each of its spellings.
    """
    changes = changes or {}
    data, model, training, inference = (cls(**changes.get(cls, {})) for cls in PYTORCH)
    required = {name: value for name, value in REQUIRED.items() if name not in _stated(changes)}
    parts: dict[str, dict[str, Any]] = {"model": {}, "training": {}, "inference": {}, "execution": {}}
    for name, value in (overrides or {}).items():
        parts[_part(name)][name] = value
    tf_model = to_model_config(data, model, parts["model"])
    tf_training = to_training_config(tf_model, data, model, training, required | parts["training"])
    execution = to_execution_config(training, inference, parts["execution"])
    tf_inference = to_inference_config(tf_model, data, inference, FOUND | parts["inference"])
    update_legacy_dict(params.cfg, tf_inference)
    update_legacy_dict(params.cfg, tf_training)
    return {**vars(execution), **vars(tf_inference), **vars(tf_model), **vars(tf_training)}


def _stated(changes: dict[type, dict[str, Any]]) -> set[str]:
    return {name for inside in changes.values() for name in inside}


def _part(name: str) -> str:
    target = next((case.to for case in CASES if case.name == name), name)
    if target in settings_of(shared.ModelConfig):
        return "model"
    if target in settings_of(shared.TrainingConfig):
        return "training"
    return "inference" if target in settings_of(shared.InferenceConfig) else "execution"


def fits(case: Case, value: Any) -> dict[type, dict[str, Any]]:
    """The field changed, with what has to go along with it."""
    return {case.cls: {case.name: value}}


def legacy_form(value: Any) -> Any:
    """A value as `params.cfg` has it."""
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def cfg_value(case: Case) -> Any:
    return params.cfg.get(KEY_MAPPINGS.get(case.to, case.to))


class TestConfigBridgeMVP:
    """The way of a whole configuration."""

    def test_a_configuration_arrives_in_params_cfg(self) -> None:
        data = DataConfig(N=128, grid_size=(3, 3), C=9, K=12, nphotons=3e5, subsample_seed=7)
        pt_model = ModelConfig(C_model=9, C_forward=9, decoder_last_amp_channels=9, amp_activation="SiLU")
        training = TrainingConfig(epochs=3, batch_size=8, output_dir=Path("out"))
        model = to_model_config(data, pt_model)
        config = to_training_config(
            model, data, pt_model, training, {"train_data_file": "a.npz", "test_data_file": "b.npz", "n_groups": 20}
        )
        shared.validate_training_config(config)
        update_legacy_dict(params.cfg, config)
        found = {key: params.get(key) for key in ("N", "gridsize", "model_type", "neighbor_count", "nepochs")}
        assert found == {"N": 128, "gridsize": 3, "model_type": "pinn", "neighbor_count": 12, "nepochs": 3}
        assert params.get("train_data_file_path") == "a.npz"
        assert params.get("output_prefix") == "out"
        assert (params.get("nphotons"), params.get("amp_activation")) == (3e5, "swish")
        assert params.get("bigN") == 128 + 2 * params.get("offset")

    def test_inference(self) -> None:
        data, model = DataConfig(K=9, subsample_seed=3), to_model_config(DataConfig(), ModelConfig())
        config = to_inference_config(model, data, InferenceConfig(), {**FOUND, "debug": True})
        assert config == shared.InferenceConfig(
            model=model,
            model_path=Path("model"),
            test_data_file=Path("test.npz"),
            n_groups=64,
            neighbor_count=9,
            subsample_seed=3,
            experiment_number=0,
            debug=True,
            backend="pytorch",
            stitching=StitchOptions(middle_trim=32, window=20),
        )
        update_legacy_dict(params.cfg, config)
        assert (params.get("model_path"), params.get("neighbor_count")) == ("model", 9)

    def test_nothing_is_changed_on_the_way(self) -> None:
        before = dict(params.cfg)
        data, pt_model, training = DataConfig(), ModelConfig(), TrainingConfig()
        overrides = {**REQUIRED, "epochs": 3, "notes": "a", "N": 128}
        kept, model = dict(overrides), to_model_config(data, pt_model)
        config = to_training_config(model, data, pt_model, training, overrides)
        assert (config.model.N, model.N, config.nepochs) == (128, 64, 3)
        assert (data, pt_model, training) == (DataConfig(), ModelConfig(), TrainingConfig())
        assert (overrides, params.cfg) == (kept, before)

    @pytest.mark.parametrize(
        ("missing", "message"),
        [
            ("train_data_file", "^train_data_file is required in overrides"),
            ("n_groups", "n_groups is missing: give n_groups=.* in overrides"),
            ("nphotons", "nphotons default divergence.* overrides, for example nphotons="),
        ],
    )
    def test_what_training_needs(self, missing: str, message: str) -> None:
        rest = {name: value for name, value in REQUIRED.items() if name != missing}
        with pytest.raises(ValueError, match=message):
            to_training_config(shared.ModelConfig(), DataConfig(), ModelConfig(), TrainingConfig(), rest)

    @pytest.mark.parametrize(
        ("missing", "message"),
        [
            ("model_path", "^model_path is required in overrides"),
            ("test_data_file", "^test_data_file is required in overrides"),
            ("n_groups", "n_groups is missing"),
        ],
    )
    def test_what_inference_needs(self, missing: str, message: str) -> None:
        rest = {name: value for name, value in FOUND.items() if name != missing}
        with pytest.raises(ValueError, match=message):
            to_inference_config(shared.ModelConfig(), DataConfig(), InferenceConfig(), rest)

    def test_an_empty_path_is_no_file_and_none_is_a_number_of_groups(self) -> None:
        with pytest.raises(ConfigError, match="train_data_file is required"):
            bridge({TrainingConfig: {"train_data_file": Path()}})
        assert bridge(overrides={"n_groups": None})["n_groups"] is None

    def test_training_without_a_test_scan_warns_once(self) -> None:
        rest = {name: value for name, value in REQUIRED.items() if name != "test_data_file"}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            to_training_config(shared.ModelConfig(), DataConfig(), ModelConfig(), TrainingConfig(), rest)
        assert [entry.category for entry in caught] == [UserWarning]
        assert "evaluation" in str(caught[0].message)


class TestConfigBridgeParity:
    """Field by field."""

    def test_every_field_stands_in_one_place(self) -> None:
        for cls in PYTORCH:
            repeated = [*MEMBERS.get(cls, ()), *COUNTS.get(cls, ())]
            places = [*ROUTES[cls], *repeated, *LABELS.get(cls, ()), *OPTIONS[cls], *REFUSED[cls]]
            assert sorted(places) == sorted(settings_of(cls))
        assert {(case.cls, case.name, case.to) for case in CASES} == {
            (cls, name, route.to) for cls, routes in ROUTES.items() for name, route in routes.items()
        }

    def test_defaults_are_allowed(self) -> None:
        for cls in (*PYTORCH, DatagenConfig):
            for setting in settings_of(cls).values():
                setting.check(setting.default)

    @pytest.mark.parametrize("case", CASES, ids=ids)
    def test_default(self, case: Case) -> None:
        overrides = {"nphotons": 1e5} if case.name == "nphotons" else {}
        assert bridge(overrides=overrides)[case.to] == case.default

    @pytest.mark.parametrize("case", CASES, ids=ids)
    def test_value_arrives_in_params_cfg(self, case: Case) -> None:
        found = bridge(fits(case, case.given))
        assert found[case.to] == case.value != case.default
        if case.to in settings_of(PyTorchExecutionConfig) and case.to not in settings_of(shared.TrainingConfig):
            assert case.to not in params.cfg
        else:
            assert cfg_value(case) == legacy_form(case.value)

    @pytest.mark.parametrize("case", CASES, ids=ids)
    def test_override_wins_over_the_dataclass(self, case: Case) -> None:
        assert bridge(fits(case, case.given), {case.to: case.default})[case.to] == case.default

    @pytest.mark.parametrize("case", CASES, ids=ids)
    def test_override_wins_over_the_default_in_both_spellings(self, case: Case) -> None:
        assert bridge(overrides={case.to: case.value})[case.to] == case.value
        if case.cls is not InferenceConfig:  # its batch_size is also the training's
            assert bridge(overrides={case.name: case.given})[case.to] == case.value

    @pytest.mark.parametrize("case", [case for case in CASES if case.name != "probe_mask"], ids=ids)
    def test_bad_value_is_one_line_that_names_it(self, case: Case) -> None:
        words = {"mode": "Invalid mode", "amp_activation": "Unknown activation", "grid_size": "Non-square grids"}
        with pytest.raises(ValueError, match=words.get(case.name, f"^{case.name}=")) as caught:
            bridge(fits(case, case.bad))
        assert "\n" not in str(caught.value)
        assert repr(case.bad) in str(caught.value)

    @pytest.mark.parametrize(
        "name",
        [
            name
            for cls in (shared.ModelConfig, shared.TrainingConfig)
            for name in settings_of(cls)
            if name not in ("model", "n_images", "backend") and settings_of(cls)[name].section is None
        ],
    )
    def test_every_shared_field_can_be_overridden(self, name: str) -> None:
        setting = (settings_of(shared.ModelConfig) | settings_of(shared.TrainingConfig))[name]
        value = _other(setting)
        assert bridge(overrides={name: value})[name] == value
        found = params.cfg[KEY_MAPPINGS.get(name, name)]
        assert found == legacy_form(value)

    @pytest.mark.parametrize(
        ("cls", "name"), [pytest.param(c, n, id=f"{c.__name__}.{n}") for c, inside in ASKED.items() for n in inside]
    )
    def test_an_option_arrives_where_the_table_says(self, cls: type, name: str) -> None:
        value, option, expected = ASKED[cls][name]
        neutral = {kind: dict(neutral_settings(kind, 4)) for kind in PYTORCH}
        assert options_of(*(kind(**neutral[kind]) for kind in PYTORCH)) == NEUTRAL_OPTIONS
        before = getattr(getattr(NEUTRAL_OPTIONS, OPTIONS[cls][name].section), option)
        neutral[cls][name] = value
        if name == "patch_stats_limit":  # a limit of nothing is refused
            neutral[cls]["log_patch_stats"] = True
        found = getattr(
            getattr(options_of(*(kind(**neutral[kind]) for kind in PYTORCH)), OPTIONS[cls][name].section), option
        )
        np.testing.assert_array_equal(found, expected)
        default = settings_of(cls)[name].default
        assert not np.array_equal(expected, before) or not np.array_equal(default, before)

    def test_the_table_of_options_is_whole(self) -> None:
        assert {cls: set(inside) for cls, inside in ASKED.items()} == {cls: set(OPTIONS[cls]) for cls in PYTORCH}

    def test_options_are_checked(self) -> None:
        with pytest.raises(ConfigError, match=r"^stage_1_epochs=-1: expected"):
            bridge({TrainingConfig: {"stage_1_epochs": -1}})
        with pytest.raises(ConfigError, match=r"^neighbor_function='Far': expected"):
            to_model_config(DataConfig(neighbor_function="Far"), ModelConfig())
        with pytest.raises(ConfigError, match=r"^x_bounds"):
            options_of(DataConfig(x_bounds=(0.9, 0.1)), ModelConfig())

    def test_defaults_of_the_plain_network_ask_nothing_of_another(self) -> None:
        assert options_of(DataConfig(), ModelConfig(architecture="unrolled")).network == NEUTRAL_OPTIONS.network
        assert options_of(DataConfig(), ModelConfig()).network.cbam_encoder
        asked = options_of(DataConfig(), ModelConfig(architecture="unrolled", eca_encoder=True)).network
        assert asked.changed == ("eca_encoder",)

    def test_the_schedule_of_three_stages_is_of_pytorch_alone(self) -> None:
        found = bridge({TrainingConfig: {"scheduler": "MultiStage"}})
        assert found["scheduler"] == "Default"
        assert to_execution_config(TrainingConfig(scheduler="MultiStage")).scheduler == "MultiStage"
        assert bridge({TrainingConfig: {"scheduler": "Adaptive"}})["scheduler"] == "ReduceLROnPlateau"

    @pytest.mark.parametrize(
        ("cls", "name", "value"),
        [
            pytest.param(cls, name, value, id=f"{cls.__name__}.{name}")
            for cls, inside in NOT_SUPPORTED.items()
            for name, value in inside.items()
        ],
    )
    def test_what_nothing_acts_on_is_refused(self, cls: type, name: str, value: Any) -> None:
        with pytest.raises(ConfigError, match=f"^{name}=.* is not supported: leave it at .*; ") as caught:
            bridge({cls: {name: value}})
        assert str(caught.value).endswith(REFUSED[cls][name].instead)
        assert "\n" not in str(caught.value)
        model, data, pt_model = shared.ModelConfig(), DataConfig(), ModelConfig()
        with pytest.raises(ConfigError, match=f"^{name}="):
            if cls is InferenceConfig:
                to_inference_config(model, data, InferenceConfig(), {**FOUND, name: value})
            elif cls is TrainingConfig:
                to_training_config(model, data, pt_model, TrainingConfig(), {**REQUIRED, name: value})
            else:
                to_model_config(data, pt_model, {name: value})

    def test_the_table_of_refusals_is_whole_and_short(self) -> None:
        assert {cls: set(inside) for cls, inside in NOT_SUPPORTED.items()} == {
            cls: set(REFUSED[cls]) for cls in PYTORCH
        }
        assert sum(map(len, REFUSED.values())) <= 8

    @pytest.mark.parametrize(("cls", "name"), [(cls, name) for cls, names in MEMBERS.items() for name in names])
    def test_members(self, cls: type, name: str) -> None:
        grid = {"grid_size": (3, 3)}
        for value in (9, settings_of(cls)[name].default):
            assert bridge({DataConfig: grid, **{cls: {**(grid if cls is DataConfig else {}), name: value}}})
        with pytest.raises(ConfigError, match=rf"^{name}=5 does not fit grid_size \(2, 2\): expected 4"):
            bridge({cls: {name: 5}})

    def test_labels(self) -> None:
        assert labels_of(TrainingConfig(notes="first", model_name="m")) == {"notes": "first", "model_name": "m"}
        assert labels_of(ModelConfig(offset=9), TrainingConfig()) == {"offset": 9}
        with pytest.raises(ConfigError, match=r"^notes=3: expected text"):
            bridge({TrainingConfig: {"notes": 3}})

    @pytest.mark.parametrize(
        ("first", "second", "value"),
        [
            ("lr_warmup_epochs", "warmup_epochs", (1, 2)),
            ("lr_min_ratio", "min_lr_ratio", (0.2, 0.3)),
        ],
    )
    def test_two_spellings_of_one_setting(self, first: str, second: str, value: tuple[float, float]) -> None:
        with pytest.raises(ConfigError, match=f"^{first} and {second} are the same setting"):
            bridge({TrainingConfig: {first: value[0], second: value[1]}})
        assert bridge({TrainingConfig: {first: value[1], second: value[1]}})[first] == value[1]
        with pytest.raises(ConfigError, match=r"overrides: .* are the same setting"):
            bridge(overrides={first: value[0], second: value[1]})

    def test_training_config_subsample_seed_from_dataconfig(self) -> None:
        assert bridge({DataConfig: {"subsample_seed": 42}})["subsample_seed"] == 42

    def test_training_config_subsample_seed_override(self) -> None:
        found = bridge({DataConfig: {"subsample_seed": 42}}, {"subsample_seed": 7})
        assert (found["subsample_seed"], params.cfg["subsample_seed"]) == (7, 7)

    def test_n_subsample_comes_from_overrides_only(self) -> None:
        assert bridge()["n_subsample"] is None
        assert bridge(overrides={"n_subsample": 50})["n_subsample"] == 50

    def test_a_mask_is_a_disk_or_itself(self) -> None:
        disk = [bridge({ModelConfig: {"probe_mask": value}})["probe_mask"] for value in (None, False, True)]
        assert disk == [False, False, True]
        given = ModelConfig(probe_mask=np.eye(64))
        assert to_model_config(DataConfig(), given).probe_mask is True
        np.testing.assert_array_equal(options_of(DataConfig(), given).network.mask_array, np.eye(64))

    def test_a_distributed_strategy_needs_several_devices(self) -> None:
        assert [to_execution_config(TrainingConfig(n_devices=n)).strategy for n in (1, 2)] == ["auto", "ddp_spawn"]

    def test_cuda_is_no_claim_and_a_number_is_dropped(self) -> None:
        names = ("cuda", "cuda:1", "gpu", "mps")
        assert [to_execution_config(TrainingConfig(device=name)).accelerator for name in names] == [
            "auto",
            "auto",
            "gpu",
            "mps",
        ]

    def test_unknown_override_names_the_nearest(self) -> None:
        with pytest.raises(ConfigError, match=r"^overrides: unknown key 'n_group'; did you mean .*n_groups"):
            to_training_config(
                shared.ModelConfig(), DataConfig(), ModelConfig(), TrainingConfig(), {**REQUIRED, "n_group": 3}
            )

    def test_backend_is_fixed(self) -> None:
        assert bridge(overrides={"backend": "pytorch"})["backend"] == "pytorch"
        with pytest.raises(ConfigError, match=r"^backend='tensorflow'"):
            bridge(overrides={"backend": "tensorflow"})

    def test_deprecated_n_images(self) -> None:
        rest = {name: value for name, value in REQUIRED.items() if name != "n_groups"}
        configs = (shared.ModelConfig(), DataConfig(), ModelConfig(), TrainingConfig())
        with pytest.warns(DeprecationWarning, match="n_groups=9"):
            assert to_training_config(*configs, {**rest, "n_images": 9}).n_groups == 9
        with pytest.warns(DeprecationWarning, match="n_groups=3"):
            assert to_training_config(*configs, {**rest, "n_images": 9, "n_groups": 3}).n_groups == 3

    def test_params_cfg_matches_baseline(self) -> None:
        params.cfg.clear()
        data = DataConfig(N=128, grid_size=(3, 3), K=10, nphotons=2e6, subsample_seed=11, probe_scale=5.0)
        model = ModelConfig(C_model=9, C_forward=9, amp_activation="sigmoid", probe_mask=True, object_big=False)
        training = TrainingConfig(epochs=5, batch_size=4, scheduler="Cosine", warmup_epochs=1, gradient_clip_val=2.0)
        overrides = {"train_data_file": "a.npz", "test_data_file": "b.npz", "n_groups": 30, "output_dir": "out"}
        update_legacy_dict(
            params.cfg, to_training_config(to_model_config(data, model), data, model, training, overrides)
        )
        assert params.cfg == BASELINE


BASELINE = {
    "training_directories": [],
    "N": 128,
    "gridsize": 3,
    "n_filters_scale": 2,
    "model_type": "pinn",
    "architecture": "cnn",
    "amp_activation": "sigmoid",
    "object.big": False,
    "probe.big": True,
    "probe.mask": True,
    "pad_object": True,
    "probe_scale": 5.0,
    "gaussian_smoothing_sigma": 0.0,
    "train_data_file_path": "a.npz",
    "test_data_file_path": "b.npz",
    "batch_size": 4,
    "nepochs": 5,
    "mae_weight": 0.0,
    "nll_weight": 1.0,
    "realspace_mae_weight": 0.0,
    "realspace_weight": 0.0,
    "nphotons": 2e6,
    "n_groups": 30,
    "subsample_seed": 11,
    "neighbor_count": 10,
    "enable_oversampling": False,
    "positions.provided": True,
    "probe.trainable": False,
    "intensity_scale.trainable": False,
    "output_prefix": "out",
    "sequential_sampling": False,
    "backend": "pytorch",
    "torch_loss_mode": "poisson",
    "gradient_clip_val": 2.0,
    "gradient_clip_algorithm": "norm",
    "optimizer": "adam",
    "momentum": 0.9,
    "weight_decay": 0.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "scheduler": "WarmupCosine",
    "lr_warmup_epochs": 1,
    "lr_min_ratio": 0.1,
    "use_xla": False,
}


def _other(setting: Setting) -> Any:
    """A value that the field may hold and that is not its default."""
    if bool in setting.kinds:
        return not setting.default
    if setting.choices:
        return next(value for value in setting.choices if value != setting.default)
    if setting.member is Path:
        return (Path("some/where"), Path("else"))
    return {int: 33, float: 0.25, Path: Path("some/where")}[setting.kinds[0]]


class TestDataclasses:
    """What holds for all of them."""

    @pytest.mark.parametrize("cls", [*PYTORCH, DatagenConfig])
    def test_they_pickle_and_can_be_changed(self, cls: type) -> None:
        config = cls()
        first = dataclasses.fields(cls)[0].name
        setattr(config, first, "anything")
        assert pickle.loads(pickle.dumps(config)) == config != cls()  # noqa: S301  # our own bytes

    def test_importing_the_layer_loads_no_framework(self) -> None:
        code = "import sys, ptycho_torch.config_factory; print(sorted({'torch', 'lightning'} & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"

    def test_what_a_client_sends_by_default_is_accepted(self) -> None:
        data = DataConfig(N=128, C=4, normalize="Batch", K=6, grid_size=(2, 2))
        model = ModelConfig(decoder_last_amp_channels=4, C_model=4, C_forward=4, probe_mask=None, cbam_encoder=True)
        training = TrainingConfig(
            framework="Lightning", orchestrator="Lightning", model_name="a", gradient_clip_val=None
        )
        found = to_training_config(to_model_config(data, model), data, model, training, REQUIRED)
        shared.validate_training_config(found)
        execution = to_execution_config(training, InferenceConfig(patch_weighting="probe"))
        assert (execution.accelerator, execution.strategy, execution.num_workers) == ("auto", "auto", 4)


def shown(value: Any) -> str:
    if value == "":
        return "``"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value.as_posix() if isinstance(value, Path) else value}`"


def becomes(cls: type, name: str) -> str:
    if name in ROUTES.get(cls, {}):
        return f"`{ROUTES[cls][name].to}`"
    if name in MEMBERS.get(cls, ()):
        return "`gridsize`^2"
    if name in COUNTS.get(cls, ()):
        return "number of experiments"
    if name in LABELS.get(cls, ()):
        return "label"
    if name in OPTIONS.get(cls, {}):
        return "`{0.section}.{0.name}`".format(OPTIONS[cls][name])
    return "refused" if name in REFUSED.get(cls, {}) else "`datagen`"


def legacy(name: str) -> str:
    return f"`{KEY_MAPPINGS.get(name, name)}`"


def rows_of(cls: type, third: Any) -> list[list[str]]:
    return [
        [f"`{name}`", shown(setting.default), setting.expected, third(name), setting.doc.text]
        for name, setting in settings_of(cls).items()
        if setting.nested is None
    ]


def expected_tables() -> dict[str, list[list[str]]]:
    tables = {
        f"{cls.__name__} (shared)": rows_of(cls, legacy)
        for cls in (shared.ModelConfig, shared.TrainingConfig, shared.InferenceConfig)
    }
    for name, declared in settings_of(shared.TrainingConfig).items():
        if declared.section:
            tables[f"Section {name}"] = [[*row[:3], row[4]] for row in rows_of(declared.section, legacy)]
    tables["PyTorchExecutionConfig"] = [[*row[:3], row[4]] for row in rows_of(PyTorchExecutionConfig, legacy)]
    for cls in (*PYTORCH, DatagenConfig):
        tables[f"{cls.__name__} (PyTorch)"] = rows_of(cls, lambda name, cls=cls: becomes(cls, name))
    tables["Refused"] = [
        [
            f"`{cls.__name__}.{name}`",
            shown(settings_of(cls)[name].default),
            entry.instead,
        ]
        for cls, inside in REFUSED.items()
        for name, entry in inside.items()
    ]
    return tables


def documented_tables() -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in SPEC.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").replace("`", "")
        elif line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            found.setdefault(heading, []).append([cell.strip().replace("\\|", "|") for cell in cells])
    return {name: rows[2:] for name, rows in found.items()}


@pytest.mark.parametrize("name", expected_tables())
def test_specification(name: str) -> None:
    assert documented_tables()[name] == expected_tables()[name]


def test_the_specification_has_no_other_table_of_a_configuration() -> None:
    assert {name for name in documented_tables() if "Config" in name} <= set(expected_tables())
    assert set(config_params.__all__) == {cls.__name__ for cls in (*PYTORCH, DatagenConfig)}
