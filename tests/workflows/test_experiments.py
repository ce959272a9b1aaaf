"""Experiments with probes, doses and units of their own train one network, alike on both backends."""

import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho import params
from ptycho.cli.infer import inference_main
from ptycho.cli.train import train_main
from ptycho.config.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho.core.archive import load_archive
from ptycho.core.groups.batches import batch_count, epoch_orders, experiment_batches, split_batches
from ptycho.core.physics.probes import disk_probe, probe_overlap, zone_plate_probe
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.errors import ConfigError, DataError, MissingFileError
from ptycho.networks import unrolled as unrolled_data
from ptycho.raw_data import RawData
from ptycho.workflows.backend_selector import (
    reconstruct_with_backend,
    run_cdi_example_with_backend,
    save_bundle_with_backend,
    train_cdi_model_with_backend,
)
from ptycho.workflows.experiments import as_asked, experiment_files, scan_files

BACKENDS = ("pytorch", pytest.param("tensorflow", marks=pytest.mark.slow))
without_graphs = pytest.mark.usefixtures("without_graphs")


@pytest.fixture(autouse=True)
def _own_params(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "cfg", dict(params.cfg))


def simulated(probe: np.ndarray, photons: float, factor: float, seed: int) -> RawData:
    """36 patterns in a unit of their own."""
    made = expose(*plan_scan(ScanSettings(shape=(104, 104), step=8, photons=photons, seed=seed), probe=probe))
    return RawData(
        made.xcoords,
        made.ycoords,
        None,
        None,
        made.diffraction * np.float32(factor),
        made.probe * np.float32(factor),
        metadata={"nphotons": photons},
        units="amplitude",
    )


@pytest.fixture(scope="module")
def scans() -> list[RawData]:
    """Two experiments that have little in common but the physics."""
    return [
        simulated(zone_plate_probe(64, defocus=2.0), 1e7, 1.0, seed=1),
        simulated(disk_probe(64, 22.0), 1e5, 0.01, seed=2),
    ]


SETTINGS = TrainingConfig(model=ModelConfig(N=64, n_filters_scale=1), nepochs=2, n_groups=10, batch_size=5)


@pytest.fixture
def training(tmp_path: Path) -> TrainingConfig:
    return replace(SETTINGS, output_dir=tmp_path / "out")


def trained(backend: str, scans: Any, training: TrainingConfig, test: Any = None, **changes: Any) -> dict[str, Any]:
    return train_cdi_model_with_backend(scans, test, replace(training, backend=backend, **changes))


Results = Callable[[str], tuple[dict[str, Any], dict[str, Any]]]


