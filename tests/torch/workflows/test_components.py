"""From a scan to an object: frames, units, stitching, refinement, masks, warnings."""

import logging
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ptycho import params
from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.core.archive import load_archive
from ptycho.core.formats.reconstruction_npz import read_npz
from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.progress import Progress
from ptycho.core.quality.metrics import relative_fourier_error
from ptycho.core.reconstruction import Reconstruction
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.workflows import reconstruct as workflow
from ptycho.workflows.backend_selector import backend_named, run_cdi_example_with_backend
from ptycho.workflows.run_options import RunOptions
from ptycho_torch import backend
from ptycho_torch.config_factory import create_training_payload
from ptycho_torch.config_params import ModelConfig
from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
from ptycho_torch.fit import PtychoPINN_Lightning
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.workflows.components import (
    load_inference_bundle_torch,
    predict_scan,
    reconstruct_scan,
    reconstruct_torch,
    run_cdi_example_torch,
    save_torch_bundle,
    train_cdi_model_torch,
)


def grouped(scan: RawData, gridsize: int, **options):
    return scan.generate_grouped_data(
        64, K=6, nsamples=len(scan), gridsize=gridsize, sequential_sampling=True, **options
    )


def untrained(scan: RawData, config: TrainingConfig) -> PtychoPINN:
    return PtychoPINN(config.model, scan.probeGuess, scan.input_scale(), 10.0).eval()


def reconstruct(model: PtychoPINN, scan: RawData, execution: PyTorchExecutionConfig, **options) -> Reconstruction:
    return reconstruct_scan(model, scan, InferenceConfig(), execution_config=execution, **options)


def without_truth(scan: RawData, shift: float = 0.0) -> RawData:
    return RawData.from_coords_without_pc(
        scan.xcoords + shift, scan.ycoords, scan.diff3d, scan.probeGuess, None, units=scan.units
    )


@pytest.mark.parametrize("gridsize", [1, 2])
def test_containers_stream_what_they_hold(gridsize: int, scan: RawData) -> None:
    data = grouped(scan, gridsize)
    container = PtychoDataContainerTorch(data, scan.probeGuess)
    normalised, positions, mask = container.batch(np.array([3, 0, 7]))
    chosen = container.X[[3, 0, 7]]
    np.testing.assert_allclose(normalised, chosen.permute(0, 3, 1, 2), rtol=1e-6)
    np.testing.assert_allclose(positions[:, :, 0], container.local_offsets[[3, 0, 7], 0].transpose(1, 2))
    assert mask.shape == (1, 1, 64, 64)
    plain = PtychoDataContainerTorch(dict(data.items()), scan.probeGuess)
    np.testing.assert_allclose(plain.batch(slice(2, 5))[0], container.batch(slice(2, 5))[0], rtol=1e-6)
    assert container.global_offsets.shape == (64, 1, 2, 1)
    assert len(container) == 64


def test_container_masks_follow_the_members(scan: RawData, rng: np.random.Generator) -> None:
    mask = rng.random((64, 64, 64)) > 0.2
    data = grouped(scan, 2)
    found = PtychoDataContainerTorch(data, scan.probeGuess, mask).batch(np.array([5, 9]))[2].numpy()
    np.testing.assert_array_equal(found, mask[data["nn_indices"][[5, 9]]])


@pytest.mark.parametrize("gridsize", [1, 2, 3])
def test_any_batch_size_predicts_every_group(gridsize: int, scan: RawData, training: TrainingConfig) -> None:
    config = replace(training, model=replace(training.model, gridsize=gridsize))
    data = scan.generate_grouped_data(64, K=10, nsamples=13, gridsize=gridsize)
    container = PtychoDataContainerTorch(data, scan.probeGuess)
    whole = predict_scan(untrained(scan, config), container, batch_size=64)
    assert whole.shape == (13, gridsize**2, 64, 64)
    np.testing.assert_allclose(predict_scan(untrained(scan, config), container, batch_size=5), whole, atol=1e-5)


