"""The interface for programs: settings, scans, training, checkpoints, reconstruction."""

from __future__ import annotations

import json
import pickle
import re
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from ptycho import params
from ptycho.config.config import ModelConfig as SharedModel
from ptycho.config.config import PyTorchExecutionConfig
from ptycho.config.config import TrainingConfig as SharedTraining
from ptycho.config.options import StitchOptions
from ptycho.core.geometry import ObjectFrame
from ptycho.errors import ArchiveError, ConfigError, DataError, MissingFileError
from ptycho.raw_data import RawData
from ptycho.workflows.reconstruct import inference_settings
from ptycho.workflows.result_frame import frame_of, scan_frame
from ptycho_torch.api import scans
from ptycho_torch.api.base_api import (
    ConfigManager,
    Datagen,
    DataloaderFormats,
    InferenceEngine,
    PtychoDataLoader,
    PtychoModel,
    Trainer,
)
from ptycho_torch.api.config_manager import configs_from, configs_of, plain_configs
from ptycho_torch.api.inference import in_frame
from ptycho_torch.api.training import training_payload
from ptycho_torch.config.options import NEUTRAL_OPTIONS, options_of
from ptycho_torch.config_bridge import to_model_config
from ptycho_torch.config_params import DataConfig, DatagenConfig, InferenceConfig, ModelConfig, TrainingConfig
from ptycho_torch.lightning.checkpoint import read_checkpoint
from ptycho_torch.lightning_utils import find_best_checkpoint
from ptycho_torch.model import PtychoPINN_Lightning
from ptycho_torch.workflows.components import predict_scan, reconstruct_scan, train_cdi_model_torch

EPOCHS = 2
POINTS = 16


def manager(**training: object) -> ConfigManager:
    """Settings of the smallest training."""
    settings = {"epochs": EPOCHS, "batch_size": 8, "device": "cpu", "num_workers": 0}
    return ConfigManager(
        data_config=DataConfig(N=64, grid_size=(1, 1), x_bounds=(0.0, 1.0), y_bounds=(0.0, 1.0)),
        model_config=ModelConfig(n_filters_scale=1, intensity_scale_trainable=True),
        training_config=TrainingConfig(**{**settings, **training}),
    )


def part(scan: RawData, points: slice, **changes: object) -> RawData:
    """Some points of a scan, as counts."""
    counts = np.round(np.asarray(scan.diff3d[points], np.float64) ** 2).astype(np.uint32)
    values = {"objectGuess": scan.objectGuess, "units": "counts", **changes}
    return RawData(scan.xcoords[points], scan.ycoords[points], None, None, counts, scan.probeGuess, **values)


class Watch(pl.Callback):
    """What a client collects of a training."""

    def __init__(self) -> None:
        self.losses: dict[str, list[float]] = {"train_loss": [], "val_loss": []}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.losses["train_loss"].append(float(trainer.callback_metrics["train_loss"]))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.losses["val_loss"].append(float(trainer.callback_metrics["val_loss"]))


class Trained(NamedTuple):
    """A training through the interface."""

    manager: ConfigManager
    loader: PtychoDataLoader
    model: PtychoModel
    watch: Watch
    results: dict
    params: dict


