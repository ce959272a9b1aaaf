"""Every call that ptychodus makes, in its order and with its keywords, by the versions 1.7.0, 1.5.1 and 1.4.2.

specs/ptychodus_api_spec.md lists the calls. ptychodus itself is not needed: scripts/benchmarks/ptychodus_roundtrip.py
runs the program.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ptycho import params
from ptycho.config.config import InferenceConfig, ModelConfig, TrainingConfig, update_legacy_dict
from ptycho.raw_data import RawData
from ptycho_torch import config_params
from ptycho_torch.config_bridge import to_execution_config, to_inference_config, to_model_config, to_training_config

ROOT = Path(__file__).parents[2]
N, POINTS, MARGIN, OFF = 64, 16, 4, 7
"""OFF: pixels from the mean position to the middle of the object."""

IN_THE_CHILD = """
import json, pickle, sys
configs = pickle.load(sys.stdin.buffer)
print(json.dumps([repr(configs), sorted({name.partition(".")[0] for name in sys.modules})]))
"""

TORCH_DATA = {
    **{"N": 128, "C": 4, "normalize": "Batch", "neighbor_function": "Nearest", "scan_pattern": "Isotropic"},
    **{"probe_normalize": True, "x_bounds": (0.1, 0.9), "y_bounds": (0.1, 0.9), "min_neighbor_distance": 0.0},
    **{"max_neighbor_distance": 3.0, "K_quadrant": 30, "n_subsample": 7, "probe_scale": 4.0, "K": 6},
    **{"grid_size": (2, 2), "probe_ramp_removal": False, "data_scaling": "Parseval", "phase_subtraction": True},
}
TORCH_MODEL = {
    **{"mode": "Unsupervised", "object_big": True, "probe_big": True, "loss_function": "Poisson"},
    **{"amp_activation": "silu", "cbam_encoder": True, "decoder_last_amp_channels": 4, "use_shared_decoder": False},
    **{"intensity_scale_trainable": False, "intensity_scale": 10000.0, "max_position_jitter": 10, "num_datasets": 1},
    **{"C_model": 4, "C_forward": 4, "amp_loss": None, "phase_loss": None, "amp_loss_coeff": 1.0},
    **{"phase_loss_coeff": 1.0, "n_filters_scale": 2, "probe_mask": None, "eca_decoder": False, "batch_norm": False},
    **{"edge_pad": 10, "decoder_last_c_outer_fraction": 0.125, "cbam_bottleneck": False, "cbam_decoder": False},
    **{"spatial_decoder": False, "decoder_spatial_kernel": 7, "eca_encoder": False, "offset": 6},
    **{"probe_reference_coeff": 0.0, "amplitude_variance_loss": False, "amplitude_variance_coeff": 0.01},
}
TORCH_TRAINING = {
    **{"epochs": 50, "batch_size": 16, "learning_rate": 1e-3, "n_devices": 1, "num_workers": 4, "accum_steps": 1},
    **{"epochs_fine_tune": 0, "fine_tune_gamma": 0.1, "gradient_clip_val": None, "nll": True, "device": "cuda"},
    **{"strategy": "ddp_spawn", "framework": "Lightning", "orchestrator": "Lightning", "scheduler": "Default"},
    **{"warmup_epochs": 0, "min_lr_ratio": 0.1, "notes": "", "model_name": "PtychoPINNv2"},
    **{"enable_staged_finetuning": False, "finetune_stage1_epochs": 7, "finetune_stage2_epochs": 7},
    **{"finetune_stage3_epochs": 5, "finetune_stage1_lr_decoder": 0.1, "finetune_stage2_lr_encoder_top": 0.01},
    **{"finetune_stage2_lr_decoder": 0.05, "finetune_stage2_lr_phase_head": 0.1, "finetune_skip_stage3": True},
    **{"finetune_stage3_lr_encoder_bottom": 0.005, "finetune_stage3_lr_encoder_top": 0.01},
    **{"finetune_stage3_lr_decoder": 0.02, "finetune_stage3_lr_phase_head": 0.05, "finetune_early_stop_patience": 3},
    **{"finetune_val_split": 0.05},
}
TORCH_INFERENCE = {
    **{"batch_size": 1000, "middle_trim": 32, "experiment_number": 0, "patch_weighting": "probe", "pad_eval": True},
    **{"window": 20},
}
"""What the program sends when nobody has touched its settings."""


class Folder(NamedTuple):
    """A training folder as the program exports it, and what it was made of."""

    path: Path
    patterns: np.ndarray
    probe: np.ndarray
    x: np.ndarray
    y: np.ndarray
    object: np.ndarray

    @property
    def middle(self) -> tuple[float, float]:
        """(y, x) between the outermost positions."""
        return (self.y.min() + self.y.max()) / 2, (self.x.min() + self.x.max()) / 2


@pytest.fixture(scope="module")
def folder(fixture_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """16 patterns of raw counts, two modes, an object whose middle is 7 px off the mean position."""
    scan = RawData.from_file(fixture_file)
    counts = np.round(np.asarray(scan.diff3d, np.float64) ** 2).astype(np.uint32)
    chosen = np.argsort((scan.xcoords - scan.xcoords.mean()) ** 2 + (scan.ycoords - scan.ycoords.mean()) ** 2)[:POINTS]
    x, y = (c[chosen] - c[chosen].min() + N / 2 + MARGIN for c in (scan.xcoords, scan.ycoords))
    probe = np.asarray(scan.probeGuess).reshape(-1, N, N)[:1]
    probe = np.concatenate([0.95 * probe, 0.3 * np.roll(probe, 3, axis=-1)])
    shape = tuple(int(2 * (round(coords.mean()) + OFF)) for coords in (y, x))
    path = tmp_path_factory.mktemp("ptychodus")
    made = Folder(path, counts[chosen], probe, x, y, np.ones(shape, complex))
    for name, part in (("train_data.npz", slice(None)), ("test_data.npz", slice(0, 8))):
        np.savez(
            path / name,
            xcoords=x[part],
            ycoords=y[part],
            xcoords_start=x[part],
            ycoords_start=y[part],
            diff3d=made.patterns[part],
            bad_pixels=np.zeros((N, N), bool),
            probeGuess=probe,
            objectGuess=made.object,
            scan_index=np.zeros(len(x[part]), int),
        )
    return made


@pytest.fixture(scope="module", autouse=True)
def _own_params() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(params, "cfg", dict(params.cfg))
        yield


def in_a_child(*configs: Any) -> list[str]:
    """Pickle configurations into a fresh process, as a client does, and return the packages loaded there."""
    line = [sys.executable, "-c", IN_THE_CHILD]
    done = subprocess.run(line, input=pickle.dumps(configs), capture_output=True, check=True, cwd=ROOT)
    shown, loaded = json.loads(done.stdout)
    assert shown == repr(configs)
    return loaded


def seen_box(image: np.ndarray) -> tuple[float, float]:
    """(y, x) of the middle of the box of what was seen of an object; the rest is 1."""
    seen = image != 1
    return tuple(
        (np.flatnonzero(seen.any(axis)).min() + np.flatnonzero(seen.any(axis)).max() + 1) / 2 for axis in (1, 0)
    )


def assert_lies_on(image: np.ndarray, folder: Folder) -> None:
    assert isinstance(image, np.ndarray)
    assert np.iscomplexobj(image)
    assert image.shape == folder.object.shape
    np.testing.assert_allclose(seen_box(image), folder.middle, atol=1)
    assert np.hypot(*(np.array(folder.middle) - np.array(image.shape) / 2)) > OFF / 2


# the TensorFlow library


def model_config(size: int, gridsize: int = 1) -> ModelConfig:
    return ModelConfig(
        N=size,
        gridsize=gridsize,
        n_filters_scale=1,
        model_type="pinn",
        amp_activation="sigmoid",
        object_big=True,
        probe_big=True,
        probe_mask=False,
        pad_object=True,
        probe_scale=4.0,
        gaussian_smoothing_sigma=0.0,
    )


def training_config(model: ModelConfig) -> TrainingConfig:
    return TrainingConfig(
        model=model,
        train_data_file=Path(),
        test_data_file=None,
        batch_size=8,
        nepochs=1,
        mae_weight=0.0,
        nll_weight=1.0,
        realspace_mae_weight=0.0,
        realspace_weight=0.0,
        nphotons=1e6,
        positions_provided=True,
        probe_trainable=False,
        intensity_scale_trainable=True,
        output_dir=Path(),
    )


def inference_config() -> InferenceConfig:
    return InferenceConfig(
        model=model_config(N), model_path=Path(), test_data_file=Path(), debug=False, output_dir=Path()
    )


def test_the_library_is_found_by_the_names_that_are_looked_for() -> None:
    assert all(find_spec(name) for name in ("ptycho", "ptycho_torch", "lightning"))
    assert 'name = "ptychopinn"' in (ROOT / "pyproject.toml").read_text()


def test_configurations_travel_into_a_child_without_a_framework() -> None:
    loaded = in_a_child(training_config(model_config(0)), inference_config())
    assert not {"tensorflow", "keras", "torch", "lightning"} & set(loaded)


@pytest.fixture(scope="module")
def bundle(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The steps of the training child; the folder that it leaves."""
    import ptycho.model_manager
    from ptycho.workflows.components import run_cdi_example, save_outputs

    out = tmp_path_factory.mktemp("bundle")
    test_raw = RawData.from_file(folder.path / "test_data.npz")
    train_raw = RawData.from_file(folder.path / "train_data.npz")
    config = training_config(model_config(0))
    assert train_raw.diff3d.shape[-1] == train_raw.diff3d.shape[-2]
    config.model.N = train_raw.diff3d.shape[-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        update_legacy_dict(params.cfg, config)
        amplitude, phase, results = run_cdi_example(train_raw, test_raw, config)
        ptycho.model_manager.save(out)
        save_outputs(amplitude, phase, results, str(out))
    return out


def test_training_leaves_the_archive(bundle: Path) -> None:
    assert (bundle / "wts.h5.zip").is_file()


def raw_data(folder: Folder, patterns: np.ndarray, probe: np.ndarray) -> RawData:
    return RawData.from_coords_without_pc(
        xcoords=folder.x,
        ycoords=folder.y,
        diff3d=patterns,
        probeGuess=probe,
        scan_index=np.zeros(len(folder.x), dtype=int),
        objectGuess=folder.object,
    )


def reconstruct(model: Any, raw: RawData, **grouping: Any) -> np.ndarray:
    """From the scan to the object, as every version does it."""
    import ptycho.loader

    dataset = raw.generate_grouped_data(N, K=7, nsamples=POINTS, **grouping)
    container = ptycho.loader.load(lambda: dataset, raw.probeGuess, which=None, create_split=False)
    intensity_scale = params.get("intensity_scale")
    patches = model.predict([container.X * intensity_scale, container.local_offsets])
    # as attributes of the package: nobody imports them
    return np.squeeze(ptycho.tf_helper.reassemble_position(patches, container.global_offsets, M=20))


def test_reconstruction_of_1_7_0(folder: Folder, bundle: Path, tmp_path: Path) -> None:
    """The bundle unpacked, all modes of the probe, patterns that are not contiguous."""
    import ptycho.probe
    from ptycho.workflows.components import load_inference_bundle

    with zipfile.ZipFile(bundle / "wts.h5.zip") as archive:
        archive.extractall(tmp_path)
    update_legacy_dict(params.cfg, inference_config())
    model, _config = load_inference_bundle(tmp_path)
    patterns = np.moveaxis(np.ascontiguousarray(np.moveaxis(folder.patterns, 0, -1)), -1, 0)
    assert not patterns.flags.c_contiguous
    raw = raw_data(folder, patterns, folder.probe)
    ptycho.probe.set_probe_guess(None, raw.probeGuess)
    assert_lies_on(reconstruct(model, raw, gridsize=1), folder)


@pytest.mark.slow
def test_reconstruction_of_1_5_1(folder: Folder, bundle: Path) -> None:
    """The folder of the bundle, one mode, floats with repaired pixels, the grid size from the settings."""
    import ptycho.probe
    from ptycho.workflows.components import load_inference_bundle

    update_legacy_dict(params.cfg, inference_config())
    model, _config = load_inference_bundle(bundle)
    patterns = folder.patterns.astype(np.float32)
    patterns[:, 3, 5] = 0.5
    raw = raw_data(folder, patterns, folder.probe[0])
    ptycho.probe.set_probe_guess(None, raw.probeGuess)
    assert_lies_on(reconstruct(model, raw), folder)


def test_reconstruction_of_1_4_2(folder: Folder, bundle: Path) -> None:
    """In the process of the program: the bundle first, the settings after it."""
    import ptycho.loader
    from ptycho.workflows.components import load_inference_bundle

    model, _config = load_inference_bundle(bundle)
    update_legacy_dict(params.cfg, inference_config())
    raw = raw_data(folder, folder.patterns, folder.probe[0])
    ptycho.probe.set_probe_guess(None, raw.probeGuess)
    assert_lies_on(reconstruct(model, raw), folder)


def test_no_intensity_scale_is_a_key_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "cfg", {})
    with pytest.raises(KeyError):
        params.get("intensity_scale")


