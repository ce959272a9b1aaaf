"""The chain around the network, side by side: containers, the legacy dictionary, stitched objects."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ptycho import params
from ptycho.config.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.core.quality.diffraction_error import least_squares_scale
from ptycho.core.refinement.trust import ON_HOST
from ptycho.core.stitching.stitch import probe_weight
from ptycho.core.stitching.sums import MakeSums
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.tf.loader import PtychoDataContainer
from ptycho.tf.model_manager import load_tf_bundle
from ptycho.tf.predictor import DiffractionToObject
from ptycho.tf_helper import reassemble_position
from ptycho.workflows.backend_selector import reconstruct_with_backend, train_cdi_model_with_backend
from ptycho.workflows.components import reconstruct_scan
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.trust import scan_trust
from ptycho_torch import backend as torch_backend
from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
from ptycho_torch.device.stitching import TorchSums
from ptycho_torch.model_manager import load_torch_bundle, save_torch_bundle
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.workflows import components as torch_components

EXECUTION = PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False, logger_backend=None)

TOLD = {"energy_eV": 8800.0, "distance_m": 1.5}


@pytest.fixture
def archive(scan: RawData, tmp_path: Path) -> Callable[[int], Path]:
    """`archive(gridsize)`: a model whose patches differ, saved by PyTorch."""

    def make(gridsize: int) -> Path:
        config = ModelConfig(N=64, gridsize=gridsize, n_filters_scale=1)
        with torch.random.fork_rng():
            torch.manual_seed(2)
            model = PtychoPINN(config, scan.probeGuess, scan.input_scale(), 10.0)
            for head in (model.network.amplitude_head, model.network.phase_head):
                torch.nn.init.normal_(head.weight, std=0.5)
        model.scan = {"metadata": TOLD, "source": {"name": "trained on"}}
        return save_torch_bundle(tmp_path, model, TrainingConfig(model=config))

    return make


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("gridsize", [1, 2, 3])
def test_containers_hold_the_same(gridsize: int, scan: RawData) -> None:
    grouped = scan.generate_grouped_data(64, K=10, nsamples=9, gridsize=gridsize)
    ours, theirs = (kind(grouped, scan.probeGuess) for kind in (PtychoDataContainer, PtychoDataContainerTorch))
    names = ("X", "coords", "coords_nominal", "coords_true", "nn_indices", "global_offsets", "local_offsets", "probe")
    for name in names:
        found, expected = np.asarray(getattr(ours, name)), np.asarray(getattr(theirs, name))
        assert found.dtype == expected.dtype, name
        np.testing.assert_array_equal(found, expected, err_msg=name)
    for name in ("Y", "Y_I", "Y_phi"):
        assert getattr(ours, name) is None
        assert getattr(theirs, name) is None
    assert ours.canvas_size == theirs.canvas_size
    first, second = ours.batch(slice(2, 7)), theirs.batch(slice(2, 7))
    np.testing.assert_array_equal(np.moveaxis(np.asarray(first[0]), -1, 1), np.asarray(second[0]))


@pytest.mark.parametrize("gridsize", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_one_archive_gives_one_stitched_object(gridsize: int, scan: RawData, archive: Callable[[int], Path]) -> None:
    path, config = archive(gridsize), InferenceConfig(fit_scale=gridsize == 1)
    ours = reconstruct_scan(load_tf_bundle(path)[0], scan, config)
    theirs = torch_components.reconstruct_scan(load_torch_bundle(path)[0], scan, config, execution_config=EXECUTION)
    assert relative(ours.object, theirs.object) < 1e-5
    np.testing.assert_allclose(ours.coverage, theirs.coverage, rtol=1e-5, atol=1e-5)
    assert ours.synchronised == theirs.synchronised
    parts = (ours.object, ours.probe, (ours.xcoords, ours.ycoords), scan.amplitude)
    factor = least_squares_scale(*parts)
    assert (abs(factor - 1) < 1e-5) == config.fit_scale


def test_a_pass_is_stitched_by_what_its_backend_brings(
    scan: RawData, archive: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU does, on a CPU; the execution of the run says where."""
    path, asked = archive(1), []
    usual = torch_components.reconstruct_scan(
        load_torch_bundle(path)[0], scan, InferenceConfig(), execution_config=EXECUTION
    )

    def brought(run: RunOptions) -> MakeSums:
        asked.append(run.execution)
        return partial(TorchSums, deterministic=True)

    monkeypatch.setattr(torch_backend, "canvas_sums", brought)
    found = torch_components.reconstruct_scan(
        load_torch_bundle(path)[0], scan, InferenceConfig(), execution_config=EXECUTION
    )
    assert [each.accelerator for each in asked] == ["cpu"]
    assert relative(found.object, usual.object) < 1e-6
    np.testing.assert_allclose(found.coverage, usual.coverage, rtol=1e-6)
    np.testing.assert_allclose(found.spread**2, usual.spread**2, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", ["pytorch", "tensorflow"])
def test_a_result_tells_its_model_and_scan(backend, scan: RawData, archive: Callable[[int], Path]) -> None:
    """The scan tells no geometry: that of the training counts."""
    path = archive(1)
    config = InferenceConfig(model_path=path.parent, backend=backend)
    execution = {"execution_config": EXECUTION} if backend == "pytorch" else {}
    found = reconstruct_with_backend(scan, config, refine=1, **execution)
    assert {key: found.metadata[key] for key in ("energy_eV", "distance_m")} == TOLD
    block = found.provenance
    assert block["model"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (block["model"]["file"], block["model"]["architecture"]) == ("wts.h5.zip", "cnn")
    assert block["model"]["scan"] == {"name": "trained on"}
    assert block["scan"]["content_sha256"] == scan.identity.sha256
    assert (block["settings"]["refine_iterations"], block["device"]) == (1, "cpu")
    assert block["libraries"]["torch"] == torch.__version__


def test_reassemble_position_is_the_weighted_assembly(scan: RawData, archive: Callable[[int], Path]) -> None:
    """At gridsize 1 and the whole patch, what a client stitches is what the workflow stitches."""
    path = archive(1)
    model, _ = load_tf_bundle(path)
    grouped = scan.generate_grouped_data(64, nsamples=len(scan), gridsize=1, sequential_sampling=True)
    container = PtychoDataContainer(grouped, scan.probeGuess)
    found = DiffractionToObject(model).predict([container.X * model.intensity_scale, container.local_offsets])
    object_of_client = reassemble_position(found, container.global_offsets, M=64)
    theirs = torch_components.reconstruct_scan(
        load_torch_bundle(path)[0], scan, InferenceConfig(), execution_config=EXECUTION
    )
    lit = theirs.coverage > 1e-3
    turned = object_of_client[lit] * np.exp(1j * np.angle(np.vdot(object_of_client[lit], theirs.object[lit])))
    assert probe_weight(params.cfg["probe"]).shape == (64, 64)
    assert object_of_client.shape == theirs.object.shape
    assert not theirs.synchronised
    assert relative(turned, theirs.object[lit]) < 1e-5


@pytest.mark.usefixtures("without_graphs")
def test_params_cfg_is_the_same_after_training(scan: RawData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainingConfig(
        model=ModelConfig(N=64, n_filters_scale=1), nepochs=1, n_groups=8, batch_size=4, output_dir=tmp_path
    )
    found = []
    for backend in ("tensorflow", "pytorch"):
        monkeypatch.setattr(params, "cfg", {"offset": 4, "max_position_jitter": 10})
        train_cdi_model_with_backend(scan, None, replace(config, backend=backend))
        found.append(dict(params.cfg))
    tensorflow, pytorch = found
    assert tensorflow.keys() == pytorch.keys()
    for key in tensorflow.keys() - {"backend", "probe", "intensity_scale"}:
        assert tensorflow[key] == pytorch[key], key
    np.testing.assert_array_equal(tensorflow["probe"], pytorch["probe"])
    assert tensorflow["intensity_scale"] == pytest.approx(pytorch["intensity_scale"], rel=1e-2)


@pytest.mark.parametrize("kind", [PtychoDataContainer, PtychoDataContainerTorch])
def test_a_container_of_arrays_is_that_of_the_grouped_dict(kind: type, scan: RawData) -> None:
    grouped = scan.generate_grouped_data(64, K=10, nsamples=5, gridsize=2)
    whole = kind(grouped, scan.probeGuess)
    names = ("X", "global_offsets", "local_offsets", "coords_true", "nn_indices")
    rng = np.random.default_rng(5)
    truth = {"Y_I": rng.random(whole.X.shape), "Y_phi": rng.random(whole.X.shape)}
    made = kind(**{name: getattr(whole, name) for name in names}, probe=scan.probeGuess, **truth)
    for name in (*names, "coords_nominal", "probe"):
        expected = np.asarray(getattr(whole, name))
        np.testing.assert_allclose(np.asarray(getattr(made, name)), expected, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(np.asarray(made.Y), truth["Y_I"] * np.exp(1j * truth["Y_phi"]), rtol=1e-6)
    for ours, theirs in zip(made.batch(slice(1, 4)), whole.batch(slice(1, 4)), strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-6)
    with pytest.raises(ConfigError, match="found no local_offsets"):
        kind(X=whole.X, global_offsets=whole.global_offsets, probe=scan.probeGuess)
    with pytest.raises(ConfigError, match="found 'Z'"):
        kind(**{name: getattr(whole, name) for name in names}, probe=scan.probeGuess, Z=1)
    with pytest.raises(ConfigError, match="found both or none"):
        kind(probe=scan.probeGuess)
    with pytest.raises(ConfigError, match="probe: expected that of the scan"):
        kind(grouped)


def test_a_pass_of_a_scan_whose_beam_and_background_are_known(scan: RawData, archive: Callable[[int], Path]) -> None:
    """Patterns with both planted give the object of those without; the result says what it was made with."""
    scan = scan.part(np.arange(16))
    flux, background = np.linspace(1.3, 0.7, len(scan)), np.full((64, 64), 2.0)
    plain = scan.amplitude()
    lit = np.sqrt(flux[:, None, None] * plain**2 + background)
    model = load_torch_bundle(archive(1))[0]
    config, parts = InferenceConfig(), (scan.xcoords, scan.ycoords, None, None)
    data = RawData(*parts, lit, scan.probeGuess, units="amplitude").with_recording(flux, background)
    knows = torch_components.reconstruct_scan(model, data, config, execution_config=EXECUTION)
    clean = RawData(*parts, plain, scan.probeGuess, units="amplitude")
    expected = torch_components.reconstruct_scan(model, clean, config, execution_config=EXECUTION)
    assert relative(knows.object, expected.object) < 1e-4
    np.testing.assert_array_equal(knows.flux, flux)
    np.testing.assert_array_equal(knows.background, background)
    assert expected.flux is None and expected.background is None
    blurry = clean.with_recording(blur=0.8)
    blurred = torch_components.reconstruct_scan(model, blurry, config, execution_config=EXECUTION)
    assert blurred.blur == 0.8 and expected.blur is None
    where = blurred.xcoords, blurred.ycoords
    told = scan_trust(blurred.object, blurred.probe, *where, blurry, 1e6, ON_HOST, recording=blurred.recording)
    assert blurred.trust.fourier_error == pytest.approx(told.fourier_error, rel=1e-5)
    untold = scan_trust(blurred.object, blurred.probe, *where, clean, 1e6, ON_HOST)
    assert told.fourier_error != pytest.approx(untold.fourier_error, rel=1e-2)
    where = knows.xcoords, knows.ycoords
    told = scan_trust(knows.object, knows.probe, *where, data, 1e6, ON_HOST, recording=knows.recording)
    assert knows.trust.fourier_error == pytest.approx(told.fourier_error, rel=1e-5)
