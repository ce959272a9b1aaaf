"""The networks by name: every entry leads to its parts, and nobody else asks which network it is."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from ptycho.config.config import ModelConfig, TrainingConfig, validate_training_config
from ptycho.config.schema import settings_of
from ptycho.errors import ConfigError
from ptycho.networks import registry
from ptycho.networks.registry import BUILT_IN, network_class, network_entry
from ptycho.networks.spec import network_spec

ROOT = Path(__file__).parents[2]
OWN = {
    "ptycho/networks/registry.py",
    *(f"{folder}/{name}.py" for folder in ("ptycho/networks", "ptycho/tf", "ptycho_torch") for name in BUILT_IN),
}
"""Where the name of a network may stand: the registry, and its own files."""


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("backend", ["tensorflow", "pytorch"])
def test_an_entry_leads_to_its_parts(name, backend) -> None:
    spec = network_spec(ModelConfig(architecture=name))
    assert spec.name == name
    assert spec.recipe is BUILT_IN[name].recipe
    assert network_class(name, backend).canvas == BUILT_IN[name].canvas


def test_an_entry_and_a_class_that_disagree(monkeypatch) -> None:
    """A canvas where patches are expected would be moved twice."""
    monkeypatch.setitem(BUILT_IN, "cnn", replace(BUILT_IN["cnn"], canvas=True))
    with pytest.raises(ConfigError, match=r"expected .*CnnNetwork to be a CanvasNetwork.* found PatchNetwork"):
        network_class("cnn", "pytorch")


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"one of \['cnn', 'unrolled'\], found 'unroled'; did you mean unrolled\?"):
        network_entry("unroled")
    with pytest.raises(ConfigError, match="'unroled': expected one of cnn, unrolled; did you mean unrolled"):
        validate_training_config(TrainingConfig(model=ModelConfig(architecture="unroled")))


def test_names_of_other_packages_are_only_looked_up_for_names_that_are_not_ours(monkeypatch) -> None:
    monkeypatch.setattr(registry, "_added", lambda: pytest.fail("looked through the packages"))
    validate_training_config(TrainingConfig(model=ModelConfig(architecture="unrolled")))
    assert settings_of(ModelConfig)["architecture"].choices == ("cnn", "unrolled")


def test_nobody_else_asks_which_network_it_is() -> None:
    """No name of a network, of its spec or of its class in code outside its own files."""
    classes = {path.rpartition(":")[2] for e in BUILT_IN.values() for path in (e.spec, e.tensorflow, e.pytorch)}
    forbidden = {*BUILT_IN, *classes, *(type(network_spec(ModelConfig(architecture=n))).__name__ for n in BUILT_IN)}
    seen = set()
    for path in (*(ROOT / "ptycho").rglob("*.py"), *(ROOT / "ptycho_torch").rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = node.value if isinstance(node, ast.Constant) else getattr(node, "id", getattr(node, "name", None))
            if isinstance(named, str) and named in forbidden:
                seen.add(where)
    # the classes of `cnn` stand beside the blocks that both networks are built of
    assert seen <= OWN | {"ptycho/tf/layers.py", "ptycho_torch/layers.py"}
    assert "ptycho/networks/registry.py" in seen