# the PyTorch library


def torch_configs(**changes: dict[str, Any]) -> tuple[Any, ...]:
    """Data, model, training, inference and simulation as the program builds them."""
    return (
        config_params.DataConfig(**{**TORCH_DATA, **changes.get("data", {})}),
        config_params.ModelConfig(**{**TORCH_MODEL, **changes.get("model", {})}),
        config_params.TrainingConfig(**{**TORCH_TRAINING, **changes.get("training", {})}),
        config_params.InferenceConfig(**{**TORCH_INFERENCE, **changes.get("inference", {})}),
        config_params.DatagenConfig(),
    )


def test_nothing_that_the_program_sends_by_itself_is_refused() -> None:
    data, model, training, inference, _ = torch_configs()
    shared = to_model_config(data, model)
    files = {"train_data_file": "x", "test_data_file": "y", "n_groups": None, "nphotons": 1e6}
    to_training_config(shared, data, model, training, files)
    to_inference_config(shared, data, inference, {"model_path": "x", "test_data_file": "y", "n_groups": None})
    execution = to_execution_config(training, inference)
    assert (execution.accelerator, execution.strategy, execution.num_workers) == ("auto", "auto", 4)


def test_the_choices_of_the_program_are_fields_that_exist() -> None:
    """1.4.2 copies every field of a loaded model back into its settings."""
    for config, sent in zip(torch_configs(), (TORCH_DATA, TORCH_MODEL, TORCH_TRAINING, TORCH_INFERENCE), strict=False):
        assert {name: getattr(config, name) for name in sent} == sent


