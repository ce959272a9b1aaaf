"""Pictures written while a network is trained."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from ptycho.errors import ConfigError
from ptycho.workflows.networks.training_data import prepare_training
from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
from ptycho_torch.lightning.recon_log import ReconstructionLog, draw_object, draw_patches, stitched
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.workflows.components import predict_scan, train_cdi_model_torch


@pytest.fixture
def small(training):
    return replace(training, n_groups=6, batch_size=3, nepochs=3)


def pictures(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "recon_log").glob("*"))


@pytest.mark.slow
def test_pictures_of_every_second_epoch_change_nothing(scan, small, execution, tmp_path) -> None:
    execution = replace(execution, enable_checkpointing=False)
    asked = replace(execution, recon_log_every_n_epochs=2, recon_log_num_patches=2, recon_log_stitch=True)
    drawn, plain = (
        train_cdi_model_torch(scan, None, replace(small, output_dir=tmp_path / name), execution_config=one)["model"]
        for name, one in (("drawn", asked), ("plain", execution))
    )
    assert pictures(tmp_path / "drawn") == ["epoch_002_object.png", "epoch_002_patches.png"]
    assert pictures(tmp_path / "plain") == []
    assert imread(tmp_path / "drawn" / "recon_log" / "epoch_002_object.png").ndim == 3
    for name, value in plain.state_dict().items():
        assert torch.equal(value, drawn.state_dict()[name]), name


@pytest.fixture
def prepared(scan, small):
    found = prepare_training(scan, None, small, PtychoDataContainerTorch)
    return found, PtychoPINN(small.model, found.probe, found.input_scale, found.intensity_scale, found.mask).eval()


def log(groups, execution, folder: Path, **settings) -> ReconstructionLog:
    return ReconstructionLog(groups, replace(execution, recon_log_every_n_epochs=1, **settings), folder, seed=3)


def test_which_groups_are_shown(prepared, execution, tmp_path) -> None:
    groups = prepared[0].train
    drawn = log(groups, execution, tmp_path, recon_log_num_patches=3).chosen
    assert len(set(drawn.tolist())) == 3
    assert drawn.tolist() == log(groups, execution, tmp_path, recon_log_num_patches=3).chosen.tolist()
    assert len(log(groups, execution, tmp_path, recon_log_num_patches=99).chosen) == 6
    assert log(groups, execution, tmp_path, recon_log_fixed_indices=(4, 1)).chosen.tolist() == [4, 1]
    with pytest.raises(ConfigError, match=r"recon_log_fixed_indices=\(0, 6\): expected indices of 6 groups"):
        log(groups, execution, tmp_path, recon_log_fixed_indices=(0, 6))
    assert log(groups, execution, tmp_path, recon_log_max_stitch_samples=3).stitched.tolist() == [0, 2, 5]
    assert log(groups, execution, tmp_path).stitched.tolist() == list(range(6))


def test_what_is_shown_is_what_is_predicted(prepared, execution, tmp_path, monkeypatch) -> None:
    """And a logger with a stream of images gets the same pictures."""
    found, model = prepared
    torch.nn.init.normal_(model.network.phase_head.weight, std=0.1)
    expected = predict_scan(model, found.train)
    shown, stream = [], []
    draw = draw_patches
    monkeypatch.setattr(
        "ptycho_torch.lightning.recon_log.draw_patches",
        lambda patches, names: shown.append((patches, names)) or draw(patches, names),
    )
    experiment = SimpleNamespace(add_image=lambda *given, **more: stream.append((given, more)))
    trainer = SimpleNamespace(
        current_epoch=1,
        is_global_zero=True,
        loggers=[SimpleNamespace(experiment=experiment), SimpleNamespace(experiment=1)],
    )
    model.train()
    callback = log(found.train, execution, tmp_path, recon_log_fixed_indices=(5, 2))
    callback.on_train_epoch_end(trainer, SimpleNamespace(model=model))
    assert model.training
    np.testing.assert_array_equal(shown[0][0], expected[[5, 2], 0])
    assert shown[0][1] == ["group 5", "group 2"]
    ((tag, picture, epoch), more) = stream[0]
    assert (tag, epoch, more) == ("reconstruction/patches", 2, {"dataformats": "HWC"})
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.std() > 10


def test_the_object_is_flat_before_training(prepared) -> None:
    found, model = prepared
    image, coverage = stitched(model, found.train, np.arange(6))
    assert image.shape == coverage.shape
    scale = float(model.object_scale.detach())
    np.testing.assert_allclose(image[coverage > 0], scale, rtol=1e-5)
    assert 0 < (coverage > 0).mean() < 1


def test_a_picture_has_both_parts_of_every_patch(rng) -> None:
    patches = (rng.random((3, 8, 8)) * np.exp(1j * rng.random((3, 8, 8)))).astype(np.complex64)
    figure = draw_patches(patches, ["a", "b", "c"])
    maps = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in maps[::2]] == ["a", "b", "c"]
    for row, patch in enumerate(patches):
        np.testing.assert_allclose(maps[2 * row].images[0].get_array(), abs(patch), rtol=1e-6)
        np.testing.assert_allclose(maps[2 * row + 1].images[0].get_array(), np.angle(patch), rtol=1e-5)
    limits = {axes.images[0].get_clim() for axes in maps[::2]}
    assert len(limits) == 1
    shown = draw_object(patches[0], np.eye(8, dtype=np.float32)).axes[0].images[0].get_array()
    assert shown.mask.sum() == 56


def test_the_network_with_a_canvas_shows_its_members_alone(patterns, execution, training, tmp_path) -> None:
    """Of `unrolled`, whose training batches hold held-out neighbours."""
    model = replace(training.model, architecture="unrolled")
    config = replace(training, model=model, n_groups=4, batch_size=2, nepochs=1, output_dir=tmp_path)
    asked = replace(execution, recon_log_every_n_epochs=1, recon_log_stitch=True, enable_checkpointing=False)
    train_cdi_model_torch(patterns, None, config, execution_config=asked)
    assert pictures(tmp_path) == ["epoch_001_object.png", "epoch_001_patches.png"]


def test_tensorboard_gets_losses_and_pictures(scan, small, execution, tmp_path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed: pip install 'ptychopinn[tracking]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    asked = replace(execution, recon_log_every_n_epochs=3, logger_backend="tensorboard", enable_checkpointing=False)
    results = train_cdi_model_torch(scan, None, replace(small, output_dir=tmp_path), execution_config=asked)
    events = EventAccumulator(str(tmp_path / "logs" / "version_0"))
    events.Reload()
    losses = [event.value for event in events.Scalars("train_loss")]
    assert losses == pytest.approx(results["history"]["train_loss"], rel=1e-6)
    assert [event.step for event in events.Images("reconstruction/patches")] == [3]


def test_a_logger_that_is_not_installed_is_one_line(scan, small, execution, monkeypatch) -> None:
    monkeypatch.setattr("lightning.pytorch.loggers.mlflow._MLFLOW_AVAILABLE", False)
    with pytest.raises(ConfigError, match=r"logger_backend='mlflow' needs a package that is not installed \(mlflow\)"):
        train_cdi_model_torch(scan, None, small, execution_config=replace(execution, logger_backend="mlflow"))


def test_mlflow_gets_the_losses(scan, small, execution, tmp_path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: pip install 'ptychopinn[tracking]'")
    config = replace(small, output_dir=tmp_path)
    asked = replace(execution, logger_backend="mlflow", enable_checkpointing=False)
    losses = train_cdi_model_torch(scan, None, config, execution_config=asked)["history"]["train_loss"]
    database = tmp_path / "logs" / "mlflow.db"
    client = mlflow.tracking.MlflowClient(f"sqlite:///{database}" if database.exists() else f"file:{database.parent}")
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    found = client.get_metric_history(run.info.run_id, "train_loss")
    assert [metric.value for metric in found] == pytest.approx(losses, rel=1e-6)


def test_csv_holds_the_losses(scan, small, execution, tmp_path) -> None:
    config = replace(small, nepochs=2, output_dir=tmp_path)
    asked = replace(execution, logger_backend="csv", enable_checkpointing=False)
    losses = train_cdi_model_torch(scan, None, config, execution_config=asked)["history"]["train_loss"]
    rows = np.genfromtxt(tmp_path / "logs" / "version_0" / "metrics.csv", delimiter=",", names=True)
    np.testing.assert_allclose(rows["train_loss"], losses, rtol=1e-6)
