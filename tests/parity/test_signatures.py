"""Twins by name: every file of `ptycho.tf` has the functions of its PyTorch twin, with the same parameters."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from typing import Any

import pytest

FILES = [
    "attention",
    "physics",
    "precision",
    "reassembly",
    "losses",
    "objective",
    "probe",
    "layers",
    "unrolled",
    "model_manager",
    "pinn",
]
RENAMED = {"forward": "call", "load_torch_bundle": "load_tf_bundle", "save_torch_bundle": "save_tf_bundle"}
ONLY_PYTORCH = {
    "archive_of": "a Lightning checkpoint holds what it says",
    "blank_model": "a Lightning checkpoint brings the weights",
    "canonical_name": "parameters of a module have names of their own; a Keras layer says `named_parameters`",
    "forward_predict": "the name that callers of PyTorch know; those of TensorFlow know `diffraction_to_obj`",
    "no_autocast": "TensorFlow computes in one precision",
}
ONLY_TENSORFLOW = {
    "ModelManager": "for older callers, which know TensorFlow only",
    "DirectLayer": "PyTorch modules are called as they are",
    "doubled": "PyTorch has `interpolate`",
    "last_trained": "what `save` writes, for callers of long standing",
    "named_convolution": "`canonical_name` says it for PyTorch",
    "to_complex": "PyTorch multiplies real and complex tensors by itself",
    "remember": "what `save` writes, for callers of long standing",
    "save": "for callers of long standing, which know TensorFlow only",
    "set_probe_guess": "for callers of long standing, which know TensorFlow only",
}
PLACEMENT = {"dtype", "seed", "device"}
"""What PyTorch says after construction (`.double()`, `.to`) or of the process (`torch.manual_seed`), and devices."""


def twin(name: str) -> tuple[Any, Any]:
    return importlib.import_module(f"ptycho_torch.{name}"), importlib.import_module(f"ptycho.tf.{name}")


def parameters(function: Any) -> list[tuple[str, Any]]:
    """Names and defaults, without the receiver and without where and in which precision things are made."""
    found = inspect.signature(function).parameters.values()
    return [(p.name, p.default) for p in found if p.name not in PLACEMENT | {"self"}]


def public_methods(kind: type) -> dict[str, Any]:
    return {name: value for name, value in vars(kind).items() if callable(value) and not name.startswith("_")}


@pytest.mark.parametrize("name", FILES)
def test_twins_have_the_same_names(name: str) -> None:
    theirs, ours = twin(name)
    expected = {RENAMED.get(found, found) for found in theirs.__all__ if found not in ONLY_PYTORCH}
    assert set(ours.__all__) - ONLY_TENSORFLOW.keys() == expected


@pytest.mark.parametrize("name", FILES)
def test_twins_take_the_same_parameters(name: str) -> None:
    theirs, ours = twin(name)
    compared = 0
    for found in theirs.__all__:
        if found in ONLY_PYTORCH:
            continue
        one, other = getattr(theirs, found), getattr(ours, RENAMED.get(found, found))
        assert parameters(other) == parameters(one), found
        compared += 1
        if not inspect.isclass(one) or hasattr(one, "_fields"):
            continue
        for method, function in public_methods(one).items():
            if method in ONLY_PYTORCH:
                continue
            same = getattr(other, RENAMED.get(method, method))
            assert parameters(same) == parameters(function), f"{found}.{method}"
        properties = {key for key, value in vars(one).items() if isinstance(value, property)}
        assert properties <= {key for key, value in vars(other).items() if isinstance(value, property)}
    assert compared


def test_what_both_share_of_an_archive_works_without_either() -> None:
    """What each backend does without the other is in tests/test_import_isolation.py."""
    code = """import sys
sys.modules.update(dict.fromkeys(("torch", "lightning", "tensorflow", "keras")))
import ptycho.networks.archiving"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