def test_an_untrained_network_gives_vacuum_in_the_units_of_the_scan(scan, training, execution) -> None:
    found = reconstruct(untrained(scan, training), scan, execution)
    bright = found.coverage > 0.1
    expected = float(untrained(scan, training).object_scale.detach())
    np.testing.assert_allclose(found.object[bright], expected, rtol=1e-4)
    assert found.object.shape == scan.objectGuess.shape
    assert (found.object[found.coverage == 0] == 1).all()


def test_the_frame_is_that_of_the_guess_or_the_smallest(scan, training, execution) -> None:
    model = untrained(scan, training)
    assert reconstruct(model, scan, execution).frame.shape == scan.objectGuess.shape
    free = reconstruct(model, without_truth(scan, shift=100.25), execution)
    np.testing.assert_allclose(free.xcoords + free.frame.x0, scan.xcoords + 100.25)
    assert free.frame.x0 > 90
    assert free.xcoords.min() >= 32


def test_the_reconstruction_does_not_depend_on_where_the_origin_is(scan, training, execution) -> None:
    model = train_cdi_model_torch(scan, None, training, execution_config=execution)["model"]
    here, there = (reconstruct(model, without_truth(scan, shift), execution) for shift in (0.0, 64.0))
    np.testing.assert_allclose(there.object, here.object, atol=1e-5)
    assert there.frame.x0 == here.frame.x0 + 64


