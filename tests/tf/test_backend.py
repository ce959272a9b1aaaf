"""From a scan to an object: predictions, frames, units, stitching, archives, and the calls of a client."""

import logging
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ptycho import loader, params, tf_helper
from ptycho.config.config import InferenceConfig, ModelConfig, TrainingConfig, update_legacy_dict
from ptycho.config.options import PatchStatsOptions, ScaleOptions
from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.quality.metrics import relative_fourier_error
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.device.kernels_numpy import NumpyKernels
from ptycho.errors import BackendError, ConfigError, DataError, MissingFileError
from ptycho.raw_data import RawData
from ptycho.tf import backend, model_manager
from ptycho.tf.loader import PtychoDataContainer
from ptycho.tf.pinn import PtychoPINN
from ptycho.tf.predictor import Autoencoder, DiffractionToObject
from ptycho.tf.refinement_kernels import RefinementKernels
from ptycho.workflows import components
from ptycho.workflows import reconstruct as workflow
from ptycho.workflows.backend_selector import run_cdi_example_with_backend
from ptycho.workflows.components import (
    load_data,
    load_inference_bundle,
    predict_scan,
    reconstruct_scan,
    reconstruct_tf,
    run_cdi_example,
    save_outputs,
    save_tf_bundle,
    train_cdi_model,
)
from ptycho.workflows.run_options import NEUTRAL_RUN


@pytest.fixture
def _one_size_with_graphs(gridsize: int, request: pytest.FixtureRequest) -> None:
    """For time: groups of four are predicted by a graph, other sizes without one."""
    if gridsize != 2:
        request.getfixturevalue("without_graphs")


def untrained(scan: RawData, config: TrainingConfig) -> PtychoPINN:
    """A network whose heads are no longer flat, so that every patch is another."""
    model = PtychoPINN(config.model, scan.probeGuess, scan.input_scale(), 10.0, seed=3)
    rng = np.random.default_rng(1)
    for head in (model.network.amplitude_head, model.network.phase_head):
        head.kernel.assign(rng.normal(scale=2.0, size=head.kernel.shape))
    return model


def flat(scan: RawData, config: TrainingConfig) -> PtychoPINN:
    return PtychoPINN(config.model, scan.probeGuess, scan.input_scale(), 10.0, seed=3)


def with_gridsize(config: TrainingConfig, gridsize: int) -> TrainingConfig:
    return replace(config, model=replace(config.model, gridsize=gridsize))


def without_truth(scan: RawData, shift: float = 0.0) -> RawData:
    return RawData.from_coords_without_pc(
        scan.xcoords + shift, scan.ycoords, scan.diff3d, scan.probeGuess, None, units=scan.units
    )


def fourier_error(scan: RawData, found: Reconstruction) -> float:
    patches, dx, dy = extract_rounded(found.object, found.xcoords, found.ycoords, scan.N)
    return relative_fourier_error(np.sqrt(diffract(found.probe, patches, dx, dy)), scan.amplitude(), scan.mask)


@pytest.mark.usefixtures("_one_size_with_graphs")
@pytest.mark.slow
@pytest.mark.parametrize("gridsize", [1, 2])
def test_any_batch_size_predicts_every_group(gridsize: int, scan: RawData, training: TrainingConfig) -> None:
    model = untrained(scan, with_gridsize(training, gridsize))
    data = scan.generate_grouped_data(64, K=10, nsamples=13, gridsize=gridsize)
    container = PtychoDataContainer(data, scan.probeGuess)
    whole = predict_scan(model, container, batch_size=64)
    assert whole.shape == (13, gridsize**2, 64, 64)
    assert np.std(np.abs(whole)) > 1e-3 * np.mean(np.abs(whole))
    np.testing.assert_allclose(predict_scan(model, container, batch_size=5), whole, atol=1e-5)
    predictor, inputs = DiffractionToObject(model), [container.X * model.intensity_scale, container.local_offsets]
    groups = predictor.predict(inputs)
    assert (groups.shape, groups.dtype) == ((13, 64, 64, 1), np.complex64)
    np.testing.assert_allclose(predictor.predict(inputs, batch_size=4), groups, atol=1e-5)
    one = predictor.predict([array[2:3] for array in inputs], batch_size=1)
    np.testing.assert_allclose(one, groups[2:3], atol=1e-5)
    if gridsize == 1:
        np.testing.assert_allclose(groups[..., 0], whole[:, 0], atol=1e-5)


@pytest.mark.slow
def test_xla_predicts_the_same(scan, training) -> None:
    model = untrained(scan, with_gridsize(training, 2))
    container = PtychoDataContainer(scan.generate_grouped_data(64, K=6, nsamples=5, gridsize=2), scan.probeGuess)
    plain, compiled = (predict_scan(model, container, batch_size=5, use_xla=xla) for xla in (False, True))
    assert np.linalg.norm(compiled - plain) < 1e-5 * np.linalg.norm(plain)


