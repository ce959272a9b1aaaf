"""What a network is trained on: known objects, regularisers, the first probe, and patterns without positions."""

import logging
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from ptycho.config.config import InferenceConfig, TrainingConfig
from ptycho.config.options import ObjectiveOptions
from ptycho.core.groups.known_patches import object_labels
from ptycho.core.physics import losses as oracle
from ptycho.core.physics.patches import extract
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.tf.fit import TrainingModule, fit
from ptycho.tf.loader import PtychoDataContainer
from ptycho.tf.model_manager import load_tf_bundle, save_tf_bundle
from ptycho.tf.pinn import PtychoPINN
from ptycho.workflows.components import predict_scan, reconstruct_scan, train_cdi_model
from ptycho.workflows.networks.training_data import prepare_training


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
    container: PtychoDataContainer
    losses: list[float]

    @property
    def objects(self) -> np.ndarray:
        """Patches relative to the nominal object."""
        return predict_scan(self.model, self.container) * (self.model.input_scale / self.model.probe.scale)


@pytest.fixture
def fitted(scan, training):
    """`fitted(options, **changes of the configuration)`: sixteen steps on 16 patterns, their labels from the object."""

    def run(options: ObjectiveOptions = ObjectiveOptions(), **changes) -> Fitted:  # noqa: B008 - frozen
        config = replace(training, nepochs=4, batch_size=4, **changes)
        grouped = scan.generate_grouped_data(64, nsamples=16, gridsize=1, seed=0)
        labels = object_labels(scan.objectGuess, scan.xcoords, scan.ycoords)
        container = PtychoDataContainer(grouped, scan.probeGuess, labels=labels)
        given = (config.model, scan.probeGuess, scan.input_scale(), 1 / scan.input_scale(), None)
        model = PtychoPINN(*given, config.probe_trainable, seed=0)
        module = TrainingModule(model, config, container.canvas_size, 3e-3, options)
        return Fitted(model, container, fit(module, container)["train_loss"])

    return run


@pytest.mark.slow
def test_known_objects_teach_a_network_that_is_used_like_any_other(scan, training, tmp_path) -> None:
    """Supervised: the error of its patches falls far below that of the flat object, without a look at the detector."""
    truth = extract(scan.objectGuess, scan.xcoords, scan.ycoords, 64)
    known = changed(scan, Y=truth)
    config = replace(with_model(training, model_type="supervised"), nepochs=7, n_groups=64, batch_size=8)
    results = train_cdi_model(known, None, replace(config, nll_weight=0.0), learning_rate=3e-3)
    model, container = results["model"], results["train_container"]
    patches, labels = predict_scan(model, container), np.moveaxis(container.Y.numpy(), -1, 1)
    assert model.intensity_scale == pytest.approx(model.nominal_intensity_scale, rel=1e-6)
    light = model.group_weight().numpy()
    mean = (light * labels).sum() / (light.sum() * len(labels))
    flat = oracle.realspace_mae(np.full_like(labels, mean), labels, weight=light)
    assert oracle.realspace_mae(patches, labels, weight=light) < 0.6 * flat
    path = save_tf_bundle(tmp_path / "model", model, config)
    loaded, archive = load_tf_bundle(path)
    assert loaded.config.model_type == archive.configs["training"]["model"]["model_type"] == "supervised"
    np.testing.assert_allclose(predict_scan(loaded, container), patches, rtol=1e-5)
    found = reconstruct_scan(loaded, known, InferenceConfig())
    assert np.isfinite(found.object).all()
    assert np.ptp(np.abs(found.object[found.coverage > 0])) > 0.1


@pytest.mark.slow
def test_the_object_of_the_scan_is_label_enough(fitted, training) -> None:
    supervised = with_model(training, model_type="supervised").model
    losses = fitted(model=supervised).losses
    assert losses[-1] < 0.9 * losses[0]


def test_a_scan_without_labels_cannot_be_learned_from_them(scan, training) -> None:
    config = with_model(training, model_type="supervised")
    expected = r"needs ground-truth patches, found a scan without: add Y \(n, N, N\) to its file \(for supervised"
    with pytest.raises(DataError, match=expected) as caught:
        train_cdi_model(changed(scan), None, config)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_options_smooth_the_object_and_hold_the_probe(fitted, scan) -> None:
    before = np.asarray(scan.probeGuess).reshape(1, 64, 64)
    options = ObjectiveOptions(
        amp_loss="Total_Variation",
        phase_loss="Mean_Deviation",
        amp_loss_coeff=5.0,
        phase_loss_coeff=5.0,
        probe_reference_coeff=100.0,
    )
    plain, held = (fitted(chosen, probe_trainable=True) for chosen in (ObjectiveOptions(), options))
    rough, smooth = plain.objects, held.objects
    assert oracle.total_variation(np.abs(smooth)) < 0.7 * oracle.total_variation(np.abs(rough))
    assert oracle.mean_deviation(oracle.phasors(smooth)) < 0.5 * oracle.mean_deviation(oracle.phasors(rough))
    distances = [oracle.probe_distance(found.model.probe.file_units(), before) for found in (plain, held)]
    assert distances[0] > 1e-5
    assert distances[1] < 0.3 * distances[0]


def test_a_coefficient_for_a_fixed_probe_is_a_warning(scan, training, caplog) -> None:
    model = PtychoPINN(training.model, scan.probeGuess, scan.input_scale(), 10.0, seed=0)
    with caplog.at_level(logging.WARNING):
        TrainingModule(model, training, 64, objective=ObjectiveOptions(probe_reference_coeff=0.5))
    assert "probe_reference_coeff=0.5 has no effect on a fixed probe: set probe_trainable" in caplog.text


@pytest.mark.usefixtures("without_graphs")
def test_patterns_without_positions_train_alone(scan, training) -> None:
    """Wherever the scan says they were: nothing of it is in what a training reads."""
    config = replace(training, positions_provided=False, nepochs=1, n_groups=4)
    elsewhere = changed(scan, xcoords=scan.xcoords[::-1] * 2, ycoords=scan.ycoords[::-1] + 40)
    one, other = (prepare_training(data, None, config, PtychoDataContainer) for data in (scan, elsewhere))
    assert one.canvas_size == other.canvas_size == 64
    for first, second in zip(one.train.batch(slice(None)), other.train.batch(slice(None)), strict=True):
        np.testing.assert_array_equal(first, second)
    assert np.isfinite(train_cdi_model(scan, None, config)["history"]["train_loss"]).all()


@pytest.mark.parametrize("model", [{"gridsize": 2}, {"architecture": "unrolled"}])
def test_groups_need_positions(model, scan, training) -> None:
    config = with_model(replace(training, positions_provided=False), **model)
    with pytest.raises(ConfigError, match=r"positions_provided=False leaves no neighbours to group, .* use gridsize=1"):
        train_cdi_model(scan, None, config)
