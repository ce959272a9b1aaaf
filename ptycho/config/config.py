"""The configuration that both backends share, and its checks.

The dataclasses are mutable, and making one checks nothing across fields: a caller may fill in step by step.
`validate_*_config` check a finished configuration at the entry points; files are left to those who open them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from ptycho.config.deprecation import warn_deprecated
from ptycho.config.files import config_from_dict, load_config_file, load_yaml_config
from ptycho.config.legacy import KEY_MAPPINGS, dataclass_to_legacy_dict, update_legacy_dict
from ptycho.config.losses import DETECTOR_LOSSES
from ptycho.config.options import (
    NEUTRAL,
    NEUTRAL_GROUPS,
    NEUTRAL_OBJECTIVE,
    NEUTRAL_PATCH_STATS,
    NEUTRAL_SCALES,
    NEUTRAL_STAGES,
    NEUTRAL_STITCHING,
    GroupOptions,
    NetworkOptions,
    ObjectiveOptions,
    PatchStatsOptions,
    ScaleOptions,
    StageOptions,
    StitchOptions,
    changed_options,
)
from ptycho.config.schema import Doc, check_settings, strings_to_paths
from ptycho.errors import ConfigError
from ptycho.networks.registry import BUILT_IN, PATTERN_SIZES, added_names, network_entry

__all__ = [
    "INFERENCE_BATCH",
    "KEY_MAPPINGS",
    "PROCESSES",
    "InferenceConfig",
    "ModelConfig",
    "PyTorchExecutionConfig",
    "TrainingConfig",
    "config_from_dict",
    "dataclass_to_legacy_dict",
    "load_config_file",
    "load_yaml_config",
    "update_legacy_dict",
    "validate_execution_config",
    "validate_inference_config",
    "validate_model_config",
    "validate_training_config",
]

_LOSS_WEIGHTS = ("mae_weight", "nll_weight", "realspace_mae_weight", "realspace_weight")

INFERENCE_BATCH = 64
"""Groups of one batch of an inference, unless `inference_batch_size` says another number."""
DEFAULT_NETWORK = next(iter(BUILT_IN))

_OF_NETWORKS = ", ".join(f"{entry.recipe.schedule} for {name}" for name, entry in BUILT_IN.items())
_RATES = ", ".join(f"{entry.recipe.learning_rate:g} for {name}" for name, entry in BUILT_IN.items())
_CLIPS = ", ".join(
    f"{'none' if entry.recipe.clip is None else format(entry.recipe.clip, 'g')} for {name}"
    for name, entry in BUILT_IN.items()
)
_SCHEDULES = Doc(f"schedule of the learning rate (Default: {_OF_NETWORKS})")

_LOSS_MODES = f"{DETECTOR_LOSSES[0].mode}: the losses by their weights; " + "; ".join(
    f"{loss.mode}: {loss.summary} alone, by its weight or else 1" for loss in DETECTOR_LOSSES[1:]
)

# Fields that more than one configuration has.
Architecture = Annotated[
    str,
    Doc(
        "network: " + " or ".join(f"{entry.name} ({entry.summary})" for entry in BUILT_IN.values()),
        choices=tuple(BUILT_IN),
        added=added_names,
        basic=True,
    ),
]
OldGroups = Annotated[int | None, Doc("deprecated name of n_groups", at_least=1)]
Subsample = Annotated[int | None, Doc("scan points to draw before grouping (none: all)", at_least=1)]
Seed = Annotated[int | None, Doc("seed of every random draw (none: 0)", at_least=0, basic=True)]
NeighborCount = Annotated[int, Doc("K: a group is drawn from the K nearest neighbours of its seed point", at_least=1)]
Oversampling = Annotated[bool, Doc("allow more groups than scan points")]
PoolSize = Annotated[int | None, Doc("neighbours to draw from, in place of neighbor_count", at_least=1)]
OutputDir = Annotated[Path, Doc("folder for everything the run writes", basic=True)]
Backend = Annotated[Literal["tensorflow", "pytorch"], Doc("framework that runs the network", basic=True)]
ClipValue = Annotated[
    float | None, Doc(f"limit of the gradient (none: that of the network's recipe, {_CLIPS})", above=0)
]
ClipAlgorithm = Annotated[
    Literal["norm", "value", "agc"],
    Doc("what gradient_clip_val limits: the norm, each value, or the ratio to the weights (agc)"),
]
LearningRate = Annotated[
    float | None,
    Doc(f"learning rate (none: that of the network's recipe, {_RATES})", above=0, basic=True),
]
ExperimentNumber = Annotated[
    int | None,
    Doc(
        "of a network that several experiments trained, the one whose probe to use, from 0 (none: that most like the "
        "scan's)",
        at_least=0,
    ),
]
UseXla = Annotated[bool, Doc("compile the TensorFlow graph with XLA (jit_compile)")]


@dataclass
class ModelConfig:
    """The network and its physics."""

    N: Annotated[int, Doc("side of a diffraction pattern, a patch and the probe, in pixels", choices=PATTERN_SIZES)] = (
        64
    )
    gridsize: Annotated[int, Doc("a group is gridsize x gridsize neighbouring scan points", at_least=1, basic=True)] = 1
    n_filters_scale: Annotated[int, Doc("multiplies the number of filters of every layer", at_least=1)] = 2
    model_type: Annotated[
        Literal["pinn", "supervised"],
        Doc("pinn: learn from the diffraction data alone; supervised: from known objects"),
    ] = "pinn"
    architecture: Architecture = DEFAULT_NETWORK
    amp_activation: Annotated[
        Literal["sigmoid", "swish", "softplus", "relu"], Doc("activation of the amplitude head")
    ] = "sigmoid"
    object_big: Annotated[
        bool,
        Doc("put the members of a group on one canvas before diffraction (off: each member stands alone)"),
    ] = True
    probe_big: Annotated[bool, Doc("add the branch that fills the outer border of a patch")] = True
    probe_mask: Annotated[bool, Doc("limit the probe to a disk of diameter N/2 with a soft edge")] = False
    pad_object: Annotated[bool, Doc("let the main decoder fill the central N/2 x N/2 of a patch (off: all of it)")] = (
        True
    )
    probe_scale: Annotated[float, Doc("scales the range of the amplitude head, relative to 4", above=0)] = 4.0
    gaussian_smoothing_sigma: Annotated[
        float, Doc("complex Gaussian smoothing of the exit wave, sigma in pixels (0: none)", at_least=0)
    ] = 0.0


@dataclass
class TrainingConfig:
    """A training run: data, groups, losses, optimiser, output."""

    model: ModelConfig = field(default_factory=ModelConfig)
    train_data_file: Annotated[Path | None, Doc("scan to train on (NPZ)", basic=True)] = None
    test_data_file: Annotated[Path | None, Doc("scan to validate and to stitch with (NPZ)", basic=True)] = None
    training_directories: Annotated[
        tuple[Path, ...],
        Doc("folders of further experiments, each with a probe of its own, that train the same network, with commas"),
    ] = ()
    batch_size: Annotated[int, Doc("groups per step", at_least=1, basic=True)] = 16
    nepochs: Annotated[int, Doc("passes over the groups", at_least=1, basic=True)] = 50
    mae_weight: Annotated[float, Doc("weight of the mean absolute error of the amplitudes", at_least=0)] = 0.0
    nll_weight: Annotated[float, Doc("weight of the Poisson negative log likelihood", at_least=0)] = 1.0
    realspace_mae_weight: Annotated[
        float, Doc("weight of the mean absolute error of the patches against Y of the scan", at_least=0)
    ] = 0.0
    realspace_weight: Annotated[float, Doc("weight of the total variation of the patches", at_least=0)] = 0.0
    nphotons: Annotated[float, Doc("mean photons per pattern, where the data do not say", above=0, basic=True)] = 1e9
    n_groups: Annotated[
        int | None,
        Doc("groups to train on (none: 512, or the number of positions where that is smaller)", at_least=1, basic=True),
    ] = None
    n_images: OldGroups = None
    n_subsample: Subsample = None
    subsample_seed: Seed = None
    neighbor_count: NeighborCount = 4
    enable_oversampling: Oversampling = False
    neighbor_pool_size: PoolSize = None
    held_out_neighbors: Annotated[
        int | None,
        Doc(
            "neighbours in the loss of a group that the network is not shown, drawn afresh (none: the network's own)",
            at_least=0,
        ),
    ] = None
    positions_provided: Annotated[bool, Doc("use the scan positions of the file")] = True
    probe_trainable: Annotated[bool, Doc("learn the probe", basic=True)] = False
    intensity_scale_trainable: Annotated[bool, Doc("learn the intensity scale")] = True
    output_dir: OutputDir = Path("training_outputs")
    sequential_sampling: Annotated[bool, Doc("take the first scan points in their order instead of a random draw")] = (
        False
    )
    backend: Backend = "tensorflow"
    torch_loss_mode: Annotated[str, Doc(_LOSS_MODES, choices=tuple(loss.mode for loss in DETECTOR_LOSSES))] = (
        DETECTOR_LOSSES[0].mode
    )
    gradient_clip_val: ClipValue = None
    gradient_clip_algorithm: ClipAlgorithm = "norm"
    optimizer: Annotated[Literal["adam", "adamw", "sgd"], Doc("optimiser")] = "adam"
    momentum: Annotated[float, Doc("momentum of sgd", at_least=0, below=1)] = 0.9
    weight_decay: Annotated[float, Doc("weight decay", at_least=0)] = 0.0
    adam_beta1: Annotated[float, Doc("decay of the first moment of adam and adamw", at_least=0, below=1)] = 0.9
    adam_beta2: Annotated[float, Doc("decay of the second moment of adam and adamw", at_least=0, below=1)] = 0.999
    scheduler: Annotated[
        Literal["Default", "Exponential", "WarmupCosine", "ReduceLROnPlateau"],
        _SCHEDULES,
    ] = "Default"
    lr_warmup_epochs: Annotated[int, Doc("epochs of rising learning rate of WarmupCosine", at_least=0)] = 0
    lr_min_ratio: Annotated[
        float, Doc("last learning rate of WarmupCosine, relative to the first", at_least=0, at_most=1)
    ] = 0.1
    use_xla: UseXla = False
    groups: GroupOptions = NEUTRAL_GROUPS
    scales: ScaleOptions = NEUTRAL_SCALES
    network: NetworkOptions = NEUTRAL
    objective: ObjectiveOptions = NEUTRAL_OBJECTIVE
    stages: StageOptions = NEUTRAL_STAGES
    stitching: StitchOptions = NEUTRAL_STITCHING
    patch_stats: PatchStatsOptions = NEUTRAL_PATCH_STATS

    def __post_init__(self) -> None:
        strings_to_paths(self)
        _adopt_n_images(self)


@dataclass
class InferenceConfig:
    """A reconstruction with a trained model; the model's own settings come with its archive."""

    model: ModelConfig = field(default_factory=ModelConfig)
    model_path: Annotated[
        Path | None,
        Doc(
            "trained model: folder with wts.h5.zip, or the archive (none: universal, the package's own, for any scan)",
            basic=True,
        ),
    ] = None
    test_data_file: Annotated[Path | None, Doc("scan to reconstruct (NPZ)", basic=True)] = None
    n_groups: Annotated[int | None, Doc("groups to reconstruct from (none: all)", at_least=1, basic=True)] = None
    n_images: OldGroups = None
    n_subsample: Subsample = None
    subsample_seed: Seed = None
    neighbor_count: NeighborCount = 4
    enable_oversampling: Oversampling = False
    neighbor_pool_size: PoolSize = None
    experiment_number: ExperimentNumber = None
    fit_scale: Annotated[
        bool,
        Doc("scale the network's object so that it explains the measured intensities best (least squares)"),
    ] = False
    debug: Annotated[bool, Doc("log every step, and show the traceback of an error")] = False
    output_dir: OutputDir = Path("inference_outputs")
    backend: Backend = "tensorflow"
    use_xla: UseXla = False
    stitching: StitchOptions = NEUTRAL_STITCHING
    patch_stats: PatchStatsOptions = NEUTRAL_PATCH_STATS

    def __post_init__(self) -> None:
        strings_to_paths(self)
        _adopt_n_images(self)