@pytest.mark.parametrize(
    ("amplitudes", "positions"),
    [((0, 64, 64, 4), (0, 1, 2, 4)), ((3, 64, 64, 4), (2, 1, 2, 4)), ((3, 64, 64, 1), (3, 1, 2, 1))],
)
def test_batches_that_do_not_fit_name_both_shapes(amplitudes, positions, scan, training) -> None:
    predictor = DiffractionToObject(flat(scan, with_gridsize(training, 2)))
    with pytest.raises(DataError) as caught:
        predictor.predict([np.ones(amplitudes), np.zeros(positions)])
    assert f"found {amplitudes} and {positions}" in str(caught.value)


def test_an_untrained_network_gives_vacuum_in_the_units_of_the_scan(scan, training) -> None:
    model = flat(scan, training)
    found = reconstruct_scan(model, scan, InferenceConfig())
    bright = found.coverage > 0.1
    np.testing.assert_allclose(found.object[bright], float(model.object_scale), rtol=1e-4)
    assert found.object.shape == scan.objectGuess.shape
    assert (found.object[found.coverage == 0] == 1).all()
    assert (found.backend, found.method) == ("tensorflow", "network")


@pytest.mark.slow
def test_a_probe_of_another_energy_scales_the_object_each_time(scan, training) -> None:
    """The compiled graph of one scan must not be that of the next."""
    model = untrained(scan, training)
    strong = RawData.from_coords_without_pc(
        scan.xcoords,
        scan.ycoords,
        scan.diff3d,
        4 * scan.probeGuess,
        scan.scan_index,
        scan.objectGuess,
        units=scan.units,
    )
    plain, scaled, again = (reconstruct_scan(model, one, InferenceConfig()) for one in (scan, strong, scan))
    covered = plain.coverage > 0.1
    np.testing.assert_allclose(4 * scaled.object[covered], plain.object[covered], rtol=1e-4)
    np.testing.assert_allclose(again.object, plain.object, rtol=1e-5)


def test_the_reconstruction_does_not_depend_on_where_the_origin_is(scan, training) -> None:
    model = untrained(scan, training)
    here, there = (reconstruct_scan(model, without_truth(scan, shift), InferenceConfig()) for shift in (0.0, 64.0))
    np.testing.assert_allclose(there.object, here.object, atol=1e-5)
    assert there.frame.x0 == here.frame.x0 + 64


@pytest.mark.slow
@pytest.mark.parametrize("gridsize", [1, 2])
def test_training_leads_to_a_better_object_than_a_flat_one(gridsize, scan, training) -> None:
    members = gridsize**2  # as many patterns in a step and in an epoch with either
    config = replace(with_gridsize(training, gridsize), nepochs=8, n_groups=64 // members, batch_size=8 // members)
    amplitude, phase, results = run_cdi_example(scan, None, config, do_stitching=True)
    found = results["reconstruction"]
    plain = reconstruct_scan(flat(scan, config), scan, InferenceConfig(neighbor_count=4))
    assert fourier_error(scan, found) < 0.7 * fourier_error(scan, plain)
    assert np.var(np.abs(found.object[found.coverage > 0.1])) > 1e-6
    np.testing.assert_array_equal(amplitude, np.abs(found.object))
    np.testing.assert_array_equal(phase, np.angle(found.object))
    assert {"obj_tensor_full", "global_offsets", "recon_amp", "recon_phase", "train_container"} <= results.keys()


@pytest.mark.usefixtures("without_graphs")
def test_an_archive_predicts_like_the_model_in_memory(scan, training, tmp_path) -> None:
    training = replace(training, nepochs=1, n_groups=8)
    results = train_cdi_model(scan, None, training)
    before = reconstruct_scan(results["model"], scan, InferenceConfig())
    path = save_tf_bundle(tmp_path, results["model"], training)
    params.cfg.clear()
    after = reconstruct_tf(scan, InferenceConfig(model_path=path))
    np.testing.assert_allclose(after.object, before.object, atol=1e-5)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(after)).object, after.object)  # noqa: S301


def test_several_models_in_one_folder(scan, training, tmp_path) -> None:
    from ptycho.model_manager import ModelManager

    models = {name: untrained(scan, with_gridsize(training, gridsize)) for name, gridsize in (("one", 1), ("four", 2))}
    for name, model in models.items():
        assert ModelManager.save_multiple_models({name: model}, tmp_path, training) == tmp_path
    again = ModelManager.load_multiple_models(tmp_path)
    assert sorted(again) == ["four", "one"] and list(ModelManager.load_multiple_models(tmp_path, ["four"])) == ["four"]
    for name, model in models.items():
        weights = model.network.get_weights()
        assert all(map(np.array_equal, again[name].network.get_weights(), weights)) and len(weights) > 4
    with pytest.raises(ConfigError, match=r"model name: expected a word to name a folder with, found '\.\./a'"):
        ModelManager.save_multiple_models({"../a": models["one"]}, tmp_path / "b", training)
    with pytest.raises(MissingFileError, match="expected models"):
        ModelManager.load_multiple_models(tmp_path / "b")


