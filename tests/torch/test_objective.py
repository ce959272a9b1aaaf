"""What a network is trained on: known objects, regularisers, the first probe, and patterns without positions."""

import logging
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.config.options import ObjectiveOptions
from ptycho.core.groups.known_patches import object_labels
from ptycho.core.physics import losses as oracle
from ptycho.core.physics.patches import extract
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
from ptycho_torch.fit import PtychoPINN_Lightning, fit
from ptycho_torch.model_manager import load_torch_bundle, save_torch_bundle
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.workflows.components import predict_scan, reconstruct_scan, train_cdi_model_torch


def with_model(config: TrainingConfig, **changes) -> TrainingConfig:
    """The same settings with another model."""
    return replace(config, model=replace(config.model, **changes))


def changed(scan: RawData, **changes) -> RawData:
    """The scan with other arrays, without its object unless it is among them."""
    found = {"xcoords": scan.xcoords, "ycoords": scan.ycoords, "diff3d": scan.diff3d, "probeGuess": scan.probeGuess}
    return RawData(**{"xcoords_start": None, "ycoords_start": None, "units": scan.units, **found, **changes})


class Fitted(NamedTuple):
    """A network after a training whose objective has options."""

    model: PtychoPINN
    container: PtychoDataContainerTorch
    losses: list[float]

    @property
    def objects(self) -> np.ndarray:
        """Patches relative to the nominal object."""
        return predict_scan(self.model, self.container) * (self.model.input_scale / self.model.probe.scale)


@pytest.fixture
def fitted(scan, training, execution):
    """`fitted(options, **changes of the configuration)`: sixteen steps on 16 patterns, their labels from the object."""

    def run(options: ObjectiveOptions = ObjectiveOptions(), **changes) -> Fitted:  # noqa: B008 - frozen
        config = replace(training, nepochs=4, batch_size=4, **changes)
        grouped = scan.generate_grouped_data(64, nsamples=16, gridsize=1, seed=0)
        labels = object_labels(scan.objectGuess, scan.xcoords, scan.ycoords)
        container = PtychoDataContainerTorch(grouped, scan.probeGuess, labels=labels)
        given = (config.model, scan.probeGuess, scan.input_scale(), 1 / scan.input_scale(), None)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = PtychoPINN(*given, config.probe_trainable)
        quiet = replace(execution, learning_rate=3e-3, enable_checkpointing=False)
        module = PtychoPINN_Lightning(model, config, quiet, container.canvas_size, options)
        history = fit(module, container)
        return Fitted(model.eval(), container, history["train_loss"])

    return run


@pytest.mark.slow
def test_known_objects_teach_a_network_that_is_used_like_any_other(scan, training, execution, tmp_path) -> None:
    """Supervised: the error of its patches falls far below that of the flat object, without a look at the detector."""
    truth = extract(scan.objectGuess, scan.xcoords, scan.ycoords, 64)
    known = changed(scan, Y=truth)
    config = replace(with_model(training, model_type="supervised"), nepochs=7, n_groups=64, batch_size=8)
    config = replace(config, nll_weight=0.0)
    quiet = replace(execution, learning_rate=3e-3, enable_checkpointing=False)
    results = train_cdi_model_torch(known, None, config, execution_config=quiet)
    model, container = results["model"], results["train_container"]
    patches, labels = predict_scan(model, container), np.moveaxis(container.Y.numpy(), -1, 1)
    assert model.intensity_scale == pytest.approx(model.nominal_intensity_scale, rel=1e-6)
    light = model.group_weight().numpy()
    mean = (light * labels).sum() / (light.sum() * len(labels))
    flat = oracle.realspace_mae(np.full_like(labels, mean), labels, weight=light)
    assert oracle.realspace_mae(patches, labels, weight=light) < 0.6 * flat
    path = save_torch_bundle(tmp_path / "model", model, config)
    loaded, archive = load_torch_bundle(path)
    assert loaded.config.model_type == archive.configs["training"]["model"]["model_type"] == "supervised"
    np.testing.assert_allclose(predict_scan(loaded, container), patches, rtol=1e-5)
    found = reconstruct_scan(loaded, known, InferenceConfig(), execution_config=quiet)
    assert np.isfinite(found.object).all()
    assert np.ptp(np.abs(found.object[found.coverage > 0])) > 0.1


def test_the_object_of_the_scan_is_label_enough(fitted, training) -> None:
    supervised = with_model(training, model_type="supervised").model
    losses = fitted(model=supervised).losses
    assert losses[-1] < 0.9 * losses[0]
    assert losses == fitted(model=supervised, nll_weight=0.0, mae_weight=3.0).losses


def test_a_scan_without_labels_cannot_be_learned_from_them(scan, training, execution) -> None:
    config = with_model(training, model_type="supervised")
    expected = r"needs ground-truth patches, found a scan without: add Y \(n, N, N\) to its file \(for supervised"
    with pytest.raises(DataError, match=expected) as caught:
        train_cdi_model_torch(changed(scan), None, config, execution_config=execution)
    assert len(str(caught.value).splitlines()) == 1


