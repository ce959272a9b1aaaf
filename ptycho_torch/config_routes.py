"""The mapping table: where every field of the PyTorch dataclasses goes, and which are refused.

Every field of `ptycho_torch.config_params` stands in exactly one of

* `ROUTES`: it becomes a field of a shared dataclass (or of PyTorchExecutionConfig);
* `OPTIONS`: it is an option of the PyTorch backend that the shared configuration does not have;
* `MEMBERS`: it repeats gridsize^2;
* `COUNTS`: it repeats the number of experiments, and is compared with it where the scans are known;
* `LABELS`: words and numbers of the user, kept in `params.cfg` and so in the archive of the model;
* `REFUSED`: nothing here acts on it, so that it is refused where it asks for anything else than what is done anyway;
* DatagenConfig, which `ptycho_torch.datagen` reads itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from ptycho.config.losses import DETECTOR_LOSSES
from ptycho.errors import ConfigError
from ptycho_torch.config_params import DataConfig, InferenceConfig, ModelConfig, TrainingConfig

__all__ = [
    "COUNTS",
    "LABELS",
    "MEMBERS",
    "MEMBERS_OF_A_GROUP",
    "OPTIONS",
    "REFUSED",
    "ROUTES",
    "Option",
    "Refusal",
    "Route",
    "mask_array_of",
]

_ACTIVATIONS = {"silu": "swish", "SiLU": "swish"} | {name: name for name in ("swish", "sigmoid", "softplus", "relu")}
_MODES = {"Unsupervised": "pinn", "Supervised": "supervised"}
_TITLES = {loss.mode: loss.title for loss in DETECTOR_LOSSES}
"""`loss_function` by `torch_loss_mode`."""
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


class Option(NamedTuple):
    """Which option a field is."""

    to: Literal["groups", "scales", "network", "objective", "stages", "stitching", "patch_stats"]
    """The field of `ptycho_torch.config_options.TorchOptions`."""
    neutral: Any
    """The value that asks for nothing."""
    read: Callable[[Any], dict[str, Any]]
    """From the value to the fields of the option."""


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


def _named(name: str) -> Callable[[Any], dict[str, Any]]:
    """An option of one name, lists as tuples."""
    return lambda value: {name: tuple(value) if isinstance(value, list) else value}


def _options(to: Any, **neutral: Any) -> dict[str, Option]:
    """Fields that are options of the same name, with their neutral values."""
    return {name: Option(to, value, _named(name)) for name, value in neutral.items()}


def mask_array_of(mask: Any) -> dict[str, Any]:
    """The option that a mask, an array or a tensor, becomes; nothing where it is none."""
    if mask is None or isinstance(mask, bool):
        return {}
    import numpy as np

    return {"mask_array": np.asarray(mask.detach().cpu() if hasattr(mask, "detach") else mask)}


MEMBERS_OF_A_GROUP = "gridsize^2"
"""A neutral value that follows the group."""

OPTIONS: dict[type, dict[str, Option]] = {
    DataConfig: {
        **_options(
            "groups",
            K_quadrant=30,
            neighbor_function="Nearest",
            min_neighbor_distance=0.0,
            max_neighbor_distance=3.0,
            scan_pattern="Isotropic",
            x_bounds=(0.0, 1.0),
            y_bounds=(0.0, 1.0),
        ),
        "n_subsample": Option("groups", 1, _named("groups_per_seed")),
        **_options("scales", normalize="Batch", probe_ramp_removal=False, data_scaling="Parseval"),
        **_options("objective", phase_subtraction=True),
    },
    ModelConfig: {
        "intensity_scale": Option(
            "scales",
            ModelConfig.intensity_scale,
            lambda value: {"intensity_scale": None if value == ModelConfig.intensity_scale else value},
        ),
        **_options(
            "network",
            batch_norm=False,
            edge_pad=0,
            use_shared_decoder=False,
            eca_encoder=False,
            cbam_encoder=False,
            cbam_bottleneck=False,
            cbam_decoder=False,
            eca_decoder=False,
            spatial_decoder=False,
            decoder_spatial_kernel=7,
        ),
        "decoder_last_c_outer_fraction": Option("network", 1.0, _named("outer_fraction")),
        "decoder_last_amp_channels": Option("network", MEMBERS_OF_A_GROUP, _named("amplitude_channels")),
        "probe_mask_tensor": Option("network", None, mask_array_of),
        "probe_mask_sigma": Option("network", 1.0, _named("mask_sigma")),
        "probe_mask_diameter": Option("network", None, _named("mask_diameter")),
        **_options(
            "objective",
            amp_loss=None,
            phase_loss=None,
            amp_loss_coeff=1.0,
            phase_loss_coeff=1.0,
            probe_reference_coeff=0.0,
            amplitude_variance_loss=False,
            amplitude_variance_coeff=0.01,
        ),
    },
    TrainingConfig: _options(
        "stages",
        **{
            name: getattr(TrainingConfig, name)
            for name in (
                "epochs_fine_tune",
                "fine_tune_gamma",
                "stage_1_epochs",
                "stage_2_epochs",
                "stage_3_epochs",
                "physics_weight_schedule",
                "stage_3_lr_factor",
                "enable_staged_finetuning",
                "finetune_stage1_epochs",
                "finetune_stage2_epochs",
                "finetune_stage3_epochs",
                "finetune_stage1_lr_decoder",
                "finetune_stage2_lr_encoder_top",
                "finetune_stage2_lr_decoder",
                "finetune_stage2_lr_phase_head",
                "finetune_stage3_lr_encoder_bottom",
                "finetune_stage3_lr_encoder_top",
                "finetune_stage3_lr_decoder",
                "finetune_stage3_lr_phase_head",
                "finetune_skip_stage3",
                "finetune_early_stop_patience",
                "finetune_val_split",
            )
        },
    ),
    InferenceConfig: {
        **_options("stitching", middle_trim=0, window=0, pad_eval=True, patch_weighting="probe"),
        **_options("patch_stats", log_patch_stats=False, patch_stats_limit=None),
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