@dataclass
class PyTorchExecutionConfig:
    """How PyTorch runs: hardware, precision, loaders, checkpoints, loggers. Never written to `params.cfg`.

    TensorFlow takes the processes that share the work (`devices`, `nodes`, `process_timeout`), and refuses the rest.

    Raises:
        ConfigError: on construction, naming the field, its value and what is allowed.
    """

    accelerator: Annotated[
        Literal["auto", "cpu", "gpu", "cuda", "tpu", "mps"],
        Doc("hardware (auto: CUDA where there is one, else the CPU)", basic=True),
    ] = "auto"
    device_memory: Annotated[
        float | None,
        Doc("GiB for the patterns of an iteration (none: of a GPU 3/4 of what is free, else 2)", above=0),
    ] = None
    devices: Annotated[
        int, Doc("processes that share the work on this machine, each with a GPU of its own, or none", at_least=1)
    ] = 1
    nodes: Annotated[
        int, Doc("machines, with so many devices each, on which srun or torchrun has started the command", at_least=1)
    ] = 1
    process_timeout: Annotated[
        float, Doc("seconds after which a process that does not answer the others ends all of them", above=0)
    ] = 1800.0
    strategy: Annotated[
        Literal["auto", "ddp", "ddp_spawn"],
        Doc("how devices share a training (all the same: each has a part of every batch, gradients are summed)"),
    ] = "auto"
    deterministic: Annotated[
        bool | Literal["warn"],
        Doc("the same run gives the same numbers (warn: allow an operation that cannot, with a warning)"),
    ] = True
    precision: Annotated[Literal["32-true", "16-mixed", "bf16-mixed"], Doc("arithmetic of the network")] = "32-true"
    gradient_clip_val: Annotated[
        float | None, Doc("limit of the gradient (none: as the training configuration says)", above=0)
    ] = None
    gradient_clip_algorithm: Annotated[
        Literal["norm", "value", "agc"] | None,
        Doc("what gradient_clip_val limits (none: as the training configuration says)"),
    ] = None
    accum_steps: Annotated[int, Doc("batches per optimiser step", at_least=1, flag="accumulate-grad-batches")] = 1
    num_workers: Annotated[int, Doc("loader processes (0: load in the main process)", at_least=0)] = 0
    pin_memory: Annotated[bool, Doc("load batches into page-locked memory")] = False
    persistent_workers: Annotated[bool, Doc("keep the loader processes between epochs")] = False
    prefetch_factor: Annotated[int | None, Doc("batches that each loader process holds ready", at_least=1)] = None
    learning_rate: LearningRate = None
    scheduler: Annotated[
        Literal["Default", "Exponential", "MultiStage", "Adaptive", "WarmupCosine", "Cosine", "ReduceLROnPlateau"]
        | None,
        Doc("schedule of the learning rate (none: as the training configuration says)"),
    ] = None
    enable_progress_bar: Annotated[bool, Doc("show the progress bar")] = True
    enable_checkpointing: Annotated[bool, Doc("write checkpoints while training")] = True
    checkpoint_save_top_k: Annotated[int, Doc("checkpoints to keep (-1: all, 0: none)", at_least=-1)] = 1
    checkpoint_monitor_metric: Annotated[
        str,
        Doc("metric that ranks checkpoints (without a test scan: training loss)", flag="checkpoint-monitor"),
    ] = "val_loss"
    checkpoint_mode: Annotated[Literal["min", "max"], Doc("whether a smaller or a larger metric is better")] = "min"
    early_stop_patience: Annotated[int, Doc("epochs without progress before training stops", at_least=1)] = 100
    logger_backend: Annotated[
        Literal["csv", "tensorboard", "mlflow"] | None, Doc("where the metrics of an epoch go", flag="logger")
    ] = "csv"
    recon_log_every_n_epochs: Annotated[int | None, Doc("log sample patches every so many epochs", at_least=1)] = None
    recon_log_num_patches: Annotated[int, Doc("sample patches to log", at_least=1)] = 4
    recon_log_fixed_indices: Annotated[
        tuple[int, ...] | None, Doc("groups to log, instead of a draw, separated by commas", at_least=0)
    ] = None
    recon_log_stitch: Annotated[bool, Doc("log the stitched object too")] = False
    recon_log_max_stitch_samples: Annotated[int | None, Doc("groups in the logged object (none: all)", at_least=1)] = (
        None
    )
    inference_batch_size: Annotated[
        int | None, Doc(f"groups per step of inference (none: {INFERENCE_BATCH})", at_least=1)
    ] = None

    def __post_init__(self) -> None:
        check_settings(self)