@pytest.fixture(scope="module")
def results_of(scans, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """`results_of(backend)`: what a training of both returned, and `params.cfg` after it; trained once."""

    @functools.cache
    def train(backend: str) -> tuple[dict[str, Any], dict[str, Any]]:
        training = replace(SETTINGS, output_dir=tmp_path_factory.mktemp(backend))
        return trained(backend, scans, training, probe_trainable=True), dict(params.cfg)

    return train


def test_batches_are_of_one_experiment_and_hold_every_group_once() -> None:
    order = np.random.default_rng(0).permutation(11)
    found = list(experiment_batches(order, [4, 0, 7], 3))
    assert len(found) == batch_count([4, 0, 7], 3) == 2 + 3
    assert sorted(len(groups) for _, groups in found) == [1, 1, 3, 3, 3]
    whole = [group + (0, 4, 4)[experiment] for experiment, groups in found for group in groups]
    assert sorted(whole) == list(range(11))
    first = [group for experiment, groups in found if experiment == 0 for group in groups]
    np.testing.assert_array_equal(first, order[order < 4])


def test_batches_of_one_experiment_are_those_of_the_order() -> None:
    order = next(epoch_orders(10, 3))
    for (number, found), expected in zip(experiment_batches(order, [10], 4), split_batches(order, 4), strict=True):
        assert number == 0
        np.testing.assert_array_equal(found, expected)


def test_the_overlap_of_probes_does_not_see_energy_phase_or_the_choice_of_modes() -> None:
    one, other = zone_plate_probe(32, defocus=2.0), disk_probe(32, 9.0)
    modes = np.stack([one, 0.5 * other])
    turned = np.array([[3, 4], [-4, 3]]) / 5 @ modes.reshape(2, -1)
    assert probe_overlap(modes, (2 - 1j) * turned.reshape(modes.shape)) == pytest.approx(1)
    plain = abs(np.vdot(one, other)) / (np.linalg.norm(one) * np.linalg.norm(other))
    assert probe_overlap(one, other) == pytest.approx(plain, rel=1e-5)
    assert plain < 0.9


@without_graphs
@pytest.mark.parametrize("backend", BACKENDS)
def test_one_network_each_experiment_its_own_probe_and_scales(backend: str, scans, results_of: Results) -> None:
    results, cfg = results_of(backend)
    first, second = results["models"]
    assert first is results["model"]
    assert first.network is second.network
    for model, scan in zip((first, second), scans, strict=True):
        assert model.input_scale == pytest.approx(scan.input_scale())
        assert probe_overlap(model.probe.file_units(), scan.probeGuess) > 0.99
        assert np.any(model.probe.file_units() != scan.probeGuess)
    assert second.nominal_intensity_scale == pytest.approx(np.sqrt(1e5) / 32)
    assert first.intensity_scale != pytest.approx(first.nominal_intensity_scale, rel=1e-6)
    assert second.intensity_scale != pytest.approx(second.nominal_intensity_scale, rel=1e-6)
    assert cfg["input_scale"] == pytest.approx(scans[0].input_scale())
    assert cfg["intensity_scale"] == pytest.approx(first.intensity_scale)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["cnn", "unrolled"])
def test_backends_train_alike(architecture: str, scans, training, monkeypatch) -> None:
    """From the same weights, two epochs of both experiments end at the same losses, scales and probes."""
    monkeypatch.setattr(unrolled_data, "STAGES", 1)  # for time
    from ptycho.tf import model_manager
    from ptycho.tf.fit import TrainingModule, fit
    from ptycho.tf.loader import PtychoDataContainer
    from ptycho.tf.pinn import PtychoPINN
    from ptycho.workflows.networks.training_data import prepare_experiments
    from ptycho_torch import fit as torch_fit
    from ptycho_torch import model_manager as torch_manager
    from ptycho_torch.cli.shared import resolve_execution
    from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
    from ptycho_torch.pinn import PtychoPINN as TorchPINN

    training = replace(
        training,
        model=replace(training.model, architecture=architecture),
        optimizer="sgd",  # Adam makes much of gradients that are 0 but for rounding
        probe_trainable=True,
        n_groups=6,
        batch_size=3,
    )
    rate = 0.03
    execution = resolve_execution(None)
    execution.enable_progress_bar, execution.logger_backend, execution.learning_rate = False, None, rate
    both = {}
    for kind, container, module, train in (
        (PtychoPINN, PtychoDataContainer, TrainingModule, fit),
        (TorchPINN, PtychoDataContainerTorch, torch_fit.PtychoPINN_Lightning, torch_fit.fit),
    ):
        sets = prepare_experiments(scans, [None, scans[1]], training, container)
        models = []
        for found in sets:
            more: dict[str, Any] = {"network": models[0].network} if models else {}
            more |= {"seed": 0} if kind is PtychoPINN else {}
            given = (found.probe, found.input_scale, found.intensity_scale, found.mask, True, True)
            models.append(kind(training.model, *given, **more))
        if kind is PtychoPINN:
            weights = model_manager.canonical_weights(models[0].network)
            last: tuple[Any, ...] = (rate,)
        else:
            torch_manager.set_canonical_weights(models[0].network, weights, "test")
            last = (execution,)
        size = max(found.canvas_size for found in sets)
        made = module(models, training, *((size, *last) if kind is PtychoPINN else (*last, size)))
        history = train(made, [found.train for found in sets], [found.test for found in sets])
        both[kind] = history, models
    (ours, our_models), (theirs, their_models) = both.values()
    for name in ("train_loss", "val_loss"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5)
    for one, other, scan in zip(our_models, their_models, scans, strict=True):
        assert one.intensity_scale == pytest.approx(other.intensity_scale, rel=1e-5)
        a, b = one.probe.file_units(), other.probe.file_units()
        moved = np.linalg.norm(b - scan.probeGuess) / np.linalg.norm(b)
        assert np.linalg.norm(a - b) < 1e-2 * moved * np.linalg.norm(b)