@pytest.fixture(scope="module")
def trained(fixture_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two epochs on 16 points, validated on 8 others."""
    folder, scan = tmp_path_factory.mktemp("api"), RawData.from_file(fixture_file)
    part(scan, slice(0, POINTS)).to_file(folder / "train_data.npz")
    part(scan, slice(POINTS, POINTS + 8)).to_file(folder / "test_data.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(params, "cfg", dict(params.cfg))
        settings = manager(notes="a word")
        loader = PtychoDataLoader(folder, settings, DataloaderFormats("lightning_only_module"), folder / "out")
        model = PtychoModel._new_model(model=PtychoPINN_Lightning, config_manager=settings)
        trainer = Trainer._from_lightning(model, loader, "lightning", settings)
        watch = Watch()
        trainer._trainer.callbacks.append(watch)
        results = trainer.train(orchestration="lightning", experiment_name="first")
        return Trained(settings, loader, model, watch, results, dict(params.cfg))


def test_callbacks_see_every_epoch_of_both_sets(trained: Trained) -> None:
    assert [len(losses) for losses in trained.watch.losses.values()] == [EPOCHS, EPOCHS]
    assert trained.watch.losses["train_loss"] == trained.results["history"]["train_loss"]
    assert trained.watch.losses["val_loss"] == trained.results["history"]["val_loss"]


def test_every_scan_point_is_trained_on_and_the_dose_is_measured(trained: Trained) -> None:
    assert len(trained.results["train_container"]) == POINTS
    assert len(trained.results["test_container"]) == 8
    measured = trained.loader.train.mean_energy
    assert trained.model.module.model.nominal_intensity_scale == pytest.approx(np.sqrt(measured) / 32)


@pytest.mark.parametrize(("gridsize", "per_seed", "groups"), [(1, 7, 4), (2, 1, 4), (2, 3, 12)])
def test_every_point_that_may_be_is_a_seed(gridsize: int, per_seed: int, groups: int, tmp_path: Path) -> None:
    settings, yx = manager(), np.indices((4, 4)).reshape(2, -1).T
    patterns, probe = np.ones((16, 64, 64), np.uint16), np.ones((64, 64), complex)
    loader = PtychoDataLoader.from_np(patterns, probe, yx, settings, output_dir=tmp_path)
    settings.update(data_config={"grid_size": (gridsize, gridsize), "n_subsample": per_seed, "x_bounds": (0.3, 0.7)})
    settings.update(data_config={"y_bounds": (0.3, 0.7)})
    with pytest.warns(UserWarning, match="without evaluation"):
        payload = training_payload(settings, loader, "lightning", "")
    assert payload.tf_training_config.n_groups == groups


def test_labels_reach_params_cfg(trained: Trained) -> None:
    assert trained.params["notes"] == "a word"
    assert trained.params["experiment_name"] == "first"


def test_the_run_has_a_folder_of_its_own(trained: Trained) -> None:
    assert re.fullmatch(r"run_\d{8}_\d{6}", trained.loader.output_dir.name)
    assert find_best_checkpoint(trained.loader.output_dir) == (
        trained.loader.output_dir / "checkpoints" / "best-checkpoint.ckpt"
    )


def test_two_runs_of_one_second_do_not_meet(tmp_path: Path) -> None:
    first, second = scans._new_run(tmp_path), scans._new_run(tmp_path)
    assert first != second
    assert first.is_dir()
    assert second.is_dir()


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert find_best_checkpoint(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert find_best_checkpoint(tmp_path) == tmp_path / "checkpoints" / "last.ckpt"


def test_the_best_of_several_checkpoints(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("best-checkpoint.ckpt", "best-checkpoint-v1.ckpt"):
        torch.save({}, folder / name)
    best = {"monitor": "val_loss", "best_model_path": "elsewhere/best-checkpoint-v1.ckpt"}
    last = {"monitor": None, "best_model_path": "elsewhere/last.ckpt"}
    torch.save({"callbacks": {"one": {}, "other": last, "best": best}}, folder / "last.ckpt")
    assert find_best_checkpoint(tmp_path) == folder / "best-checkpoint-v1.ckpt"


def test_a_checkpoint_brings_its_settings(trained: Trained) -> None:
    path = trained.loader.output_dir / "checkpoints" / "last.ckpt"
    data, model, training, inference = PtychoModel._extract_configs_from_checkpoint(str(path))
    assert data == trained.manager.data_config
    assert model == trained.manager.model_config
    assert inference == trained.manager.inference_config
    same = {"experiment_name": "", "output_dir": Path("training_outputs"), "train_data_file": None}
    assert replace(training, test_data_file=None, **same) == trained.manager.training_config
    assert training.train_data_file == trained.loader.train_file


def test_a_checkpoint_predicts_what_its_model_did(trained: Trained) -> None:
    path = trained.loader.output_dir / "checkpoints" / "last.ckpt"
    loaded = PtychoPINN_Lightning.load_from_checkpoint(path, model_config=trained.manager.model_config)
    container = trained.results["train_container"]
    expected = predict_scan(trained.model.module.model, container)
    np.testing.assert_array_equal(predict_scan(loaded.model, container), expected)
    assert not loaded.training
    assert loaded.config.nepochs == EPOCHS
    assert loaded.model.intensity_scale == trained.model.module.model.intensity_scale


def test_a_trained_probe_and_a_mask_come_back(scan: RawData, training: SharedTraining, execution, tmp_path) -> None:
    mask = np.ones((64, 64), bool)
    mask[3, 5:9] = False
    data = part(scan, slice(0, 8), mask=mask)
    config = replace(training, nepochs=1, probe_trainable=True, n_groups=8)
    model = train_cdi_model_torch(data, None, config, execution_config=execution)["model"]
    found = PtychoPINN_Lightning.load_from_checkpoint(tmp_path / "out" / "checkpoints" / "last.ckpt").model
    assert not np.array_equal(model.probe.file_units()[0], data.probeGuess)
    np.testing.assert_allclose(found.probe.file_units(), model.probe.file_units(), rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(found.mask, mask)
    assert found.input_scale == model.input_scale


def test_a_checkpoint_of_the_command_line_has_settings_too(scan, training, execution, tmp_path) -> None:
    config = replace(training, nepochs=1, n_groups=8, model=replace(training.model, gridsize=2))
    train_cdi_model_torch(scan, None, config, execution_config=execution)
    path = tmp_path / "out" / "checkpoints" / "last.ckpt"
    model = PtychoModel.from_checkpoint(path)
    assert (model.data_config.N, model.data_config.grid_size, model.data_config.C) == (64, (2, 2), 4)
    assert model.training_config.epochs == 1
    assert to_model_config(model.data_config, model.model_config) == config.model
    ConfigManager.from_loaded_model(model).validate_arch_compatibility(model)


def test_what_is_no_checkpoint_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such file"):
        PtychoPINN_Lightning.load_from_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "some.ckpt").write_bytes(pickle.dumps(Path("x"), protocol=2))
    with pytest.raises(ArchiveError, match="found another file"):
        PtychoModel._extract_configs_from_checkpoint(str(tmp_path / "some.ckpt"))


def test_a_checkpoint_without_its_model_says_so(trained: Trained, tmp_path: Path) -> None:
    content = read_checkpoint(trained.loader.output_dir / "checkpoints" / "last.ckpt")
    del content["archive"]
    torch.save(content, tmp_path / "old.ckpt")
    with pytest.raises(ArchiveError, match="describes its model"):
        PtychoPINN_Lightning.load_from_checkpoint(tmp_path / "old.ckpt")


def test_weights_of_another_network_are_refused(trained: Trained, tmp_path: Path) -> None:
    content = read_checkpoint(trained.loader.output_dir / "checkpoints" / "last.ckpt")
    content["state_dict"]["model.mask"] = torch.ones(3, 3, dtype=torch.bool)
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ArchiveError, match=r"do not fit together.*mask"):
        PtychoPINN_Lightning.load_from_checkpoint(tmp_path / "other.ckpt")


def test_save_pytorch_and_back(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "cfg", {"N": 64, "probe": np.ones(3)})
    folder = trained.model.save_pytorch(tmp_path / "saved")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["backend"] == "pytorch"
    assert manifest["params"] == {"N": 64}
    assert (folder / manifest["checkpoint"]).is_file()
    loaded = PtychoModel.from_checkpoint(folder)
    assert loaded.configs == trained.model.configs
    container = trained.results["train_container"]
    expected = predict_scan(trained.model.module.model, container)
    np.testing.assert_array_equal(predict_scan(loaded.module.model, container), expected)
    with (folder / "model.ckpt").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(ArchiveError, match="sha256"):
        PtychoModel.from_checkpoint(folder)


def test_an_empty_params_cfg_is_not_saved(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "cfg", {})
    with pytest.raises(ValueError, match=r"params\.cfg is empty"):
        trained.model.save_pytorch(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_an_untrained_model_says_so(tmp_path: Path) -> None:
    model = PtychoModel._new_model()
    assert (model.model.loss_name, model.model.val_loss_name) == ("train_loss", "val_loss")
    with pytest.raises(ConfigError, match="was not trained"):
        model.save_pytorch(tmp_path)


def test_mlflow_round_trip(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is an extra: pip install 'ptychopinn[tracking]'")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder of runs needs no database
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    loaded = PtychoModel.load_from_mlflow(trained.model.save_mlflow())
    assert loaded.configs == trained.model.configs
    container = trained.results["train_container"]
    expected = predict_scan(trained.model.module.model, container)
    np.testing.assert_array_equal(predict_scan(loaded.module.model, container), expected)


def test_without_mlflow_one_line_says_what_to_install(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"ptychopinn\[tracking\]"):
        trained.model.save_mlflow()


def test_the_object_is_that_of_the_workflow(trained: Trained, scan: RawData) -> None:
    found = InferenceEngine(trained.manager, trained.model).predict_and_stitch(trained.loader)
    settings = trained.results["config"]
    execution = PyTorchExecutionConfig(accelerator="cpu")
    expected = reconstruct_scan(
        trained.model.module.model,
        trained.loader.train,
        replace(inference_settings(settings), neighbor_count=6),
        execution_config=execution,
        stitching=StitchOptions(middle_trim=32, window=20),
    )
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.complex64
    np.testing.assert_array_equal(found, expected.object)


def test_arrays_give_what_the_file_gives_in_its_frame(trained: Trained) -> None:
    engine, data = InferenceEngine(trained.manager, trained.model), trained.loader.train
    yx = np.stack([data.ycoords, data.xcoords], axis=1)
    counts = np.asfortranarray(np.asarray(data.diff3d).astype(np.float64))
    loader = PtychoDataLoader.from_np(counts, np.asarray(data.probeGuess)[None], yx, trained.manager)
    found = engine.predict_and_stitch(loader)
    np.testing.assert_allclose(found, engine.predict_and_stitch(trained.loader), atol=2e-5)


# the frame of a result


def line(x: list[float], y: list[float], shape: tuple[int, int] | None = None) -> RawData:
    """A scan with these positions."""
    known = None if shape is None else np.ones(shape, np.complex64)
    ones = np.ones((len(x), 64, 64), np.uint16)
    return RawData(np.array(x), np.array(y), None, None, ones, np.ones((64, 64), complex), objectGuess=known)


@pytest.mark.parametrize(
    ("x", "size", "first"),
    [
        ([32.0, 50.0], 82, 0),  # W/2 of pixels N/2: an object of 82 pixels, its middle at 41
        ([31.5, 49.5], 81, 0),  # (W - 1)/2 of pixels (N - 1)/2: the same object, its middle at 40.5
        ([40.0, 58.0], 98, 0),  # a margin of 8 pixels on both sides
        ([-9.0, 9.0], 82, -41),  # positions from the middle on
        ([1032.0, 1050.0], 82, 1000),  # pixel 0 far away
    ],
)
def test_the_middle_of_the_result_is_that_of_the_positions(x: list[float], size: int, first: int) -> None:
    frame = frame_of(line(x, [40.0, 44.0]), None)
    assert frame == ObjectFrame(84, size, first, 0)
    assert frame.x0 + frame.width / 2 == np.mean(x)


def test_the_scan_of_the_training_is_known_again() -> None:
    known = scan_frame(line([40.0, 47.0], [33.0, 60.0], (120, 130)))
    json.dumps(known)
    again = line([40.0, 47.0], [33.0, 60.0])
    assert frame_of(again, known) == ObjectFrame(120, 130, 0, 0)
    assert frame_of(line([40.0, 47.5], [33.0, 60.0]), known) != ObjectFrame(120, 130, 0, 0)
    assert frame_of(again, scan_frame(again)) == ObjectFrame(93, 87, 0, 0)


def test_the_parts_of_a_training_are_known_as_one_scan() -> None:
    train, test = line([40.0, 47.0], [33.0, 60.0], (120, 130)), line([35.0, 41.0], [50.0, 71.0], (120, 130))
    known = scan_frame(train, test)
    assert frame_of(line([35.0, 47.0], [33.0, 71.0]), known) == ObjectFrame(120, 130, 0, 0)
    assert frame_of(line([35.0, 41.0], [50.0, 71.0]), known) == ObjectFrame(120, 130, 0, 0)
    assert frame_of(line([35.0, 47.0], [33.0, 60.0]), known) != ObjectFrame(120, 130, 0, 0)


def test_a_frame_moves_positions_and_nothing_else() -> None:
    data = line([-9.0, 9.0], [40.0, 44.0])
    moved = in_frame(data, ObjectFrame(84, 82, -41, 0))
    np.testing.assert_array_equal(moved.xcoords, [32.0, 50.0])
    np.testing.assert_array_equal(moved.ycoords, data.ycoords)
    assert moved.objectGuess is not None
    assert moved.objectGuess.shape == (84, 82)
    assert moved.diff3d is data.diff3d


# scans in folders


def test_which_scan_is_trained_on(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"train_data\.npz or one other scan"):
        scans.scan_files(tmp_path)
    for name in ("test_data.npz", "b.npz"):
        (tmp_path / name).touch()
    assert scans.scan_files(tmp_path) == (tmp_path / "b.npz", tmp_path / "test_data.npz")
    (tmp_path / "c.npz").touch()
    with pytest.raises(DataError, match=r"found b\.npz, c\.npz"):
        scans.scan_files(tmp_path)
    (tmp_path / "train_data.npz").touch()
    assert scans.scan_files(tmp_path)[0] == tmp_path / "train_data.npz"
    assert scans.scan_files(tmp_path / "c.npz") == (tmp_path / "c.npz", None)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (2, 2, 2)])
def test_positions_are_pairs(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"pairs \[y, x\]"):
        PtychoDataLoader.from_np(np.ones((4, 64, 64)), np.ones((64, 64)), np.zeros(shape), manager())


def test_positions_are_read_as_y_and_x() -> None:
    yx = np.array([[1.0, 10.0], [2.0, 20.0]])
    loader = PtychoDataLoader.from_np(np.ones((2, 64, 64)), np.ones((2, 64, 64), complex), yx, manager())
    np.testing.assert_array_equal(loader.train.xcoords, [10, 20])
    np.testing.assert_array_equal(loader.train.ycoords, [1, 2])


def test_an_unknown_format_is_refused(fixture_file: Path) -> None:
    with pytest.raises(ValueError, match="pages"):
        PtychoDataLoader(fixture_file, manager(), "pages")


def test_an_unknown_orchestration_is_refused(fixture_file: Path) -> None:
    loader = PtychoDataLoader(fixture_file, manager())
    with pytest.raises(ConfigError, match="lightning or mlflow"):
        Trainer._from_lightning(PtychoModel(), loader, "slurm")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "configured", "found"),
    [(None, "Mlflow", "Mlflow"), ("lightning", "Mlflow", "Lightning"), ("mlflow", "Lightning", "Mlflow")],
)
def test_where_metrics_go(asked, configured: str, found: str, fixture_file: Path, tmp_path: Path) -> None:
    settings = manager(orchestrator=configured)
    loader = PtychoDataLoader(fixture_file, settings, output_dir=tmp_path)
    with pytest.warns(UserWarning, match="without evaluation"):
        payload = training_payload(settings, loader, asked, "")
    assert payload.pt_training_config.orchestrator == found
    assert payload.execution_config.logger_backend == {"Mlflow": "mlflow", "Lightning": "csv"}[found]


# settings


def test_update_changes_what_it_names() -> None:
    settings = manager()
    settings.update(training_config={"epochs": 7}, data_config=DataConfig(N=128))
    assert (settings.training_config.epochs, settings.training_config.batch_size) == (7, 8)
    assert settings.data_config.N == 128


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_config": {}}, "did you mean training_config"),
        ({"training_config": {"epoch": 3}}, "did you mean epochs"),
        ({"training_config": {"epochs": 0}, "data_config": {"N": 128}}, "epochs=0"),
        ({"data_config": {"N": 128}, "training_config": 3}, "expected a TrainingConfig"),
    ],
)
def test_update_refuses_and_then_changes_nothing(changes: dict, message: str) -> None:
    settings = manager()
    with pytest.raises(ConfigError, match=message):
        settings.update(**changes)
    assert settings == manager()


def test_a_loaded_model_fits_its_own_settings_and_no_others(trained: Trained) -> None:
    settings = ConfigManager.from_loaded_model(trained.model)
    settings.validate_arch_compatibility(trained.model)
    settings.model_config.n_filters_scale = 3
    assert trained.model.model_config.n_filters_scale == 1
    with pytest.raises(ConfigError, match="n_filters_scale=3 in the configuration, 1 in the network"):
        settings.validate_arch_compatibility(trained.model)


def test_settings_are_kept_as_plain_values() -> None:
    mask = np.eye(3)
    configs = (
        DataConfig(N=np.int64(64), grid_size=(1, 1)),  # type: ignore[arg-type]
        ModelConfig(probe_mask=mask),
        TrainingConfig(output_dir=Path("a") / "b", training_directories=(Path("c"),)),
        InferenceConfig(),
    )
    plain = plain_configs(configs)
    assert type(plain["data_config"]["N"]) is int
    assert plain["training_config"]["output_dir"] == "a/b"
    data, model, training, inference = configs_from(plain, "here")
    assert (data, training.output_dir, inference) == (configs[0], Path("a/b"), configs[3])
    np.testing.assert_array_equal(model.probe_mask, mask)
    with pytest.raises(ConfigError, match="no inference_config"):
        configs_from({name: value for name, value in plain.items() if name != "inference_config"}, "here")


def test_the_shared_settings_in_the_other_spelling() -> None:
    shared = SharedTraining(model=SharedModel(N=128, gridsize=3, amp_activation="softplus"), nepochs=4, nll_weight=0.0)
    data, model, training, inference = configs_of(shared)
    assert (data.N, data.grid_size, data.C, model.C_model) == (128, (3, 3), 9, 9)
    assert (model.amp_activation, training.epochs, training.nll) == ("softplus", 4, False)
    assert options_of(data, model, training, inference) == NEUTRAL_OPTIONS
    assert to_model_config(data, model) == shared.model


def test_every_configuration_is_a_field_of_the_manager() -> None:
    kinds = [type(getattr(ConfigManager(), field.name)) for field in fields(ConfigManager)]
    assert kinds == [DataConfig, ModelConfig, TrainingConfig, InferenceConfig, DatagenConfig]


def test_simulated_data(tmp_path: Path) -> None:
    settings = ConfigManager(
        data_config=DataConfig(N=64, nphotons=1e4),
        datagen_config=DatagenConfig(objects_per_probe=1, diff_per_object=3, image_size=(90, 100), beamstop_diameter=0),
    )
    made = Datagen(settings)
    assert made.objects(2, seed=1).shape == (2, 90, 100)
    assert made.probes(1).shape == (1, 64, 64)
    (path,) = made.experiments(tmp_path)
    assert len(RawData.from_file(path)) == 3


def test_statistics_of_patches_are_written_where_the_settings_ask_for_them(fixture_file: Path, tmp_path: Path) -> None:
    settings, scan = manager(epochs=1), RawData.from_file(fixture_file)
    settings.update(inference_config={"log_patch_stats": True, "patch_stats_limit": 1})
    part(scan, slice(0, 8)).to_file(tmp_path / "train_data.npz")
    loader = PtychoDataLoader(tmp_path / "train_data.npz", settings, output_dir=tmp_path / "out")
    model = PtychoModel._new_model(model=PtychoPINN_Lightning, config_manager=settings)
    with pytest.warns(UserWarning, match="without evaluation"):
        Trainer._from_lightning(model, loader, "lightning", settings).train()
    InferenceEngine(settings, model).predict_and_stitch(loader)
    found = [loader.output_dir / name / "analysis" / "torch_patch_stats.json" for name in ("", "inference")]
    entries = [json.loads(path.read_text()) for path in found]
    assert [[entry["phase"] for entry in each] for each in entries] == [["train"], ["inference"]]