def _adopt_n_images(config: TrainingConfig | InferenceConfig) -> None:
    """Move the deprecated n_images to n_groups; the caller of the dataclass gets the warning."""
    if config.n_images is None:
        return
    if config.n_groups is None:
        config.n_groups = config.n_images
        instead = f"use n_groups={config.n_images}"
    else:
        instead = f"n_images={config.n_images} gives way to n_groups={config.n_groups}"
    config.n_images = None
    warn_deprecated("n_images", instead, stacklevel=4)


def validate_model_config(config: ModelConfig) -> None:
    """Check the settings of a model, each by itself.

    Raises:
        ConfigError: naming the field, its value and what is allowed.
    """
    check_settings(config)


def validate_training_config(config: TrainingConfig, stitching: bool = False) -> None:
    """Check the settings of a training run, each by itself and together; files are not looked for.

    `stitching` says whether the scan is reconstructed after the training.

    Raises:
        ConfigError: naming the fields, their values and what to change.
    """
    check_settings(config)
    _check_groups(config)
    _check_backend(config)
    _check_sections(config)
    _check_positions(config)
    if stitching and not config.positions_provided:
        raise ConfigError("positions_provided=False: stitching needs the scan positions; train without do_stitching")
    weights = {name: getattr(config, name) for name in _LOSS_WEIGHTS}
    supervised = config.model.model_type == "supervised"
    if config.torch_loss_mode == DETECTOR_LOSSES[0].mode and not supervised and not any(weights.values()):
        raise ConfigError(f"{', '.join(weights)} are all 0: nothing to train on, raise at least one")
    if config.scheduler == "WarmupCosine" and config.lr_warmup_epochs >= config.nepochs:
        raise ConfigError(
            f"lr_warmup_epochs={config.lr_warmup_epochs} leaves no epoch of nepochs={config.nepochs}: "
            "lower lr_warmup_epochs or raise nepochs"
        )


