"""The mapping table: where every field of the PyTorch dataclasses goes, and which are refused.

Every field of `ptycho_torch.config_params` stands in exactly one of

* `ROUTES`: it becomes a field of a shared dataclass (or of PyTorchExecutionConfig);
* `MEMBERS`: it repeats gridsize^2;
* `LABELS`: words of the user, kept in `params.cfg` and so in the archive of the model;
* `NOT_YET`: nothing here acts on it, so that it is refused where it asks for anything else than what is done anyway;
* DatagenConfig, which `ptycho_torch.datagen` reads itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from ptycho.errors import ConfigError
from ptycho_torch.config_params import DataConfig, InferenceConfig, ModelConfig, TrainingConfig

__all__ = ["LABELS", "MEMBERS", "NOT_YET", "ROUTES", "NotYet", "Route"]

logger = logging.getLogger(__name__)

_ACTIVATIONS = {"silu": "swish", "SiLU": "swish"} | {name: name for name in ("swish", "sigmoid", "softplus", "relu")}
_MODES = {"Unsupervised": "pinn", "Supervised": "supervised"}
_DEVICES = ("auto", "cpu", "gpu", "cuda", "tpu", "mps")
_LIBRARY_BATCH = InferenceConfig.batch_size


class Route(NamedTuple):
    """Where a field goes."""

    to: str
    """The name of the shared field."""
    read: Callable[[Any], Any] = lambda value: value
    """From the value here to the shared one."""
    write: Callable[[Any], Any] = lambda value: value
    """Back again."""


class NotYet(NamedTuple):
    """Why a field is refused."""

    instead: str
    """What to do."""
    also: tuple[Any, ...] = ()
    """Values, besides the default, that mean what the library does."""


def _gridsize(grid_size: Any) -> int:
    rows, columns = grid_size if len(grid_size) == 2 else (0, 1)
    if rows != columns:
        raise ConfigError(f"Non-square grids are not supported: grid_size={grid_size}, expected two equal numbers")
    return int(rows)


def _model_type(mode: str) -> str:
    if mode not in _MODES:
        raise ConfigError(f"Invalid mode {mode!r}: expected {' or '.join(_MODES)}")
    return _MODES[mode]


def _mode(model_type: str) -> str:
    return next((mode for mode, name in _MODES.items() if name == model_type), model_type)


def _activation(name: str) -> str:
    if name not in _ACTIVATIONS:
        raise ConfigError(f"Unknown activation {name!r}: expected one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def _masked(mask: Any) -> bool:
    if mask is None or isinstance(mask, bool):
        return bool(mask)
    logger.warning("probe_mask: the values of the mask are not used, the probe is limited to a disk of diameter N/2")
    return True


def _accelerator(device: str) -> str:
    """`cuda` is the default, and so no claim that there is such a device."""
    name = device.partition(":")[0]
    if name not in _DEVICES:
        raise ConfigError(f"device={device!r}: expected one of {', '.join(_DEVICES)}")
    return "auto" if name == "cuda" else name


def _schedule(name: str) -> str:
    if name in ("MultiStage", "Adaptive"):
        raise ConfigError(f"scheduler={name!r} is not supported yet: use Default, Exponential or WarmupCosine")
    return "WarmupCosine" if name == "Cosine" else name


ROUTES: dict[type, dict[str, Route]] = {
    DataConfig: {
        "nphotons": Route("nphotons"),
        "N": Route("N"),
        "K": Route("neighbor_count"),
        "subsample_seed": Route("subsample_seed"),
        "grid_size": Route("gridsize", _gridsize, lambda gridsize: (gridsize, gridsize)),
        "probe_scale": Route("probe_scale"),
    },
    ModelConfig: {
        "mode": Route("model_type", _model_type, _mode),
        "architecture": Route("architecture"),
        "intensity_scale_trainable": Route("intensity_scale_trainable"),
        "n_filters_scale": Route("n_filters_scale"),
        "amp_activation": Route("amp_activation", _activation),
        "probe_mask": Route("probe_mask", _masked),
        "object_big": Route("object_big"),
        "probe_big": Route("probe_big"),
        "pad_object": Route("pad_object"),
        "gaussian_smoothing_sigma": Route("gaussian_smoothing_sigma"),
        "loss_function": Route("torch_loss_mode", str.lower, lambda mode: "MAE" if mode == "mae" else "Poisson"),
    },
    TrainingConfig: {
        "nll": Route("nll_weight", lambda nll: 1.0 if nll else 0.0, bool),
        "device": Route("accelerator", _accelerator, lambda name: "cuda" if name in ("auto", "gpu") else name),
        "strategy": Route("strategy"),
        "n_devices": Route("devices"),
        "orchestrator": Route(
            "logger_backend",
            lambda name: "mlflow" if name == "Mlflow" else "csv",
            lambda name: "Mlflow" if name == "mlflow" else "Lightning",
        ),
        "learning_rate": Route("learning_rate"),
        "epochs": Route("nepochs"),
        "batch_size": Route("batch_size"),
        "scheduler": Route("scheduler", _schedule),
        "lr_warmup_epochs": Route("lr_warmup_epochs"),
        "lr_min_ratio": Route("lr_min_ratio"),
        "warmup_epochs": Route("lr_warmup_epochs"),
        "min_lr_ratio": Route("lr_min_ratio"),
        "num_workers": Route("num_workers"),
        "accum_steps": Route("accum_steps"),
        "gradient_clip_val": Route("gradient_clip_val"),
        "gradient_clip_algorithm": Route("gradient_clip_algorithm"),
        "optimizer": Route("optimizer"),
        "momentum": Route("momentum"),
        "weight_decay": Route("weight_decay"),
        "adam_beta1": Route("adam_beta1"),
        "adam_beta2": Route("adam_beta2"),
        "torch_loss_mode": Route("torch_loss_mode"),
        "train_data_file": Route("train_data_file"),
        "test_data_file": Route("test_data_file"),
        "output_dir": Route("output_dir"),
        "n_groups": Route("n_groups"),
    },
    InferenceConfig: {
        "batch_size": Route(
            "inference_batch_size",
            lambda size: None if size == _LIBRARY_BATCH else size,
            lambda size: _LIBRARY_BATCH if size is None else size,
        ),
    },
}

MEMBERS: dict[type, tuple[str, ...]] = {
    DataConfig: ("C",),
    ModelConfig: ("C_model", "C_forward", "decoder_last_amp_channels"),
}

LABELS: dict[type, tuple[str, ...]] = {TrainingConfig: ("experiment_name", "notes", "model_name")}

_ARCHITECTURE = "choose the network with architecture"
_NEAREST = "neighbours are the K nearest ones: give K"
_STAGES = "train in one stage with scheduler and epochs, then refine"
_REGULARISER = "give realspace_weight (total variation of the patches) in overrides"
_CANVAS = "the canvas follows from the scan positions"

NOT_YET: dict[type, dict[str, NotYet]] = {
    DataConfig: {
        "K_quadrant": NotYet(_NEAREST),
        "n_subsample": NotYet("give n_groups, the number of groups, and enable_oversampling in overrides"),
        "neighbor_function": NotYet(_NEAREST),
        "min_neighbor_distance": NotYet(_NEAREST),
        "max_neighbor_distance": NotYet(_NEAREST),
        "scan_pattern": NotYet(_NEAREST),
        "normalize": NotYet("the input has one scale, measured on the training set", ("Batch",)),
        "probe_normalize": NotYet("the probe always has a fixed energy inside the model"),
        "probe_ramp_removal": NotYet("take the ramp out of the probe in the scan file"),
        "data_scaling": NotYet("the scale is measured by the mean energy of the patterns"),
        "phase_subtraction": NotYet("results are compared after the global phase is taken out"),
        "x_bounds": NotYet("every position is used: cut the scan with `ptycho dataset`", ((0.0, 1.0),)),
        "y_bounds": NotYet("every position is used: cut the scan with `ptycho dataset`", ((0.0, 1.0),)),
    },
    ModelConfig: {
        "intensity_scale": NotYet("the first intensity scale is sqrt(nphotons) / (N/2): give nphotons"),
        "max_position_jitter": NotYet(_CANVAS),
        "num_datasets": NotYet("train on one scan, train_data_file"),
        "batch_norm": NotYet(_ARCHITECTURE),
        "probe_mask_tensor": NotYet("give probe_mask=True, a disk of diameter N/2, or mask the probe in the file"),
        "probe_mask_sigma": NotYet("the edge of probe_mask=True is 1 pixel soft"),
        "probe_mask_diameter": NotYet("probe_mask=True is a disk of diameter N/2"),
        "edge_pad": NotYet(_ARCHITECTURE),
        "decoder_last_c_outer_fraction": NotYet(_ARCHITECTURE),
        "use_shared_decoder": NotYet(_ARCHITECTURE),
        "eca_encoder": NotYet(_ARCHITECTURE),
        "cbam_encoder": NotYet(_ARCHITECTURE, (False,)),
        "cbam_bottleneck": NotYet(_ARCHITECTURE),
        "cbam_decoder": NotYet(_ARCHITECTURE),
        "eca_decoder": NotYet(_ARCHITECTURE),
        "spatial_decoder": NotYet(_ARCHITECTURE),
        "decoder_spatial_kernel": NotYet(_ARCHITECTURE),
        "offset": NotYet(_CANVAS),
        "amp_loss": NotYet(_REGULARISER),
        "phase_loss": NotYet(_REGULARISER),
        "amp_loss_coeff": NotYet(_REGULARISER),
        "phase_loss_coeff": NotYet(_REGULARISER),
        "probe_reference_coeff": NotYet("give probe_trainable=False in overrides to keep the probe"),
        "amplitude_variance_loss": NotYet("the amplitude head starts at |O| = 1, where it has a gradient"),
        "amplitude_variance_coeff": NotYet("the amplitude head starts at |O| = 1, where it has a gradient"),
    },
    TrainingConfig: {
        "training_directories": NotYet("train on one scan, train_data_file"),
        "framework": NotYet("Lightning is the only one"),
        "epochs_fine_tune": NotYet(_STAGES),
        "fine_tune_gamma": NotYet(_STAGES),
        "stage_1_epochs": NotYet(_STAGES),
        "stage_2_epochs": NotYet(_STAGES),
        "stage_3_epochs": NotYet(_STAGES),
        "physics_weight_schedule": NotYet(_STAGES),
        "stage_3_lr_factor": NotYet(_STAGES),
        "enable_staged_finetuning": NotYet(_STAGES),
        "finetune_stage1_epochs": NotYet(_STAGES),
        "finetune_stage2_epochs": NotYet(_STAGES),
        "finetune_stage3_epochs": NotYet(_STAGES),
        "finetune_stage1_lr_decoder": NotYet(_STAGES),
        "finetune_stage2_lr_encoder_top": NotYet(_STAGES),
        "finetune_stage2_lr_decoder": NotYet(_STAGES),
        "finetune_stage2_lr_phase_head": NotYet(_STAGES),
        "finetune_stage3_lr_encoder_bottom": NotYet(_STAGES),
        "finetune_stage3_lr_encoder_top": NotYet(_STAGES),
        "finetune_stage3_lr_decoder": NotYet(_STAGES),
        "finetune_stage3_lr_phase_head": NotYet(_STAGES),
        "finetune_skip_stage3": NotYet(_STAGES),
        "finetune_early_stop_patience": NotYet(_STAGES),
        "finetune_val_split": NotYet(_STAGES),
    },
    InferenceConfig: {
        "middle_trim": NotYet("patches are weighted by |P|^2 instead of trimmed"),
        "experiment_number": NotYet("reconstruct one scan, test_data_file"),
        "pad_eval": NotYet("the canvas always holds every patch"),
        "window": NotYet("the coverage that comes with the result says which pixels are seen"),
        "patch_weighting": NotYet("patches are weighted by |P|^2"),
        "log_patch_stats": NotYet("compute them from the patches of predict_scan"),
        "patch_stats_limit": NotYet("compute them from the patches of predict_scan"),
    },
}