@pytest.mark.slow
def test_an_archive_of_pytorch_predicts_the_same_here(scan, training, tmp_path) -> None:
    from ptycho.config.config import PyTorchExecutionConfig
    from ptycho_torch.workflows import components

    execution = PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False, logger_backend=None)
    config = with_gridsize(replace(training, backend="pytorch", nepochs=1, n_groups=8), 2)
    results = components.train_cdi_model_torch(scan, None, config, execution_config=execution)
    path = components.save_torch_bundle(tmp_path, results["model"], config)
    theirs = components.predict_scan(results["model"], results["train_container"])
    model, _ = model_manager.load_tf_bundle(path)
    data = results["train_container"].grouped
    ours = predict_scan(model, PtychoDataContainer(data, scan.probeGuess))
    assert np.linalg.norm(ours - theirs) < 1e-5 * np.linalg.norm(theirs)


@pytest.mark.slow
def test_the_calls_of_a_client(scan, fixture_file, tmp_path) -> None:
    """Train, save, and reconstruct as another program does it: configurations made empty, raw counts, predict."""
    config = TrainingConfig(model=ModelConfig(N=0, n_filters_scale=1), nepochs=1, output_dir=tmp_path / "run")
    config.model.N = 64
    update_legacy_dict(params.cfg, config)
    train_raw, test_raw = load_data(fixture_file), load_data(fixture_file, n_subsample=16)
    amplitude, phase, results = run_cdi_example(train_raw, test_raw, config)
    assert (amplitude, phase) == (None, None)
    model_manager.save(tmp_path)
    assert save_outputs(amplitude, phase, results, str(tmp_path)) == []

    update_legacy_dict(params.cfg, InferenceConfig(model=ModelConfig(N=64)))
    model, _ = load_inference_bundle(tmp_path)
    raw = RawData.from_coords_without_pc(
        xcoords=scan.xcoords,
        ycoords=scan.ycoords,
        diff3d=np.asarray(scan.diff3d),
        probeGuess=scan.probeGuess[None],
        scan_index=scan.scan_index,
        objectGuess=scan.objectGuess,
    )
    import ptycho

    ptycho.tf.probe.set_probe_guess(None, raw.probeGuess)
    grouped = raw.generate_grouped_data(64, K=7, nsamples=64, gridsize=1)
    container = loader.load(lambda: grouped, raw.probeGuess, which=None, create_split=False)
    predicted = model.predict([container.X * params.get("intensity_scale"), container.local_offsets])
    assert (predicted.shape, predicted.dtype) == ((64, 64, 64, 1), np.complex64)
    picture = np.squeeze(tf_helper.reassemble_position(predicted, container.global_offsets, M=20))
    assert picture.shape == scan.objectGuess.shape
    assert np.iscomplexobj(picture)


def test_reading_less_of_a_scan(fixture_file) -> None:
    assert len(load_data(fixture_file)) == 64
    with pytest.warns(DeprecationWarning, match="use n_subsample=9"):
        data = load_data(fixture_file, 9)
    np.testing.assert_array_equal(data.sample_indices, load_data(fixture_file, n_subsample=9).sample_indices)


@pytest.mark.usefixtures("without_graphs")
@pytest.mark.parametrize("asked", [{}, {"noise": 0.0}])
def test_what_a_pass_knew_is_not_given_up_for_the_noise(asked, scan, training, monkeypatch) -> None:
    """Where noise alone would leave all that the pass leaves, refinement stays with it, unless told to go on."""
    monkeypatch.setattr(workflow, "noise_error", lambda trust, likelihood: {"amplitude": 1.0}[likelihood])
    options = {"refine_iterations": 2, "refinement": asked}
    settings = InferenceConfig(model=training.model)
    found = reconstruct_scan(untrained(scan, training), scan, settings, **options)
    assert len(found.error_history) == (3 if asked else 1)
    assert np.array_equal(found.object, found.network_object) != bool(asked)


@pytest.mark.slow
def test_refinement_starts_from_the_network_and_ends_better(scan, training, caplog) -> None:
    options = {"refine_iterations": 8, "refinement": {"refine_positions": True, "likelihood": "poisson", "noise": 0.0}}
    with caplog.at_level(logging.INFO):
        found = reconstruct_scan(untrained(scan, training), scan, InferenceConfig(), **options)
    assert (found.method, found.subpixel, found.backend) == ("network+refined", "fourier", "tensorflow")
    assert found.error_history[-1] < 0.2 * found.error_history[0]
    assert 0 < np.abs(found.xcoords + found.frame.x0 - scan.xcoords).max() <= 2
    lines = [line for line in caplog.messages if line.startswith(("iteration", "refinement"))]
    assert lines[0].startswith("iteration 0/8: relative error")
    assert "the 8 iterations are done" in lines[-1]


