"""The mapping table: where every field of the PyTorch dataclasses goes, and which are refused.

Every field of `ptycho_torch.config_params` stands in exactly one of

* `ROUTES`: it becomes a field of a shared dataclass (or of PyTorchExecutionConfig);
* `OPTIONS`: it becomes an option of a section of the shared configuration (`ptycho.config.options`);
* `MEMBERS`: it repeats gridsize^2;
* `COUNTS`: it repeats the number of experiments, and is compared with it where the scans are known;
* `LABELS`: words and numbers of the user, kept in `params.cfg` and so in the archive of the model;
* `REFUSED`: nothing here acts on it, so that it is refused where it asks for anything else than what is done anyway;
* DatagenConfig, which `ptycho_torch.datagen` reads itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ptycho.config.losses import DETECTOR_LOSSES
from ptycho.config.options import PatchStatsOptions, StageOptions, StitchOptions
from ptycho.config.schema import settings_of
from ptycho.errors import ConfigError
from ptycho_torch.config_params import DataConfig, InferenceConfig, ModelConfig, TrainingConfig

__all__ = [
    "COUNTS",
    "LABELS",
    "MEMBERS",
    "OPTIONS",
    "OTHER_NAMES",
    "REFUSED",
    "ROUTES",
    "Option",
    "Refusal",
    "Route",
    "mask_array_of",
    "shared_spelling",
]

_ACTIVATIONS = {"silu": "swish", "SiLU": "swish"} | {name: name for name in ("swish", "sigmoid", "softplus", "relu")}
_MODES = {"Unsupervised": "pinn", "Supervised": "supervised"}
_TITLES = {loss.mode: loss.title for loss in DETECTOR_LOSSES}
"""`loss_function` by `torch_loss_mode`."""
_DEVICES = ("auto", "cpu", "gpu", "cuda", "tpu", "mps")
_LIBRARY_BATCH = InferenceConfig.batch_size


OTHER_NAMES = {"max_epochs": "nepochs"}
"""Further names that overrides take for a field, as the command lines do."""


class Route(NamedTuple):
    """Where a field goes."""

    to: str
    """The name of the shared field."""
    read: Callable[[Any], Any] = lambda value: value
    """From the value here to the shared one."""
    write: Callable[[Any], Any] = lambda value: value
    """Back again."""
    unsaid: bool = False
    """Whether its default says nothing, so that the shared setting stays as it is."""


class Option(NamedTuple):
    """Which option of a section of the shared configuration a field is."""

    section: str
    name: str
    read: Callable[[Any], Any] = lambda value: tuple(value) if isinstance(value, list) else value
    """From the value here to that of the option."""
    write: Callable[[Any], Any] = lambda value: value
    """Back again."""


class Refusal(NamedTuple):
    """Why a field is refused."""

    instead: str
    """What to do."""


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


def shared_spelling(name: str, value: Any) -> Any:
    """A value of a shared field in the shared words, where it was given in those of the PyTorch dataclasses."""
    return _MODES.get(value, value) if name == "model_type" and isinstance(value, str) else value


def _activation(name: str) -> str:
    if name not in _ACTIVATIONS:
        raise ConfigError(f"Unknown activation {name!r}: expected one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def _masked(mask: Any) -> bool:
    return bool(mask) if mask is None or isinstance(mask, bool) else True


def _accelerator(device: str) -> str:
    """`cuda` is the default, and so no claim that there is such a device."""
    name = device.partition(":")[0]
    if name not in _DEVICES:
        raise ConfigError(f"device={device!r}: expected one of {', '.join(_DEVICES)}")
    return "auto" if name == "cuda" else name


def _schedule(name: str) -> str:
    """`MultiStage` is the execution's alone (`to_execution_config`)."""
    return {"Cosine": "WarmupCosine", "Adaptive": "ReduceLROnPlateau", "MultiStage": "Default"}.get(name, name)


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
        "loss_function": Route("torch_loss_mode", str.lower, _TITLES.__getitem__),
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
        "learning_rate": Route(
            "learning_rate", write=lambda rate: TrainingConfig.learning_rate if rate is None else rate, unsaid=True
        ),
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
        "training_directories": Route("training_directories"),
    },
    InferenceConfig: {
        "experiment_number": Route("experiment_number"),
        "batch_size": Route(
            "inference_batch_size",
            lambda size: None if size == _LIBRARY_BATCH else size,
            lambda size: _LIBRARY_BATCH if size is None else size,
        ),
    },
}


def _options(section: Any, *names: str) -> dict[str, Option]:
    """Fields that are options of the same name."""
    return {name: Option(section, name) for name in names}


def mask_array_of(mask: Any) -> Any:
    """A mask as an array; None where it is a switch or nothing."""
    if mask is None or isinstance(mask, bool):
        return None
    import numpy as np

    return np.asarray(mask.detach().cpu() if hasattr(mask, "detach") else mask)


OPTIONS: dict[type, dict[str, Option]] = {
    DataConfig: {
        **_options("groups", "K_quadrant", "neighbor_function", "min_neighbor_distance", "max_neighbor_distance"),
        **_options("groups", "scan_pattern", "x_bounds", "y_bounds"),
        "n_subsample": Option("groups", "groups_per_seed"),
        **_options("scales", "normalize", "probe_ramp_removal", "data_scaling"),
        **_options("objective", "phase_subtraction"),
    },
    ModelConfig: {
        "intensity_scale": Option(
            "scales",
            "intensity_scale",
            lambda value: None if value == ModelConfig.intensity_scale else value,
            lambda value: ModelConfig.intensity_scale if value is None else value,
        ),
        **_options("network", "batch_norm", "edge_pad", "use_shared_decoder", "eca_encoder", "cbam_encoder"),
        **_options("network", "cbam_bottleneck", "cbam_decoder", "eca_decoder", "spatial_decoder"),
        **_options("network", "decoder_spatial_kernel"),
        "decoder_last_c_outer_fraction": Option("network", "outer_fraction"),
        "decoder_last_amp_channels": Option("network", "amplitude_channels"),
        "probe_mask_tensor": Option("network", "mask_array", mask_array_of),
        "probe_mask_sigma": Option("network", "mask_sigma"),
        "probe_mask_diameter": Option("network", "mask_diameter"),
        **_options("objective", "amp_loss", "phase_loss", "amp_loss_coeff", "phase_loss_coeff"),
        **_options("objective", "probe_reference_coeff", "amplitude_variance_loss", "amplitude_variance_coeff"),
    },
    TrainingConfig: _options("stages", *settings_of(StageOptions)),
    InferenceConfig: {
        **_options("stitching", *settings_of(StitchOptions)),
        **_options("patch_stats", *settings_of(PatchStatsOptions)),
    },
}

MEMBERS: dict[type, tuple[str, ...]] = {
    DataConfig: ("C",),
    ModelConfig: ("C_model", "C_forward"),
}

COUNTS: dict[type, tuple[str, ...]] = {ModelConfig: ("num_datasets",)}

LABELS: dict[type, tuple[str, ...]] = {
    ModelConfig: ("offset", "max_position_jitter"),
    TrainingConfig: ("experiment_name", "notes", "model_name"),
}

REFUSED: dict[type, dict[str, Refusal]] = {
    DataConfig: {
        "probe_normalize": Refusal("the scale of the probe is a freedom: the object comes out in the file's unit"),
    },
    ModelConfig: {},
    TrainingConfig: {"framework": Refusal("Lightning is the only one")},
    InferenceConfig: {},
}