@pytest.mark.slow
@pytest.mark.parametrize("gridsize", [1, 2])
def test_training_leads_to_a_better_object_than_a_flat_one(gridsize, scan, training, execution) -> None:
    members = gridsize**2  # as many patterns in a step and in an epoch with either
    config = replace(training, nepochs=8, n_groups=64 // members, batch_size=8 // members)
    config = replace(config, model=replace(training.model, gridsize=gridsize))
    amplitude, phase, results = run_cdi_example_torch(scan, None, config, do_stitching=True, execution_config=execution)
    found = results["reconstruction"]
    flat = reconstruct(untrained(scan, config), scan, execution)
    error, flat_error = (fourier_error(scan, result) for result in (found, flat))
    assert error < 0.7 * flat_error
    covered = found.coverage > 0.1
    assert np.var(np.abs(found.object[covered])) > 1e-6
    np.testing.assert_array_equal(amplitude, np.abs(found.object))
    np.testing.assert_array_equal(phase, np.angle(found.object))
    assert {"obj_tensor_full", "global_offsets", "recon_amp", "recon_phase", "train_container"} <= results.keys()


def fourier_error(scan: RawData, found: Reconstruction) -> float:
    patches, dx, dy = extract_rounded(found.object, found.xcoords, found.ycoords, scan.N)
    return relative_fourier_error(np.sqrt(diffract(found.probe, patches, dx, dy)), scan.amplitude(), scan.mask)


@pytest.mark.parametrize("asked", [{}, {"noise": 0.0}])
def test_what_a_pass_knew_is_not_given_up_for_the_noise(asked, scan, training, execution, monkeypatch) -> None:
    """Where noise alone would leave all that the pass leaves, refinement stays with it, unless told to go on."""
    monkeypatch.setattr(workflow, "noise_error", lambda trust, likelihood: {"amplitude": 1.0}[likelihood])
    options = {"refine_iterations": 2, "refinement": asked}
    found = reconstruct(untrained(scan, training), scan, execution, **options)
    assert len(found.error_history) == (3 if asked else 1)
    assert np.array_equal(found.object, found.network_object) != bool(asked)


def test_refinement_starts_from_the_network_and_ends_better(scan, training, execution, caplog) -> None:
    with caplog.at_level(logging.INFO):
        found = reconstruct(untrained(scan, training), scan, execution, refine_iterations=12)
    assert found.method == "network+refined"
    assert found.subpixel == "fourier"
    assert len(found.error_history) == 13
    assert found.error_history[-1] < 0.2 * found.error_history[0]
    assert fourier_error(scan, found) == pytest.approx(found.error_history[-1], rel=1e-3)
    lines = [line for line in caplog.messages if line.startswith(("iteration", "refinement"))]
    assert lines[0].startswith("iteration 0/12: relative error")
    assert lines[-2].startswith("iteration 12/12")
    assert lines[-1].endswith("the 12 iterations are done")


def test_a_refinement_that_is_cut_off_leaves_what_it_found(scan, training, execution, tmp_path) -> None:
    def stop(progress: Progress) -> None:
        if progress.done == 5:
            raise KeyboardInterrupt

    asked = RunOptions(execution, refine_iterations=12, folder=tmp_path, watch=stop)
    model, backend = untrained(scan, training), backend_named("pytorch")
    with pytest.raises(KeyboardInterrupt):
        workflow.reconstruct(backend, model, scan, InferenceConfig(backend="pytorch"), asked)
    left = read_npz(tmp_path / "so_far.npz")
    assert len(left.error_history) == 6 and left.error_history[5] < left.error_history[0]
    assert fourier_error(scan, left) == pytest.approx(left.error_history[5], rel=1e-3)


def test_scaled_data_give_a_scaled_object_after_refinement(scan, training, execution) -> None:
    """Probe, amplitudes and counts times constants: the object follows, and predicts the data in their own units."""
    kinds = {"plain": (1, 1), "probe x 7": (7, 1), "amplitudes x 7": (1, 7)}
    found = {}
    for name, (probe, amplitude) in kinds.items():
        other = RawData.from_coords_without_pc(
            scan.xcoords, scan.ycoords, amplitude * scan.amplitude(), probe * scan.probeGuess, None, units="amplitude"
        )
        found[name] = reconstruct(untrained(other, training), other, execution, refine_iterations=4)
    counts = RawData.from_coords_without_pc(
        scan.xcoords, scan.ycoords, 49 * scan.diff3d.astype(np.int64), scan.probeGuess, None
    )
    found["counts x 49"] = reconstruct(untrained(counts, training), counts, execution, refine_iterations=4)
    for name, factor in {"probe x 7": 1 / 7, "amplitudes x 7": 7, "counts x 49": 7}.items():
        lit = found["plain"].coverage > 1e-3
        expected = factor * found["plain"].object[lit]
        assert np.linalg.norm(found[name].object[lit] - expected) < 5e-4 * np.linalg.norm(expected), name


def test_an_archive_reconstructs_like_the_model_in_memory(scan, training, execution, tmp_path) -> None:
    results = train_cdi_model_torch(scan, None, training, execution_config=execution)
    before = reconstruct(results["model"], scan, execution)
    path = save_torch_bundle(tmp_path, results["model"], training)
    params.cfg.clear()
    config = InferenceConfig(model_path=path, backend="pytorch")
    after = reconstruct_torch(scan, config, execution_config=execution)
    np.testing.assert_allclose(after.object, before.object, atol=1e-5)


def test_results_travel_between_processes(scan, training, execution) -> None:
    found = reconstruct(untrained(scan, training), scan, execution)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).object, found.object)  # noqa: S301


def test_a_scan_of_another_brightness_or_probe_is_told(scan, training, execution, caplog) -> None:
    model = untrained(scan, training)
    bright = RawData.from_coords_without_pc(
        scan.xcoords, scan.ycoords, 3 * scan.amplitude(), np.roll(scan.probeGuess, 20, -1), None, units="amplitude"
    )
    reconstruct(model, bright, execution)
    text = caplog.text
    assert "the patterns hold 9 times the energy of those the network was trained on" in text
    assert "probe overlaps with that of the network by 0." in text


def test_another_pattern_size_is_an_error(scan, training, execution) -> None:
    with pytest.raises(DataError, match="N=128 pixels, found 64"):
        train_cdi_model_torch(
            scan, None, replace(training, model=replace(training.model, N=128)), execution_config=execution
        )


def test_an_empty_model_path_is_an_error(scan, execution) -> None:
    with pytest.raises(ConfigError, match="model_path is empty"):
        reconstruct_torch(scan, InferenceConfig(model_path=Path(), backend="pytorch"), execution_config=execution)


