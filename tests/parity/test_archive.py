"""One set of weights: what either backend saves, both load, with the same predictions and the same `params.cfg`."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ptycho import params
from ptycho.config.config import TrainingConfig
from ptycho.core.archive import load_archive
from ptycho.errors import ArchiveError, MissingFileError
from ptycho.networks import archiving as bundle
from ptycho.networks import unrolled as unrolled_data
from ptycho.tf.model_manager import load_tf_bundle, save_tf_bundle
from ptycho_torch.model_manager import load_torch_bundle, save_torch_bundle

SIZE = 80


@pytest.fixture
def dtype() -> str:
    """Archives are made of float32."""
    return "float32"


@pytest.fixture
def twins(request, make_twins, rng, monkeypatch):
    """Trained, as far as an archive can tell: probe and intensity scale have moved; `cnn` or what the test says.

    The patterns are of no one object, and iterating on such multiplies rounding: there are no plain steps.
    """
    monkeypatch.setattr(unrolled_data, "DESCENT", 0)
    settings = {"architecture": getattr(request, "param", "cnn"), "gridsize": 2, "probe_mask": True}
    made = make_twins("float32", settings=settings, probe_trainable=True)
    change = 1 + 0.1 * rng.random((2, 64, 64)).astype(np.float32)
    made.tensorflow.probe.real_part.assign(made.tensorflow.probe.real_part * change)
    made.tensorflow.probe.imaginary_part.assign(made.tensorflow.probe.imaginary_part * change)
    made.tensorflow.log_intensity_scale.assign(math.log(37.0))
    made.torch.probe.modes.data *= torch.as_tensor(change)[..., None]
    made.torch.log_intensity_scale.data.fill_(math.log(37.0))
    return made


def save(backend: str, twins, folder: Path) -> Path:
    config = TrainingConfig(model=twins.tensorflow.config, output_dir=folder.parent)
    if backend == "pytorch":
        return save_torch_bundle(folder, twins.torch, config)
    return save_tf_bundle(folder, twins.tensorflow, config)


both_networks = pytest.mark.parametrize("twins", ["cnn", "unrolled"], indirect=True)


@both_networks
@pytest.mark.parametrize("saved_by", ["pytorch", "tensorflow"])
@pytest.mark.parametrize("loaded_by", ["pytorch", "tensorflow"])
def test_what_one_backend_saves_both_load(twins, agree, saved_by, loaded_by, tmp_path) -> None:
    path = save(saved_by, twins, tmp_path)
    params.cfg.clear()
    with torch.no_grad():
        expected = twins.torch.predict_members(*twins.torch_batch(), SIZE).numpy().transpose(0, 2, 3, 1)
        if loaded_by == "pytorch":
            loaded, archive = load_torch_bundle(path)
            found = loaded.predict_members(*twins.torch_batch(), SIZE).numpy().transpose(0, 2, 3, 1)
        else:
            loaded, archive = load_tf_bundle(path)
            found = loaded.predict_members(*twins.tensorflow_batch(), SIZE)
    agree("archive", f"patches of {twins.torch.config.architecture}, {saved_by} -> {loaded_by}", found, expected)
    assert archive.backend == saved_by
    assert params.cfg["intensity_scale"] == pytest.approx(37.0, rel=1e-6)
    assert params.cfg["input_scale"] == 0.5
    np.testing.assert_array_equal(params.cfg["probe"], archive.probe)


@both_networks
def test_both_backends_write_the_same_archive(twins, agree, tmp_path) -> None:
    theirs, ours = (load_archive(save(name, twins, tmp_path / name)) for name in ("pytorch", "tensorflow"))
    assert list(ours.weights) == list(theirs.weights)
    for name, array in theirs.weights.items():
        np.testing.assert_array_equal(ours.weights[name], array)
    agree("archive", "probe", ours.probe, theirs.probe)
    np.testing.assert_array_equal(ours.mask, theirs.mask)
    assert ours.params == theirs.params
    assert ours.configs["training"]["model"] == theirs.configs["training"]["model"]
    assert (ours.input_scale, ours.intensity_scale_nominal) == (theirs.input_scale, theirs.intensity_scale_nominal)
    assert set(ours.versions) == {"ptychopinn", "tensorflow", "keras"}


@pytest.mark.parametrize("backend", ["pytorch", "tensorflow"])
@pytest.mark.parametrize("twins", ["unrolled"], indirect=True)
def test_a_probe_that_shrank_in_training_lights_as_much_after_loading(twins, backend, agree, tmp_path) -> None:
    """What the corrections see of a canvas follows from the probe, in memory and in the archive."""
    y, x = np.mgrid[:64, :64] - 32.0
    shrunk = np.stack([np.exp(-(x**2 + y**2) / 30), np.zeros((64, 64))]).astype(np.float32)
    before = twins.torch.light
    for part in (twins.tensorflow.probe.real_part, twins.tensorflow.probe.imaginary_part):
        part.assign(shrunk)
    twins.torch.probe.modes.data[:] = torch.as_tensor(shrunk)[..., None]
    for model in (twins.torch, twins.tensorflow):
        model.measure_light()
    assert twins.torch.light == twins.tensorflow.light < before
    path = save(backend, twins, tmp_path)
    load, model = (load_torch_bundle, twins.torch) if backend == "pytorch" else (load_tf_bundle, twins.tensorflow)
    batch = twins.torch_batch() if backend == "pytorch" else twins.tensorflow_batch()
    with torch.no_grad():
        found, expected = (made.predict_members(*batch, SIZE) for made in (load(path)[0], model))
    agree("archive", "patches, a probe that shrank", found, expected)


def test_weights_that_do_not_fit_are_refused_by_name(twins, tmp_path) -> None:
    weights = bundle.checked_weights(
        twins.tensorflow.network.spec, dict(load_archive(save("tensorflow", twins, tmp_path)).weights), "here"
    )
    name = "phase/head/bias"
    for change, text in (
        ({**weights, "border/more": np.ones(1)}, "here: weight 'border/more' is unexpected for N=64"),
        ({key: value for key, value in weights.items() if key != name}, f"here: weight '{name}' is missing for N=64"),
        ({**weights, name: np.ones(5)}, f"here: weight '{name}' must be of shape \\(4,\\), found \\(5,\\)"),
    ):
        with pytest.raises(ArchiveError, match=text):
            bundle.checked_weights(twins.tensorflow.network.spec, change, "here")


def test_there_is_nothing_to_load(tmp_path) -> None:
    with pytest.raises(MissingFileError, match="expected"):
        load_tf_bundle(tmp_path)