def test_the_absolute_phase_is_learned_where_it_is_not_subtracted(scan, training, execution) -> None:
    """Labels turned by 0.8: no phase of them counts, or the network turns too."""
    turned = changed(scan, objectGuess=scan.objectGuess * np.exp(0.8j).astype(np.complex64))
    config = with_model(training, model_type="supervised")
    grouped = turned.generate_grouped_data(64, nsamples=4, gridsize=1)
    labels = [object_labels(known.objectGuess, scan.xcoords, scan.ycoords) for known in (scan, turned)]
    model = PtychoPINN(config.model, scan.probeGuess, scan.input_scale(), 10.0)
    found = {}
    for subtraction in (True, False):
        options = ObjectiveOptions(phase_subtraction=subtraction)
        module = PtychoPINN_Lightning(model, config, execution, 64, options)
        batches = [
            PtychoDataContainerTorch(grouped, scan.probeGuess, labels=label).batch([0, 1, 2], truth=True)
            for label in labels
        ]
        found[subtraction] = [float(module.loss(batch).detach()) for batch in batches]
    assert found[True][1] == pytest.approx(found[True][0], rel=1e-5)
    assert found[False][1] > 1.2 * found[False][0]


@pytest.mark.slow
def test_regularisers_smooth_amplitude_and_phase(fitted) -> None:
    options = ObjectiveOptions(
        amp_loss="Total_Variation", phase_loss="Mean_Deviation", amp_loss_coeff=5.0, phase_loss_coeff=5.0
    )
    rough, flat = fitted().objects, fitted(options).objects
    assert oracle.total_variation(np.abs(flat)) < 0.5 * oracle.total_variation(np.abs(rough))
    assert oracle.mean_deviation(oracle.phasors(flat)) < 0.5 * oracle.mean_deviation(oracle.phasors(rough))
    varied = fitted(ObjectiveOptions(amplitude_variance_loss=True, amplitude_variance_coeff=1.0)).objects
    assert oracle.amplitude_flatness(varied) < 0.9 * oracle.amplitude_flatness(rough)


@pytest.mark.slow
def test_the_first_probe_holds_a_trainable_one(fitted, scan, caplog) -> None:
    before = np.asarray(scan.probeGuess).reshape(1, 64, 64)
    free, held = (
        oracle.probe_distance(fitted(options, probe_trainable=True).model.probe.file_units(), before)
        for options in (ObjectiveOptions(), ObjectiveOptions(probe_reference_coeff=100.0))
    )
    assert free > 1e-5
    assert held < 0.3 * free
    assert not caplog.records


def test_a_coefficient_for_a_fixed_probe_is_a_warning(scan, training, execution, caplog) -> None:
    model = PtychoPINN(training.model, scan.probeGuess, scan.input_scale(), 10.0)
    with caplog.at_level(logging.WARNING):
        PtychoPINN_Lightning(model, training, execution, 64, ObjectiveOptions(probe_reference_coeff=0.5))
    assert "probe_reference_coeff=0.5 has no effect on a fixed probe: set probe_trainable" in caplog.text


def test_the_physics_weight_leads_from_the_robust_error_to_the_likelihood(scan, training, execution) -> None:
    grouped = scan.generate_grouped_data(64, nsamples=4, gridsize=1)
    batch = PtychoDataContainerTorch(grouped, scan.probeGuess).batch([0, 1, 2])
    model = PtychoPINN(training.model, scan.probeGuess, scan.input_scale(), 10.0)

    def loss(weight: float, **changes) -> float:
        module = PtychoPINN_Lightning(model, replace(training, **changes), execution, 64)
        assert module.physics_weight == 1
        module.physics_weight = weight
        return float(module.loss(batch).detach())

    likelihood, robust = loss(1.0), loss(1.0, torch_loss_mode="mae")
    assert loss(0.0) == robust
    assert loss(0.25) == pytest.approx(0.25 * likelihood + 0.75 * robust, rel=1e-6)
    assert abs(likelihood - robust) > 0.1 * robust


def test_patterns_without_positions_train_alone(scan, training, execution) -> None:
    """Wherever the scan says they were: the weights do not know."""
    config = replace(training, positions_provided=False, nepochs=1, n_groups=8)
    elsewhere = changed(scan, xcoords=scan.xcoords[::-1] * 2, ycoords=scan.ycoords[::-1] + 40)
    one, other = (
        train_cdi_model_torch(data, None, config, execution_config=execution)["model"].state_dict()
        for data in (scan, elsewhere)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("model", [{"gridsize": 2}, {"architecture": "unrolled"}])
def test_groups_need_positions(model, scan, training) -> None:
    config = with_model(replace(training, positions_provided=False), **model)
    with pytest.raises(ConfigError, match=r"positions_provided=False leaves no neighbours to group, .* use gridsize=1"):
        train_cdi_model_torch(scan, None, config, execution_config=PyTorchExecutionConfig(accelerator="cpu"))
