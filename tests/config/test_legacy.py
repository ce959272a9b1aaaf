"""The bridge to the legacy dictionary, and `ptycho.params`."""

import dataclasses
from pathlib import Path

import pytest

import ptycho.params as params
from ptycho.config.config import (
    KEY_MAPPINGS,
    InferenceConfig,
    ModelConfig,
    TrainingConfig,
    dataclass_to_legacy_dict,
    update_legacy_dict,
)
from ptycho.config.schema import settings_of
from ptycho.errors import ConfigError

SECTIONS = {name for name, declared in settings_of(TrainingConfig).items() if declared.section}


@pytest.fixture(autouse=True)
def restored_cfg(monkeypatch):
    monkeypatch.setattr(params, "cfg", dict(params.cfg))


def test_renamed_keys():
    assert KEY_MAPPINGS == {
        "object_big": "object.big",
        "probe_big": "probe.big",
        "probe_mask": "probe.mask",
        "probe_trainable": "probe.trainable",
        "intensity_scale_trainable": "intensity_scale.trainable",
        "positions_provided": "positions.provided",
        "output_dir": "output_prefix",
        "train_data_file": "train_data_file_path",
        "test_data_file": "test_data_file_path",
    }


@pytest.mark.parametrize("cls", [ModelConfig, TrainingConfig, InferenceConfig])
def test_every_field_arrives_under_its_legacy_name(cls):
    expected = {}
    for config in (ModelConfig(), cls()):
        for field in dataclasses.fields(config):
            if field.name not in ("model", *SECTIONS):
                value = getattr(config, field.name)
                key = KEY_MAPPINGS.get(field.name, field.name)
                expected[key] = str(value) if isinstance(value, Path) else value
                if isinstance(value, tuple):
                    expected[key] = list(value)
    assert dataclass_to_legacy_dict(cls()) == expected


def test_model_is_flattened_and_paths_are_text():
    config = TrainingConfig(
        model=ModelConfig(N=128, object_big=False),
        train_data_file=Path("a") / "b.npz",
        output_dir=Path("out"),
    )
    flat = dataclass_to_legacy_dict(config)
    assert "model" not in flat
    assert flat["N"] == 128
    assert flat["object.big"] is False
    assert flat["train_data_file_path"] == str(Path("a") / "b.npz")
    assert flat["output_prefix"] == "out"


def test_a_tuple_of_paths_is_a_list_of_texts():
    flat = dataclass_to_legacy_dict(TrainingConfig(training_directories=(Path("a") / "b", Path("c"))))
    assert flat["training_directories"] == [str(Path("a") / "b"), "c"]


def test_empty_path_is_no_file_but_a_folder():
    flat = dataclass_to_legacy_dict(InferenceConfig(model_path=Path(), test_data_file=Path(), output_dir=Path()))
    assert (flat["model_path"], flat["test_data_file_path"], flat["output_prefix"]) == (None, None, ".")


@pytest.mark.parametrize("wrong", [{"N": 64}, TrainingConfig, None])
def test_only_a_configuration_can_be_bridged(wrong):
    with pytest.raises(ConfigError, match="expected an instance of a configuration dataclass"):
        dataclass_to_legacy_dict(wrong)


def test_update_writes_what_is_not_none_and_leaves_the_rest():
    cfg = {"n_groups": 5, "mine": 1, "N": 64}
    update_legacy_dict(cfg, TrainingConfig(model=ModelConfig(N=256), n_groups=None, nepochs=3))
    assert (cfg["n_groups"], cfg["mine"], cfg["N"], cfg["nepochs"]) == (5, 1, 256, 3)
    assert "train_data_file_path" not in cfg
    assert None not in cfg.values()


def test_cfg_starts_with_the_defaults_of_the_configuration():
    flat = {key: value for key, value in dataclass_to_legacy_dict(TrainingConfig()).items() if value is not None}
    assert params.cfg == {**flat, "offset": 4, "max_position_jitter": 10}


def test_get_of_a_key_that_is_not_set():
    with pytest.raises(KeyError, match="intensity_scale"):
        params.get("intensity_scale")
    assert params.get("intensity_scale", 2.5) == 2.5
    assert params.get("intensity_scale", None) is None


def test_set_then_get():
    params.set("intensity_scale", 9.882118)
    assert params.get("intensity_scale") == 9.882118
    assert params.params()["intensity_scale"] == 9.882118


def test_sizes():
    assert (params.get("bigN"), params.get_bigN(), params.get_padded_size()) == (64, 64, 74)
    update_legacy_dict(params.cfg, ModelConfig(N=128, gridsize=3))
    assert (params.get("bigN"), params.params()["bigN"], params.get_padded_size()) == (136, 136, 146)
    params.set("offset", 5)
    assert params.get_bigN() == 138
    assert "bigN" not in params.cfg


def test_big_n_cannot_be_set():
    with pytest.raises(ConfigError, match="bigN is computed"):
        params.set("bigN", 70)


def test_params_is_a_copy():
    params.params()["N"] = 1
    assert params.get("N") == 64


@pytest.mark.parametrize(("key", "value"), [("N", 0), ("gridsize", 1.5), ("offset", -1), ("N", None), ("N", True)])
def test_validate_names_the_key(key, value):
    params.validate()
    params.set(key, value)
    with pytest.raises(ConfigError, match=rf"params\.cfg\['{key}'\]={value}: expected a whole number"):
        params.validate()