PROCESSES = ("devices", "nodes", "process_timeout")
"""Fields of PyTorchExecutionConfig that TensorFlow takes, too."""
PYTORCH_ALONE = ("stages",)
"""Sections that the TensorFlow backend cannot do."""


def _check_sections(config: TrainingConfig) -> None:
    """Refuse by name what the backend cannot do."""
    for name in PYTORCH_ALONE if config.backend == "tensorflow" else ():
        asked = changed_options(getattr(config, name))
        if asked:
            raise ConfigError(
                f"{name}: {', '.join(asked)} works with backend=pytorch only, found backend=tensorflow: leave it out, "
                "or train with pytorch"
            )


def _check_positions(config: TrainingConfig) -> None:
    """Without positions a pattern stands alone: nothing says which ones are neighbours."""
    model = config.model
    neighbours = model.gridsize > 1 or (network_entry(model.architecture).canvas and model.object_big)
    if neighbours and not config.positions_provided:
        raise ConfigError(
            f"positions_provided=False leaves no neighbours to group, found gridsize={model.gridsize}, "
            f"architecture={model.architecture!r}: use gridsize=1 with architecture={DEFAULT_NETWORK!r}, or the "
            "positions"
        )


def validate_inference_config(config: InferenceConfig) -> None:
    """Check the settings of a reconstruction, each by itself and together; files are not looked for.

    Raises:
        ConfigError: naming the fields, their values and what to change.
    """
    check_settings(config)
    _check_groups(config)
    _check_backend(config)


def validate_execution_config(config: PyTorchExecutionConfig) -> None:
    """Check the PyTorch settings, each by itself and together.

    Raises:
        ConfigError: naming the fields, their values and what to change.
    """
    check_settings(config)
    for name in ("persistent_workers", "prefetch_factor"):
        if getattr(config, name) and config.num_workers == 0:
            raise ConfigError(f"{name}={getattr(config, name)} needs num_workers above 0, found num_workers=0")


def _check_groups(config: TrainingConfig | InferenceConfig) -> None:
    gridsize, pool = config.model.gridsize, config.neighbor_pool_size
    members = gridsize**2
    if config.n_images is not None:
        raise ConfigError(f"n_images={config.n_images} was set after construction: set n_groups")
    name = "neighbor_count" if pool is None else "neighbor_pool_size"
    if members > 1 and getattr(config, name) < members:
        raise ConfigError(
            f"{name}={getattr(config, name)} is too few for gridsize={gridsize} ({members} members a group): "
            f"raise {name} to {members} or more"
        )


def _check_backend(config: TrainingConfig | InferenceConfig) -> None:
    if config.use_xla and config.backend != "tensorflow":
        raise ConfigError(f"use_xla=True works with backend=tensorflow only, found backend={config.backend}")
