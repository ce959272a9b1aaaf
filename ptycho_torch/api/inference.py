"""Reconstruction and simulation through the interface."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config import config as shared
from ptycho.core.geometry import ObjectFrame
from ptycho.core.reconstruction import Reconstruction
from ptycho.raw_data import RawData
from ptycho.workflows.diagnostics import configured_diagnostics
from ptycho.workflows.result_frame import frame_of
from ptycho_torch.api.config_manager import ConfigManager
from ptycho_torch.api.models import PtychoModel
from ptycho_torch.api.scans import PtychoDataLoader
from ptycho_torch.config_bridge import to_execution_config, to_inference_config
from ptycho_torch.datagen import simulate_multiple_experiments, simulate_synthetic_objects, simulate_synthetic_probes
from ptycho_torch.workflows.components import reconstruct_scan

__all__ = ["Datagen", "InferenceEngine"]

_IN_MEMORY = Path("in memory")


class InferenceEngine:
    """Reconstructs scans with a trained model, every scan point once as the seed of a group."""

    def __init__(self, config_manager: ConfigManager, ptycho_model: PtychoModel) -> None:
        self.config_manager = config_manager
        self.ptycho_model = ptycho_model

    def predict_and_stitch(self, loader: PtychoDataLoader) -> NDArray[np.complex64]:
        """The object, complex64 (H, W), in the frame of `ptycho.workflows.result_frame.frame_of`.

        Times the probe of the scan it predicts the amplitudes of the scan; 1 where no pattern saw the object.

        Raises:
            ConfigError: the model was not trained, or settings that cannot work.
            DataError: a scan that does not fit the model.
        """
        return self.reconstruct(loader).object

    def reconstruct(self, loader: PtychoDataLoader) -> Reconstruction:
        """The object with its coverage, probe, positions, spread and trust; as `predict_and_stitch`."""
        module, manager = self.ptycho_model.module, self.config_manager
        settings = inference_settings(manager, module.model.config)
        frame = frame_of(loader.train, module.interface.get("scan"))
        execution = to_execution_config(manager.training_config, manager.inference_config)
        if settings.patch_stats.log_patch_stats:
            settings.output_dir = loader.output_dir / "inference"
        found = reconstruct_scan(
            module.of_experiment(settings.experiment_number, loader.train.probeGuess),
            in_frame(loader.train, frame),
            settings,
            execution_config=execution,
            diagnostics=configured_diagnostics(settings, execution.inference_batch_size),
        )
        return replace(found, frame=frame)


def inference_settings(manager: ConfigManager, model: shared.ModelConfig) -> shared.InferenceConfig:
    """How to reconstruct a scan that is in memory, with a model that is."""
    files = {"model_path": _IN_MEMORY, "test_data_file": _IN_MEMORY, "n_groups": None}
    settings = to_inference_config(model, manager.data_config, manager.inference_config, files)
    settings.model_path = settings.test_data_file = None
    return settings


def in_frame(data: RawData, frame: ObjectFrame) -> RawData:
    """A scan whose object has the shape of a frame and whose positions count from its first pixel."""
    if data.objectGuess is not None:
        return data
    x, y = frame.local(data.xcoords, data.ycoords)
    nothing = np.broadcast_to(np.complex64(1), frame.shape)
    return RawData(
        x,
        y,
        None,
        None,
        data.diff3d,
        data.probeGuess,
        data.scan_index,
        nothing,
        mask=data.mask,
        metadata=data.metadata,
        units=data.units,
    )


class Datagen:
    """Simulated objects, probes and experiments by a DatagenConfig; a seed gives the same again."""

    def __init__(self, config_manager: ConfigManager) -> None:
        self.config_manager = config_manager

    def objects(self, count: int, seed: int = 0, **settings: Any) -> NDArray[np.complex64]:
        """Objects (count, H, W) of `object_class` and `image_size`; settings as `simulate_synthetic_objects`."""
        config, rng = self.config_manager.datagen_config, np.random.default_rng(seed)
        return simulate_synthetic_objects(config.image_size, count, rng, config.object_class, **settings)

    def probes(self, count: int, seed: int = 0) -> NDArray[np.complex64]:
        """Probes (count, N, N) of zone plates."""
        return simulate_synthetic_probes(self.config_manager.data_config.N, count, np.random.default_rng(seed))

    def experiments(self, output_dir: Path | str, seed: int = 0, **settings: Any) -> list[Path]:
        """Write scan files; settings and errors as `simulate_multiple_experiments`."""
        data = self.config_manager.data_config
        return simulate_multiple_experiments(
            output_dir, self.config_manager.datagen_config, data.nphotons, data.N, seed, **settings
        )
