"""Configuration files: every field survives the way through each format, and what is wrong is named."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from ptycho.config.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.config.files import config_from_dict, load_config_file, load_yaml_config
from ptycho.config.schema import settings_of
from ptycho.errors import ConfigError, MissingFileError

CONFIGS = (ModelConfig, TrainingConfig, InferenceConfig, PyTorchExecutionConfig)
OTHER = {int: 3, float: 0.25, str: "train_loss", Path: "some/where", tuple: [0, 5]}


def other_value(declared):
    """A value that the field may hold and that is not its default, as a file would write it."""
    if bool in declared.kinds:
        return not declared.default
    if declared.choices:
        return declared.choices[-1] if declared.choices[-1] != declared.default else declared.choices[0]
    return ["a/b", "c"] if declared.member is Path else OTHER[declared.kinds[0]]


FIELDS = [
    pytest.param(cls, declared, id=f"{cls.__name__}.{name}")
    for cls in CONFIGS
    for name, declared in settings_of(cls).items()
    if declared.nested is None and name not in ("n_images", "architecture")
]


def toml_text(name, value):
    return f"{name} = {json.dumps(value)}\n"  # a JSON scalar or list is TOML too


@pytest.mark.parametrize("suffix", [".yaml", ".toml", ".json"])
@pytest.mark.parametrize(("cls", "declared"), FIELDS)
def test_field_through_file(cls, declared, suffix, tmp_path):
    value = other_value(declared)
    content = {declared.name: value}
    path = tmp_path / f"settings{suffix}"
    text = {".yaml": yaml.safe_dump, ".json": json.dumps, ".toml": lambda _: toml_text(declared.name, value)}
    path.write_text(text[suffix](content))
    config = config_from_dict(cls, load_config_file(path))
    found = getattr(config, declared.name)
    expected = {Path: Path, tuple: tuple}.get(declared.kinds[0] if declared.kinds else None, type(value))(value)
    if declared.member is Path:
        expected = tuple(map(Path, value))
    assert found == expected
    assert type(found) is type(expected)
    assert found != declared.default
    assert dataclasses.replace(config, **{declared.name: declared.default}) == cls()


def test_nested_model_and_untouched_defaults(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('nepochs = 7\nbackend = "pytorch"\n[model]\nN = 128\nprobe_mask = true\n')
    config = config_from_dict(TrainingConfig, load_config_file(path))
    assert config == TrainingConfig(model=ModelConfig(N=128, probe_mask=True), nepochs=7, backend="pytorch")


def test_yaml_exponent_without_a_point_is_a_number(tmp_path):
    path = tmp_path / "c.yml"
    path.write_text("nphotons: 1e7\nlr_min_ratio: 1\n")
    assert load_yaml_config(path) == {"nphotons": "1e7", "lr_min_ratio": 1}
    config = config_from_dict(TrainingConfig, load_yaml_config(path))
    assert (config.nphotons, type(config.lr_min_ratio)) == (1e7, float)


def test_null_where_none_is_allowed():
    assert config_from_dict(TrainingConfig, {"n_groups": None}).n_groups is None
    with pytest.raises(ConfigError, match="configuration: nepochs=None: expected a whole number"):
        config_from_dict(TrainingConfig, {"nepochs": None})


def test_deprecated_name_in_a_file():
    with pytest.warns(DeprecationWarning, match="n_images"):
        assert config_from_dict(TrainingConfig, {"n_images": 9}).n_groups == 9


def test_empty_yaml_is_all_defaults(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("# nothing\n")
    assert config_from_dict(TrainingConfig, load_config_file(path)) == TrainingConfig()


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"nepoch": 3}, "c.yaml: unknown key 'nepoch'; did you mean nepochs?"),
        ({"qqqq": 3}, "c.yaml: unknown key 'qqqq'"),
        ({3: 3}, "c.yaml: unknown key 3"),
        ({"gridsize": 2}, "c.yaml: unknown key 'gridsize'; put it under 'model'"),
        ({"model": {"grid_size": 2}}, "c.yaml: model: unknown key 'grid_size'; did you mean gridsize?"),
        ({"model": 64}, "c.yaml: model: expected names and values, found 64"),
        ({"model": {"N": 100}}, "c.yaml: model: N=100: expected one of 64, 128, 256"),
        ({"batch_size": "many"}, "c.yaml: batch_size='many': expected a whole number at least 1"),
        ({"batch_size": 2.5}, "c.yaml: batch_size=2.5: expected a whole number at least 1"),
        ({"probe_trainable": "true"}, "c.yaml: probe_trainable='true': expected true or false"),
        ({"nphotons": "1e"}, "c.yaml: nphotons='1e': expected a finite number above 0"),
        ({"train_data_file": 5}, "c.yaml: train_data_file=5: expected a path or none"),
    ],
)
def test_errors_name_the_field_and_what_is_allowed(mapping, message):
    with pytest.raises(ConfigError) as caught:
        config_from_dict(TrainingConfig, mapping, "c.yaml")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.yaml", "a: [1", "cannot be read"),
        ("c.toml", "a = ", "cannot be read"),
        ("c.json", "{", "cannot be read"),
        ("c.yaml", "- 1\n- 2\n", "expected a table of names and values, found list"),
        ("c.ini", "", "expected a configuration file ending in .yaml, .yml, .toml, .json"),
    ],
)
def test_damaged_files(name, text, message, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config_file(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_binary_file_is_refused_in_one_line(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config_file(path)


@pytest.mark.parametrize("load", [load_config_file, load_yaml_config])
def test_missing_file(load, tmp_path):
    with pytest.raises(MissingFileError, match=r"c\.yaml: no such configuration file"):
        load(tmp_path / "c.yaml")


def test_paths_of_a_settings_file_may_name_the_home_and_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCANS", "/data/scans")
    found = config_from_dict(TrainingConfig, {"output_dir": "~/out", "train_data_file": "${SCANS}/a.npz"})
    assert (found.output_dir, found.train_data_file) == (tmp_path / "out", Path("/data/scans/a.npz"))
    monkeypatch.delenv("SCANS")
    with pytest.raises(ConfigError, match=r"expected \$\{SCANS\} in the environment, found none"):
        config_from_dict(TrainingConfig, {"train_data_file": "${SCANS}/a.npz"})


def test_a_whole_number_beyond_all_floats_is_refused():
    with pytest.raises(ConfigError, match=r"nphotons=1000.*expected a finite number above 0"):
        config_from_dict(TrainingConfig, {"nphotons": 10**400})