def test_torch_configurations_travel_into_a_child() -> None:
    configs = torch_configs()
    in_a_child(*configs)
    configs[2].n_devices = 1


class TorchRun(NamedTuple):
    """What the training child reports."""

    checkpoint: Path
    training_loss: list[float]
    validation_loss: list[float]
    epochs: int


@pytest.fixture(scope="module")
def torch_run(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> TorchRun:
    from lightning.pytorch.callbacks import Callback

    from ptycho_torch.api.base_api import ConfigManager, DataloaderFormats, PtychoDataLoader, PtychoModel, Trainer
    from ptycho_torch.lightning_utils import find_best_checkpoint
    from ptycho_torch.model import PtychoPINN_Lightning

    class Losses(Callback):
        def __init__(self, train_metric_name: str, val_metric_name: str) -> None:
            super().__init__()
            self.names = train_metric_name, val_metric_name
            self.training_loss: list[float] = []
            self.validation_loss: list[float] = []
            self.epochs_completed = 0

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            value = trainer.callback_metrics.get(self.names[0])
            if value is not None:
                self.training_loss.append(float(value))
            self.epochs_completed = trainer.current_epoch + 1

        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.sanity_checking:
                return
            value = trainer.callback_metrics.get(self.names[1])
            if value is not None:
                self.validation_loss.append(float(value))

    data, model, training, inference, datagen = torch_configs(
        data={"N": N, "C": 1, "grid_size": (1, 1)},
        model={"n_filters_scale": 1, "C_model": 1, "C_forward": 1, "decoder_last_amp_channels": 1},
        training={"epochs": 2, "batch_size": 8, "num_workers": 0},
    )
    training.n_devices = 1
    manager = ConfigManager(
        data_config=data,
        model_config=model,
        training_config=training,
        inference_config=inference,
        datagen_config=datagen,
    )
    loader = PtychoDataLoader(
        data_dir=folder.path,
        config_manager=manager,
        data_format=DataloaderFormats("lightning_only_module"),
        output_dir=tmp_path_factory.mktemp("torch"),
    )
    network = PtychoModel._new_model(model=PtychoPINN_Lightning, config_manager=manager)
    trainer = Trainer._from_lightning(
        model=network, dataloader=loader, orchestration="lightning", config_manager=manager
    )
    losses = Losses(network.model.loss_name, network.model.val_loss_name)
    trainer._trainer.callbacks.append(losses)
    trainer.train(orchestration="lightning", experiment_name="")
    path = find_best_checkpoint(Path(loader.output_dir))
    assert path is not None
    return TorchRun(path, losses.training_loss, losses.validation_loss, losses.epochs_completed)


def test_torch_training_leaves_a_checkpoint_and_its_losses(torch_run: TorchRun) -> None:
    assert torch_run.checkpoint.name == "best-checkpoint.ckpt"
    assert torch_run.checkpoint.parents[1].name.startswith("run_")
    assert torch_run.epochs == len(torch_run.training_loss) == len(torch_run.validation_loss) == 2
    assert np.isfinite(torch_run.training_loss + torch_run.validation_loss).all()


@pytest.mark.parametrize(
    ("probe", "dtype"), [("all modes", np.uint32), ("one mode", np.int64), ("all modes", np.float32)]
)
def test_torch_reconstruction(folder: Folder, torch_run: TorchRun, probe: str, dtype: type) -> None:
    from ptycho_torch.api.base_api import ConfigManager, InferenceEngine, PtychoDataLoader, PtychoModel
    from ptycho_torch.model import PtychoPINN_Lightning

    data, model, training, inference = PtychoModel._extract_configs_from_checkpoint(str(torch_run.checkpoint))
    settings = {
        "model_config": model,
        "data_config": data,
        "training_config": training,
        "inference_config": inference,
    }
    assert not any(config is None for config in settings.values())
    network = PtychoModel(**settings)
    network.model = PtychoPINN_Lightning.load_from_checkpoint(torch_run.checkpoint, **settings)
    manager = ConfigManager.from_loaded_model(network)
    manager.validate_arch_compatibility(network)
    assert manager.model_config.mode == "Unsupervised"
    engine = InferenceEngine(config_manager=manager, ptycho_model=network)
    loader = PtychoDataLoader.from_np(
        diff_patterns=folder.patterns.astype(dtype),
        probe=folder.probe if probe == "all modes" else folder.probe[0],
        positions=np.column_stack((folder.y, folder.x)),
        config_manager=manager,
    )
    image = np.asarray(engine.predict_and_stitch(loader))
    assert_lies_on(image, folder)


# the benchmark that runs the program


@pytest.mark.slow
def test_the_round_trip_benchmark_tells_right_from_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "benchmarks"))
    from ptychodus_data import Case, simulate, write_inputs
    from ptychodus_score import score_product

    scan = simulate(Case(positions=64, N=N, step=6.0, photons=1e5, modes=2, bad_pixels=3, seed=0, dtype="uint16"))
    assert scan.object is not None
    write_inputs(tmp_path, scan, known_object=True, half_pixel=True, all_modes=True)
    train = RawData.from_file(tmp_path / "train_data.npz")
    assert (train.units, train.diff3d.dtype, train.probeGuess.shape) == ("counts", np.uint16, (2, N, N))
    assert np.count_nonzero(~train.valid_mask) == 3
    found = score_product(tmp_path / "product.h5", scan)
    assert found.failures(0.999) == []
    wrong = {"flip-y": scan.object[::-1], "as it is conjugated": scan.object.conj(), "flat": np.ones_like(scan.object)}
    for name, image in wrong.items():
        write_inputs(tmp_path, replace(scan, object=image), known_object=True, half_pixel=True, all_modes=True)
        found = score_product(tmp_path / "product.h5", scan)
        assert found.flat if name == "flat" else found.orientation == name
        assert found.failures(0.6)
