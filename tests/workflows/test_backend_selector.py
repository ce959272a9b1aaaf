"""The door to both backends: names, what is missing, and the same shapes from either."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from ptycho import params
from ptycho.config.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.errors import BackendError, ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows import backend_selector
from ptycho.workflows.backend_selector import (
    load_inference_bundle_with_backend,
    reconstruct_with_backend,
    refine_probe_with_backend,
    require_backend,
    run_cdi_example_with_backend,
    save_bundle_with_backend,
    train_cdi_model_with_backend,
)

FIXTURE = Path(__file__).parents[1] / "fixtures" / "pytorch_integration" / "minimal_dataset_v1.npz"


@pytest.fixture(autouse=True)
def _own_params(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "cfg", dict(params.cfg))


@pytest.fixture
def scan() -> RawData:
    return RawData.from_file(FIXTURE)


def settings(backend: str, folder: Path) -> TrainingConfig:
    model = ModelConfig(N=64, gridsize=1, n_filters_scale=1)
    return TrainingConfig(model=model, nepochs=1, n_groups=16, backend=backend, output_dir=folder / "out")


def options(backend: str) -> dict:
    if backend == "tensorflow":
        return {}
    quiet = PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False, logger_backend=None)
    return {"execution_config": quiet}


@pytest.mark.parametrize("name", ["tensorflow", "pytorch"])
def test_both_backends_are_here(name: str) -> None:
    require_backend(name)


@pytest.mark.parametrize("name", ["", "torch", "TensorFlow", "jax", None])
def test_any_other_name_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match=f"must be 'tensorflow' or 'pytorch', found {name!r}"):
        require_backend(name)


@pytest.mark.parametrize(
    ("name", "package", "line"),
    [
        (
            "pytorch",
            "torch",
            "PyTorch backend selected, but torch is not installed: pip install 'torch>=2.5' 'lightning>=2.4'",
        ),
        ("pytorch", "lightning", "PyTorch backend selected, but lightning is not installed: pip install"),
        (
            "tensorflow",
            "tensorflow",
            "TensorFlow backend selected, but tensorflow is not installed: pip install 'tensorflow>=2.20'",
        ),
    ],
)
def test_a_missing_package_is_a_runtime_error_with_the_remedy(name, package, line, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    other = {"pytorch": "tensorflow", "tensorflow": "pytorch"}[name]
    with pytest.raises(RuntimeError) as caught:
        train_cdi_model_with_backend(None, None, settings(name, tmp_path))
    assert isinstance(caught.value, BackendError)
    assert str(caught.value).startswith(line)
    assert str(caught.value).endswith(f"or use --backend {other}")
    require_backend(other)


@pytest.mark.parametrize("name", ["pytorch", "tensorflow"])
def test_the_remedy_asks_for_what_the_package_asks_for(name) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [word.strip("'") for word in backend_selector._BACKENDS[name].install.split()]
    assert set(named) <= {wanted.partition(";")[0] for wanted in project["dependencies"]}


def test_settings_of_pytorch_are_not_ignored_elsewhere(scan, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"execution_config: .*enable_progress_bar.* is for the pytorch backend"):
        train_cdi_model_with_backend(scan, None, settings("tensorflow", tmp_path), **options("pytorch"))


@pytest.mark.usefixtures("without_graphs")
@pytest.mark.parametrize("backend", [pytest.param("tensorflow", marks=pytest.mark.slow), "pytorch"])
def test_both_give_the_same_shapes(backend, scan, tmp_path) -> None:
    config = settings(backend, tmp_path)
    config = replace(config, nphotons=100000.0)
    amplitude, phase, results = run_cdi_example_with_backend(scan, scan, config, do_stitching=True, **options(backend))
    assert params.cfg["nphotons"] == 100000.0
    assert amplitude.shape == phase.shape == scan.objectGuess.shape
    assert (amplitude.dtype, phase.dtype) == (np.float32, np.float32)
    assert set(results) == {
        "backend", "model", "history", "train_container", "test_container", "train_seconds", "config",
        "reconstruction", "obj_tensor_full", "global_offsets", "recon_amp", "recon_phase",
        "models", "train_containers", "test_containers", "reconstructions",
    }  # fmt: skip
    assert results["backend"] == backend == results["reconstruction"].backend
    assert set(results["history"]) == {"train_loss", "val_loss", "seconds"}
    path = save_bundle_with_backend(results, config, tmp_path / "model")
    inference = InferenceConfig(model_path=path, backend=backend)
    _, trained = load_inference_bundle_with_backend(path, inference, **options(backend))
    assert trained["backend"] == backend
    assert params.cfg["intensity_scale"] == pytest.approx(results["model"].intensity_scale)
    found = reconstruct_with_backend(scan, inference, **options(backend))
    np.testing.assert_allclose(found.object, results["obj_tensor_full"], atol=1e-5)


@pytest.mark.parametrize("backend", ["tensorflow", "pytorch"])
def test_the_probe_is_refined_by_the_backend_of_the_configuration(backend: str, scan: RawData, tmp_path: Path) -> None:
    found = refine_probe_with_backend(scan, settings(backend, tmp_path), 2, **options(backend))
    assert found.probeGuess.shape[-2:] == (64, 64)
    assert not np.allclose(found.probeGuess, scan.probeGuess, rtol=1e-3)
    assert np.linalg.norm(found.probeGuess) == pytest.approx(np.linalg.norm(scan.probeGuess), rel=1e-5)
