"""Twins by name: every file of `ptycho.tf` has the functions of its PyTorch twin, with the same parameters."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ALONE = {
    "__init__": "a package",
    "graphs": "PyTorch runs as it is written",
    "direct_layer": "Keras layers need a base; a module of PyTorch is one already",
}
FILES = sorted(path.stem for path in (ROOT / "ptycho" / "tf").glob("*.py") if path.stem not in ALONE)
RENAMED = {
    "PtychoDataContainerTorch": "PtychoDataContainer",
    "PtychoPINN_Lightning": "TrainingModule",
    "forward": "call",
    "load_torch_bundle": "load_tf_bundle",
    "save_torch_bundle": "save_tf_bundle",
}
ONLY_PYTORCH = {
    "add_whole_numbers": "TensorFlow adds in the order of the patches",
    "archive_of": "a Lightning checkpoint holds what it says",
    "blank_model": "a Lightning checkpoint brings the weights",
    "configure_gradient_clipping": "a hook of Lightning",
    "configure_optimizers": "a hook of Lightning",
    "canonical_name": "parameters of a module have names of their own; a Keras layer says `named_parameters`",
    "forward_predict": "the name that callers of PyTorch know; those of TensorFlow know `diffraction_to_obj`",
    "models": "collected from the submodules; TensorFlow's module has them as an attribute",
    "no_autocast": "TensorFlow computes in one precision",
    "of_experiment": "a Lightning checkpoint brings the models of all experiments, an archive that of one",
    "on_before_optimizer_step": "a hook of Lightning",
    "on_save_checkpoint": "a hook of Lightning",
    "on_train_start": "a hook of Lightning",
    "rate": "from the execution settings; TensorFlow's module has the argument `learning_rate`",
    "usual_defaults": "TensorFlow has no default type of a program, and places operations where their tensors are",
}
ONLY_TENSORFLOW = {
    "Autoencoder": "callers of TensorFlow know its `predict`",
    "DiffractionToObject": "callers of TensorFlow know its `predict`; those of PyTorch know `forward_predict`",
    "ModelManager": "kept for compatibility with callers of TensorFlow",
    "DirectLayer": "PyTorch modules are called as they are",
    "Optimizer": "PyTorch has its own; these follow its rules",
    "adaptive_clip": "PyTorch clips in a hook of Lightning (`ptycho_torch.lightning.clipping`)",
    "clip_adaptively": "PyTorch clips in a hook of Lightning (`ptycho_torch.lightning.clipping`)",
    "clip_gradients": "Lightning does it",
    "compiled": "PyTorch runs as it is written",
    "channel_first": "PyTorch has images channel-first",
    "channel_last": "PyTorch has images channel-first",
    "doubled": "PyTorch has `interpolate`",
    "last_trained": "what `save` of TensorFlow callers writes",
    "members_first": "PyTorch has positions with the members first",
    "named_convolution": "`canonical_name` says it for PyTorch",
    "to_complex": "PyTorch multiplies real and complex tensors by itself",
    "remember": "what `save` of TensorFlow callers writes",
    "model_manager.save": "kept for compatibility with ptychodus, which calls it of TensorFlow only",
    "set_probe_guess": "kept for compatibility with ptychodus, which calls it of TensorFlow only",
}
PLACEMENT = {"dtype", "seed", "device", "deterministic", "use_xla"}
"""What PyTorch says after construction (`.double()`, `.to`) or of the process (`torch.manual_seed`), devices, and
how a device adds, and whether
TensorFlow compiles."""
OF_LIGHTNING = {
    "fit": {"accelerator", "stages", "callbacks", "team"},
    "PtychoPINN_Lightning": {"execution", "learning_rate"},
    "training_step": {"batch", "_index", "experiment_id"},
    "validation_step": {"batch", "_index", "experiment_id"},
}
"""Parameters that Lightning's trainer and hooks take, or take from the execution settings."""


def twin(name: str) -> tuple[Any, Any]:
    return importlib.import_module(f"ptycho_torch.{name}"), importlib.import_module(f"ptycho.tf.{name}")


def parameters(function: Any, named: str) -> list[tuple[str, Any]]:
    """Names and defaults, without the receiver and without where and in which precision things are made."""
    if inspect.isclass(function) and function.__init__ is not object.__init__:
        function = function.__init__  # that of a class is its `__new__`, where it or a class of Keras has one
    found, other = inspect.signature(function).parameters.values(), OF_LIGHTNING.get(named, set())
    return [(p.name, p.default) for p in found if p.name not in PLACEMENT | other | {"self"}]


def public_methods(kind: type) -> dict[str, Any]:
    return {name: value for name, value in vars(kind).items() if callable(value) and not name.startswith("_")}


def test_every_file_has_a_twin() -> None:
    theirs = {path.stem for path in (ROOT / "ptycho_torch").glob("*.py")}
    assert set(FILES) - theirs == set()
    assert (ROOT / "ptycho" / "tf" / "direct_layer.py").is_file()


@pytest.mark.parametrize("name", FILES)
def test_twins_have_the_same_names(name: str) -> None:
    theirs, ours = twin(name)
    expected = {RENAMED.get(found, found) for found in theirs.__all__ if found not in ONLY_PYTORCH}
    assert {found for found in ours.__all__ if not {found, f"{name}.{found}"} & ONLY_TENSORFLOW.keys()} == expected


@pytest.mark.parametrize("name", FILES)
def test_twins_take_the_same_parameters(name: str) -> None:
    theirs, ours = twin(name)
    compared = 0
    for found in theirs.__all__:
        if found in ONLY_PYTORCH:
            continue
        one, other = getattr(theirs, found), getattr(ours, RENAMED.get(found, found))
        compared += 1
        if not callable(one):
            continue
        assert parameters(other, found) == parameters(one, found), found
        if not inspect.isclass(one) or hasattr(one, "_fields"):
            continue
        for method, function in public_methods(one).items():
            if method in ONLY_PYTORCH:
                continue
            same = getattr(other, RENAMED.get(method, method))
            assert parameters(same, method) == parameters(function, method), f"{found}.{method}"
        properties = {key for key, value in vars(one).items() if isinstance(value, property)}
        assert properties - ONLY_PYTORCH.keys() <= {
            key for key, value in vars(other).items() if isinstance(value, property)
        }
    assert compared


def test_what_both_share_of_an_archive_works_without_either() -> None:
    """What each backend does without the other is in tests/test_import_isolation.py."""
    code = """import sys
sys.modules.update(dict.fromkeys(("torch", "lightning", "tensorflow", "keras")))
import ptycho.networks.archiving"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