@without_graphs
@pytest.mark.parametrize("writer", BACKENDS)
@pytest.mark.parametrize("reader", BACKENDS)
def test_an_archive_brings_every_experiment(writer: str, reader: str, scans, results_of, tmp_path, caplog) -> None:
    results, _ = results_of(writer)
    path = save_bundle_with_backend(results, results["config"], tmp_path / "model")
    assert len(load_archive(path).experiments) == 2

    def reconstructed(scan: RawData, number: int | None = None) -> Any:
        config = InferenceConfig(model_path=path, backend=reader, experiment_number=number)
        return reconstruct_with_backend(scan, config)

    with caplog.at_level(logging.INFO, "ptycho.networks.archiving"):
        found = reconstructed(scans[1])
    assert "experiment 1 of the model: its probe is most like that of the scan" in caplog.text
    np.testing.assert_array_equal(found.object, reconstructed(scans[1], 1).object)
    assert probe_overlap(found.probe, scans[1].probeGuess) > 0.999
    assert np.any(found.object != reconstructed(scans[1], 0).object)
    with pytest.raises(ConfigError, match="experiment_number=2: the model was trained with 2, expected 0 to 1"):
        reconstructed(scans[1], 2)


@without_graphs
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_experiment_is_stitched_by_its_own_model(backend: str, scans, training) -> None:
    config = replace(training, backend=backend, nepochs=1, n_groups=5)
    amplitude, _, results = run_cdi_example_with_backend(scans, [None, scans[1]], config, do_stitching=True)
    first, second = results["reconstructions"]
    np.testing.assert_array_equal(amplitude, np.abs(first.object))
    for found, scan in zip((first, second), scans, strict=True):
        assert probe_overlap(found.probe, scan.probeGuess) > 0.999
        assert np.abs(found.object).mean() == pytest.approx(1, abs=0.3)  # in the unit of each file


@without_graphs
@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_training_of_several_goes_on_as_if_it_had_not_stopped(
    backend: str, scans, training, results_of: Results, tmp_path
) -> None:
    longer = replace(training, backend=backend, nepochs=3, probe_trainable=True)
    whole = trained(backend, scans, longer)
    resumed = train_cdi_model_with_backend(
        scans,
        None,
        replace(longer, output_dir=tmp_path / "rest"),
        resume=results_of(backend)[0]["config"].output_dir / "checkpoints" / "last.ckpt",
    )
    assert resumed["history"]["train_loss"] == whole["history"]["train_loss"][2:]
    for one, other in zip(resumed["models"], whole["models"], strict=True):
        assert one.intensity_scale == other.intensity_scale
        np.testing.assert_array_equal(one.probe.file_units(), other.probe.file_units())


def test_a_checkpoint_brings_every_experiment(results_of: Results) -> None:
    from ptycho_torch.fit import PtychoPINN_Lightning

    results, _ = results_of("pytorch")
    loaded = PtychoPINN_Lightning.load_from_checkpoint(results["config"].output_dir / "checkpoints" / "last.ckpt")
    assert len(loaded.models) == 2
    assert loaded.of_experiment(1).network is loaded.model.network
    for one, other in zip(loaded.models, results["models"], strict=True):
        assert one.input_scale == other.input_scale
        assert one.intensity_scale == pytest.approx(other.intensity_scale)
        np.testing.assert_allclose(one.probe.file_units(), other.probe.file_units(), rtol=1e-6)
    with pytest.raises(ConfigError, match="experiment_number=5: the model was trained with 2"):
        loaded.of_experiment(5)