def test_the_selector_synchronises_the_legacy_dictionary(scan, training, execution) -> None:
    amplitude, _, results = run_cdi_example_with_backend(
        scan, None, replace(training, nphotons=123.0), execution_config=execution
    )
    assert amplitude is None
    assert params.cfg["nphotons"] == 123.0
    assert results["backend"] == "pytorch"


def test_the_labels_of_a_payload_go_into_the_archive_whatever_the_legacy_dictionary_holds(
    scan, training, execution, fixture_file, tmp_path
) -> None:
    given = {"n_groups": 8, "nphotons": 1e5, "notes": "a word", "N": 64, "n_filters_scale": 1, "epochs": 1}
    with pytest.warns(UserWarning, match="without evaluation"):
        payload = create_training_payload(fixture_file, tmp_path / "out", given, execution, neutral=True)
    config = payload.tf_training_config
    payload.pt_inference_config.log_patch_stats = True
    results = train_cdi_model_torch(scan, None, config, training_payload=payload)
    assert not config.patch_stats.log_patch_stats
    assert (tmp_path / "out" / "analysis" / "torch_patch_stats.json").is_file()
    params.cfg.update(notes="another", gridsize=7, input_scale=3.0)
    found = load_archive(save_torch_bundle(tmp_path, results["model"], config)).params
    assert (found["notes"], found["gridsize"]) == ("a word", 2)
    assert found["input_scale"] == pytest.approx(scan.input_scale())


def test_a_loaded_model_is_a_pair_with_names(scan, training, execution, tmp_path) -> None:
    path = save_torch_bundle(tmp_path, untrained(scan, training), training)
    loaded = load_inference_bundle_torch(path, execution)
    model, config = loaded
    assert (loaded["model"], loaded["config"]) == (model, config)
    module = loaded["lightning_module"]
    assert module.model is model
    assert module.config.model == training.model
    container = PtychoDataContainerTorch(grouped(scan, training.model.gridsize), scan.probeGuess)
    amplitude, positions, _ = container.batch(slice(0, 2))
    torch.testing.assert_close(
        module.forward_predict(amplitude, positions),
        model.forward_predict(amplitude, positions),
    )
    with pytest.raises(KeyError, match="expected lightning_module, model or config"):
        loaded["diffraction_to_obj"]


def test_a_lightning_module_of_settings_alone_says_what_to_use() -> None:
    with pytest.raises(ConfigError, match=r"^PtychoPINN_Lightning\(model_config=\) is gone: .*_new_model"):
        PtychoPINN_Lightning(model_config=ModelConfig(), data_config=None)


@pytest.mark.parametrize("said, expected", [(True, True), ("warn", True), (False, False)])
def test_a_refinement_runs_where_and_as_the_execution_says(said, expected, monkeypatch) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr(backend.refinement, "refine", lambda *_, **named: told.update(named))
    execution = PyTorchExecutionConfig(accelerator="cpu", deterministic=said, device_memory=0.5)
    backend.refine(None, None, 3, None, RunOptions(execution=execution), seed=7)
    assert told == {"device": "cpu", "deterministic": expected, "device_memory": 1 << 29, "seed": 7}


@pytest.mark.parametrize("asked, device", [("cpu", "cpu"), ("cuda", "cuda"), ("mps", "cpu")])
def test_trust_is_worked_out_where_a_refinement_runs_in_double_precision(asked, device, monkeypatch) -> None:
    """`mps` has none."""
    told: list[Any] = []
    monkeypatch.setattr(backend, "RefinementKernels", lambda *given, **named: told.append((given, named)))
    monkeypatch.setattr(backend, "_execution", lambda run: run.execution)
    execution = replace(PyTorchExecutionConfig(accelerator="cpu", device_memory=0.5), accelerator=asked)
    engine = backend.trust_engine(RunOptions(execution=execution))
    engine.kernels()
    assert told == [(("amplitude", 0.0), {"device": device, "dtype": torch.float64})]
    assert engine.memory == 1 << 29