def test_an_empty_model_path_is_an_error(scan) -> None:
    with pytest.raises(ConfigError, match="model_path is empty"):
        reconstruct_tf(scan, InferenceConfig(model_path=Path()))


def test_another_pattern_size_is_an_error(scan, training) -> None:
    with pytest.raises(DataError, match="N=128 pixels, found 64"):
        train_cdi_model(scan, None, replace(training, model=replace(training.model, N=128)))


@pytest.mark.usefixtures("without_graphs")
def test_the_selector_synchronises_the_legacy_dictionary(scan, training) -> None:
    """The same training writes the statistics of patches that its configuration asks for."""
    config = replace(training, nepochs=1, n_groups=8, patch_stats=PatchStatsOptions(True, 1))
    amplitude, _, results = run_cdi_example_with_backend(scan, None, config)
    assert amplitude is None
    assert (config.output_dir / "analysis" / "tf_patch_stats.json").is_file()
    assert params.cfg["nepochs"] == 1
    assert results["backend"] == "tensorflow"


@pytest.mark.slow
@pytest.mark.usefixtures("_one_size_with_graphs")
@pytest.mark.parametrize("gridsize", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_autoencoder_adds_what_the_detector_would_see(gridsize: int, scan, training) -> None:
    model = untrained(scan, with_gridsize(training, gridsize))
    data = scan.generate_grouped_data(64, K=6, nsamples=6, gridsize=gridsize)
    container = PtychoDataContainer(data, scan.probeGuess)
    inputs = [container.X * model.intensity_scale, container.local_offsets]
    found, amplitude, intensity = Autoencoder(model).predict(inputs, batch_size=3)
    np.testing.assert_allclose(found, DiffractionToObject(model).predict(inputs), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(amplitude**2, intensity, rtol=1e-5)
    members = np.moveaxis(predict_scan(model, container), 1, -1)
    in_file_units = diffract(model.probe.file_units(), np.moveaxis(members, -1, 1))
    expected = (model.intensity_scale * model.input_scale) ** 2 * np.moveaxis(in_file_units, 1, -1)
    assert np.linalg.norm(intensity - expected) < 1e-4 * np.linalg.norm(expected)


def test_what_cannot_be_stitched_is_found_before_the_training(scan, training, monkeypatch) -> None:
    monkeypatch.setattr(RawData, "generate_grouped_data", lambda *_, **__: pytest.fail("the scan was read"))
    config = replace(training, positions_provided=False)
    with pytest.raises(ConfigError, match="positions_provided=False: stitching needs the scan positions"):
        components.run_cdi_example(scan, None, config, do_stitching=True)


def test_a_first_intensity_scale_is_where_learning_starts(scan, training, monkeypatch) -> None:
    begun = []
    monkeypatch.setattr(
        backend.training, "fit", lambda module, *_, **__: begun.append(module.model.intensity_scale) or {}
    )
    own = float(scan.scales(scan.photons()).intensity_scale)
    components.train_cdi_model(scan, None, replace(training, scales=ScaleOptions(intensity_scale=1.5 * own)))
    assert begun == [pytest.approx(1.5 * own)]


def test_trust_is_worked_out_by_tensorflow_on_a_gpu_and_by_numpy_beside_none(monkeypatch) -> None:
    for found, kind in (([], NumpyKernels), (["GPU:0"], RefinementKernels)):
        monkeypatch.setattr(backend.tf.config, "list_physical_devices", lambda kind, found=found: found)
        made = backend.trust_engine(NEUTRAL_RUN).kernels()
        assert isinstance(made, kind) and made.complex_bytes == 16 and made.floor == 0


def test_a_memory_that_is_full_is_told_in_a_line():
    full = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[9,9]\nadvice")
    with pytest.raises(BackendError, match="memory of the device full") as told, backend.team(NEUTRAL_RUN):
        raise full
    assert "OOM when allocating" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("own", [True, False])
def test_a_command_leaves_memory_of_a_gpu_to_others_and_a_program_decides_itself(own, monkeypatch):
    """Unless TensorFlow is in use already."""
    asked = []

    def grow(gpu, wanted):
        asked.append((gpu, wanted))
        if gpu == "second":
            raise RuntimeError("Physical devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["first", "second", "third"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", grow)
    with backend.team(replace(NEUTRAL_RUN, own_process=own)):
        assert asked == ([("first", True), ("second", True)] if own else [])