def test_lists_that_do_not_fit_are_refused(scans, training) -> None:
    with pytest.raises(ConfigError, match="expected one scan to train on, or more, and as many to validate with"):
        trained("pytorch", scans, training, test=scans[0])
    with pytest.raises(ConfigError, match="found 0 and 0"):
        trained("tensorflow", [], training)


def test_the_experiment_that_cannot_be_trained_is_named(scans, training) -> None:
    with pytest.raises(ConfigError, match="experiment 1: 1 scan points: gridsize 2 makes groups of 4"):
        trained("pytorch", [scans[0], scans[1].subsample(1)], replace(training, model=ModelConfig(gridsize=2)))


class TestFiles:
    @pytest.fixture
    def folders(self, scans, tmp_path: Path) -> list[Path]:
        """`a` with a scan to train on and one to validate with, `b` with a single one."""
        made = [tmp_path / "a", tmp_path / "b"]
        for folder in made:
            folder.mkdir()
        scans[0].to_file(made[0] / "train_data.npz")
        scans[0].to_file(made[0] / "test_data.npz")
        scans[1].to_file(made[1] / "run7.npz")
        return made

    def test_directories_follow_the_scan_that_is_named(self, folders, tmp_path) -> None:
        a, b = folders
        named = TrainingConfig(train_data_file=b / "run7.npz", training_directories=(a, b))
        assert experiment_files(named) == [
            (b / "run7.npz", None),
            (a / "train_data.npz", a / "test_data.npz"),
        ]
        alone = TrainingConfig(training_directories=[str(b), str(a)], test_data_file=a / "test_data.npz")
        assert experiment_files(alone) == [
            (b / "run7.npz", a / "test_data.npz"),
            (a / "train_data.npz", a / "test_data.npz"),
        ]
        assert experiment_files(TrainingConfig()) == []

    def test_every_scan_of_a_folder_is_an_experiment(self, folders, tmp_path) -> None:
        for name in ("probe1_object0", "probe0_object0", ".probe0_object1.0123abcd"):  # the last of a killed simulation
            (tmp_path / f"{name}.npz").touch()
        made = experiment_files(TrainingConfig(training_directories=(tmp_path, folders[1])))
        assert [path.name for path, _ in made] == ["probe0_object0.npz", "probe1_object0.npz", "run7.npz"]
        (tmp_path / "test_data.npz").touch()
        with pytest.raises(DataError, match=r"test_data\.npz: expected train_data\.npz beside it, found 2 scans"):
            experiment_files(TrainingConfig(training_directories=(tmp_path,)))

    def test_a_folder_without_one_scan_is_refused(self, tmp_path) -> None:
        with pytest.raises(MissingFileError, match=r"expected train_data\.npz or one other scan"):
            scan_files(tmp_path)
        for name in ("one", "two"):
            (tmp_path / f"{name}.npz").touch()
        with pytest.raises(DataError, match=r"found one\.npz, two\.npz; name the one train_data\.npz"):
            scan_files(tmp_path)

    @pytest.mark.usefixtures("without_graphs")
    @pytest.mark.slow
    @pytest.mark.parametrize("backend", BACKENDS)
    def test_the_commands_train_on_directories(self, backend: str, folders, tmp_path, capsys) -> None:
        model, result = tmp_path / "model", tmp_path / "result"
        given = ["--training_directories", ",".join(map(str, folders)), "--output_dir", model, "--backend", backend]
        given += ["--n_filters_scale", 1, "--nepochs", 1, "--n_groups", 16, "--do_stitching"]
        given += ["--torch-accelerator", "cpu"] if backend == "pytorch" else []
        assert train_main(list(map(str, given))) == 0, capsys.readouterr().err
        assert (model / "reconstruction.npz").is_file()
        assert (model / "experiment_1" / "summary.png").is_file()
        assert "experiment 1: Reconstructed 100 x 98 pixels" in capsys.readouterr().err
        given = ["--model_path", model, "--test_data", folders[1] / "run7.npz", "--output_dir", result]
        assert inference_main([*map(str, given), "--backend", backend, "--no-refine"]) == 0
        assert "experiment 1 of the model" in capsys.readouterr().err

    def test_the_native_command_does_too(self, folders, tmp_path, capsys) -> None:
        from ptycho_torch.train import main

        given: list[Any] = ["--training_directories", f"{folders[1]},{folders[0]}", "--output_dir", tmp_path / "model"]
        given += ["--n_filters_scale", 1, "--nepochs", 1, "--n_groups", 16, "--accelerator", "cpu", "--logger", "none"]
        assert main(list(map(str, given))) == 0, capsys.readouterr().err
        assert len(load_archive(tmp_path / "model").experiments) == 2


class TestInterface:
    """The interface for programs, with the fields of the PyTorch dataclasses."""

    @pytest.fixture
    def train(self, scans, tmp_path: Path) -> Callable[..., tuple[Any, Any]]:
        from ptycho_torch.api.config_manager import ConfigManager
        from ptycho_torch.api.models import PtychoModel
        from ptycho_torch.api.scans import PtychoDataLoader
        from ptycho_torch.api.training import Trainer
        from ptycho_torch.config_params import DataConfig, TrainingConfig
        from ptycho_torch.config_params import ModelConfig as TorchModel

        folders = [tmp_path / name for name in "ab"]
        for folder, scan in zip(folders, scans, strict=True):
            folder.mkdir()
            scan.to_file(folder / "train_data.npz")

        def run(number: int) -> tuple[Any, Any]:
            settings = TrainingConfig(
                training_directories=tuple(folders),
                epochs=1,
                num_workers=0,
                device="cpu",
                n_groups=16,
                output_dir=tmp_path,
            )
            manager = ConfigManager(
                data_config=DataConfig(grid_size=(1, 1), C=1, nphotons=1e6),
                model_config=TorchModel(C_model=1, C_forward=1, num_datasets=number, n_filters_scale=1),
                training_config=settings,
            )
            loader = PtychoDataLoader(folders[0], manager)
            model = PtychoModel._new_model(config_manager=manager)
            Trainer._from_lightning(model, loader).train()
            return model, manager

        return run

    def test_directories_train_one_network_and_a_number_chooses(self, train, scans) -> None:
        from ptycho_torch.api.inference import InferenceEngine
        from ptycho_torch.api.scans import PtychoDataLoader

        model, manager = train(2)
        assert len(model.module.models) == 2
        scan = scans[1]
        points = np.stack([scan.ycoords, scan.xcoords], axis=1)
        loader = PtychoDataLoader.from_np(scan.diff3d, scan.probeGuess, points, manager, units="amplitude")
        for number in (1, None):
            manager.inference_config = replace(manager.inference_config, experiment_number=number)
            found = InferenceEngine(manager, model).reconstruct(loader)
            assert probe_overlap(found.probe, scan.probeGuess) > 0.999
        manager.inference_config = replace(manager.inference_config, experiment_number=2)
        with pytest.raises(ConfigError, match="experiment_number=2: the model was trained with 2"):
            InferenceEngine(manager, model).reconstruct(loader)

    def test_a_number_of_datasets_that_is_not_theirs_is_refused(self, train) -> None:
        with pytest.raises(ConfigError, match="num_datasets=3: expected the number of experiments, found 2"):
            train(3)


def test_a_training_is_asked_for_along_other_axes() -> None:
    one, other = (simulated(disk_probe(64, 20), 1e5, 1.0, seed) for seed in (1, 2))
    config = TrainingConfig()
    assert as_asked((one, None, config)) == (one, None, config)
    train, test, found = as_asked(([one, other], [None, one], config), flip_x=True, transpose=True, M=20)
    assert (found.stitching.middle_trim, config.stitching.middle_trim) == (20, 0)
    np.testing.assert_array_equal(train[1].xcoords, other.ycoords)
    np.testing.assert_array_equal(train[1].ycoords, -other.xcoords)
    assert test[0] is None
    np.testing.assert_array_equal(test[1].ycoords, -one.xcoords)
