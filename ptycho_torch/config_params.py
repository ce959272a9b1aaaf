"""The configuration of the PyTorch interface: data, model, training, inference, simulated data.

These dataclasses are a second spelling of the shared configuration, kept for programs that speak it. What each field
becomes, or why it is refused, stands in `ptycho_torch.config_bridge`; nothing is checked before that. They are mutable,
they pickle, and importing them loads no framework.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ptycho.config.config import DEFAULT_NETWORK, ExperimentNumber
from ptycho.config.losses import DETECTOR_LOSSES, REGULARISERS
from ptycho.config.schema import Doc
from ptycho.networks.registry import BUILT_IN, PATTERN_SIZES, added_names

__all__ = ["DataConfig", "DatagenConfig", "InferenceConfig", "ModelConfig", "TrainingConfig"]

Bounds = Annotated[
    tuple[float, float], Doc("part of the scan to use, as fractions of its extent", at_least=0, at_most=1)
]
Members = Annotated[int, Doc("patterns of a group: gridsize^2 (left at its default: follows grid_size)", at_least=1)]
AuxiliaryLoss = Annotated[str | None, Doc("regulariser of the patches", choices=tuple(REGULARISERS))]
AuxiliaryWeight = Annotated[float, Doc("weight of that regulariser", at_least=0)]
Epochs = Annotated[int, Doc("epochs of one stage of a staged training", at_least=0)]
RateFactor = Annotated[float, Doc("learning rate of one part in one stage, relative to learning_rate", at_least=0)]
Warmup = Annotated[int, Doc("epochs of rising learning rate of WarmupCosine and Cosine", at_least=0)]
MinRatio = Annotated[float, Doc("last learning rate of a schedule, relative to the first", at_least=0, at_most=1)]
Decay = Annotated[float, Doc("decay of a moment of adam and adamw", at_least=0, below=1)]
Label = Annotated[str, Doc("words of the user, kept with the model")]


@dataclass
class DataConfig:
    """Scans, groups and scaling."""

    nphotons: Annotated[float, Doc("mean photons per pattern, where the data do not say", above=0)] = 1e5
    N: Annotated[int, Doc("side of a diffraction pattern, in pixels", choices=PATTERN_SIZES)] = 64
    C: Members = 4
    K: Annotated[int, Doc("a group is drawn from the K nearest neighbours of its seed point", at_least=1)] = 6
    K_quadrant: Annotated[int, Doc("neighbours to look through for each quadrant", at_least=0)] = 30
    n_subsample: Annotated[int, Doc("groups to draw around each seed point", at_least=1)] = 7
    subsample_seed: Annotated[int | None, Doc("seed of every random draw (none: 0)", at_least=0)] = None
    grid_size: Annotated[tuple[int, int], Doc("a group is so many by so many neighbouring points", at_least=1)] = (2, 2)
    neighbor_function: Annotated[
        Literal["Nearest", "Min_dist", "4_quadrant"], Doc("how the neighbours of a seed point are found")
    ] = "Nearest"
    min_neighbor_distance: Annotated[float, Doc("least distance of neighbours of Min_dist, pixels", at_least=0)] = 0.0
    max_neighbor_distance: Annotated[float, Doc("largest distance of neighbours of Min_dist, pixels", at_least=0)] = 3.0
    scan_pattern: Annotated[Literal["Isotropic", "Rectangular"], Doc("whether the step is the same in x and y")] = (
        "Isotropic"
    )
    normalize: Annotated[Literal["Group", "Batch", "None"], Doc("what the input is normalised over")] = "Group"
    probe_scale: Annotated[float, Doc("scales the range of the amplitude head, relative to 4", above=0)] = 4.0
    probe_normalize: Annotated[bool, Doc("bring the probe to a fixed energy inside the model")] = True
    probe_ramp_removal: Annotated[bool, Doc("take the phase ramp out of the probe")] = False
    data_scaling: Annotated[Literal["Parseval", "Max"], Doc("what the input's scale is measured by")] = "Parseval"
    phase_subtraction: Annotated[bool, Doc("take the mean phase out of known objects (supervised training)")] = True
    x_bounds: Bounds = (0.1, 0.9)
    y_bounds: Bounds = (0.1, 0.9)


@dataclass
class ModelConfig:
    """The network, its physics and its loss."""

    mode: Annotated[str, Doc("Unsupervised: from the diffraction data alone; Supervised: from known objects")] = (
        "Unsupervised"
    )
    architecture: Annotated[
        str, Doc("network, as in the shared configuration", choices=tuple(BUILT_IN), added=added_names)
    ] = DEFAULT_NETWORK
    intensity_scale_trainable: Annotated[bool, Doc("learn the intensity scale")] = False
    intensity_scale: Annotated[float, Doc("first intensity scale", above=0)] = 10000.0
    max_position_jitter: Annotated[int, Doc("room for position errors on the canvas, pixels", at_least=0)] = 10
    num_datasets: Annotated[int, Doc("experiments that train one network (1: as many as there are)", at_least=1)] = 1
    C_model: Members = 4
    n_filters_scale: Annotated[int, Doc("multiplies the number of filters of every layer", at_least=1)] = 2
    amp_activation: Annotated[str, Doc("activation of the amplitude head; silu is swish")] = "silu"
    batch_norm: Annotated[bool, Doc("normalise over the batch between layers")] = False
    probe_mask: Annotated[
        bool | object | None, Doc("limit the probe to a disk of diameter N/2 (an array: the mask itself)")
    ] = None
    probe_mask_tensor: Annotated[object | None, Doc("the mask itself, N x N")] = None
    probe_mask_sigma: Annotated[float, Doc("soft edge of the mask, pixels", at_least=0)] = 1.0
    probe_mask_diameter: Annotated[float | None, Doc("diameter of the mask, pixels (none: N/2)", above=0)] = None
    edge_pad: Annotated[int, Doc("pixels of padding at the edge of the decoder", at_least=0)] = 10
    decoder_last_c_outer_fraction: Annotated[
        float, Doc("part of the last channels for the outer border", at_least=0, at_most=1)
    ] = 0.125
    decoder_last_amp_channels: Annotated[int, Doc("channels of the amplitude head: 1 or gridsize^2", at_least=1)] = 1
    use_shared_decoder: Annotated[bool, Doc("one decoder for amplitude and phase")] = False
    eca_encoder: Annotated[bool, Doc("channel attention in the encoder")] = False
    cbam_encoder: Annotated[bool, Doc("block attention in the encoder")] = True
    cbam_bottleneck: Annotated[bool, Doc("block attention in the bottleneck")] = False
    cbam_decoder: Annotated[bool, Doc("block attention in the decoder")] = False
    eca_decoder: Annotated[bool, Doc("channel attention in the decoder")] = False
    spatial_decoder: Annotated[bool, Doc("spatial attention in the decoder")] = False
    decoder_spatial_kernel: Annotated[int, Doc("kernel of that attention, pixels", at_least=1)] = 7
    object_big: Annotated[bool, Doc("put the members of a group on one canvas before diffraction")] = True
    probe_big: Annotated[bool, Doc("add the branch that fills the outer border of a patch")] = True
    offset: Annotated[int, Doc("nominal step of the scan, pixels", at_least=0)] = 6
    C_forward: Members = 4
    pad_object: Annotated[bool, Doc("let the main decoder fill the central N/2 x N/2 of a patch")] = True
    gaussian_smoothing_sigma: Annotated[
        float, Doc("complex Gaussian smoothing of the exit wave, sigma in pixels", at_least=0)
    ] = 0.0
    loss_function: Annotated[
        str, Doc("loss on the detector", choices=tuple(loss.title for loss in DETECTOR_LOSSES))
    ] = DETECTOR_LOSSES[0].title
    amp_loss: AuxiliaryLoss = None
    phase_loss: AuxiliaryLoss = None
    amp_loss_coeff: AuxiliaryWeight = 1.0
    phase_loss_coeff: AuxiliaryWeight = 1.0
    probe_reference_coeff: Annotated[float, Doc("weight of the distance to the first probe", at_least=0)] = 0.0
    amplitude_variance_loss: Annotated[bool, Doc("keep the amplitude from going flat")] = False
    amplitude_variance_coeff: Annotated[float, Doc("weight of that loss", at_least=0)] = 0.01


@dataclass
class TrainingConfig:
    """A training run: devices, optimiser, schedule, stages, files."""

    training_directories: Annotated[
        tuple[Path, ...],
        Doc("folders of further experiments, each with a probe of its own, that train the same network"),
    ] = ()
    nll: Annotated[bool, Doc("train with the Poisson negative log likelihood")] = True
    device: Annotated[str, Doc("hardware; cuda: where there is one, else the CPU with a warning")] = "cuda"
    strategy: Annotated[
        Literal["auto", "ddp", "ddp_spawn"],
        Doc("how devices share a training (all the same: each has a part of every batch, gradients are summed)"),
    ] = "ddp_spawn"
    n_devices: Annotated[
        int, Doc("processes that share the work on this machine, each with a GPU of its own, or none", at_least=1)
    ] = 1
    framework: Annotated[str, Doc("what runs the training loop")] = "Lightning"
    orchestrator: Annotated[Literal["Mlflow", "Lightning"], Doc("where metrics go: Mlflow, or CSV files")] = "Lightning"
    learning_rate: Annotated[float, Doc("learning rate", above=0)] = 1e-3
    epochs: Annotated[int, Doc("passes over the groups", at_least=1)] = 50
    batch_size: Annotated[int, Doc("groups per step", at_least=1)] = 16
    epochs_fine_tune: Annotated[int, Doc("further epochs at a lower rate", at_least=0)] = 0
    fine_tune_gamma: Annotated[float, Doc("their learning rate, relative to learning_rate", at_least=0)] = 0.1
    scheduler: Annotated[
        Literal["Default", "Exponential", "MultiStage", "Adaptive", "WarmupCosine", "Cosine", "ReduceLROnPlateau"],
        Doc("schedule of the learning rate; Cosine is WarmupCosine"),
    ] = "Default"
    lr_warmup_epochs: Warmup = 0
    lr_min_ratio: MinRatio = 0.1
    warmup_epochs: Warmup = 0
    min_lr_ratio: MinRatio = 0.1
    num_workers: Annotated[int, Doc("loader processes (0: load in the main process)", at_least=0)] = 4
    accum_steps: Annotated[int, Doc("batches per optimiser step", at_least=1)] = 1
    gradient_clip_val: Annotated[float | None, Doc("limit of the gradient (none: the network's own)", above=0)] = None
    gradient_clip_algorithm: Annotated[Literal["norm", "value", "agc"], Doc("what that limits")] = "norm"
    optimizer: Annotated[Literal["adam", "adamw", "sgd"], Doc("optimiser")] = "adam"
    momentum: Annotated[float, Doc("momentum of sgd", at_least=0, below=1)] = 0.9
    weight_decay: Annotated[float, Doc("weight decay", at_least=0)] = 0.0
    adam_beta1: Decay = 0.9
    adam_beta2: Decay = 0.999
    stage_1_epochs: Epochs = 0
    stage_2_epochs: Epochs = 0
    stage_3_epochs: Epochs = 0
    physics_weight_schedule: Annotated[
        Literal["linear", "cosine", "exponential"], Doc("how the physics comes in, in stage 2")
    ] = "linear"
    stage_3_lr_factor: RateFactor = 0.1
    torch_loss_mode: Annotated[
        str,
        Doc("loss on the detector; loss_function is the same", choices=tuple(loss.mode for loss in DETECTOR_LOSSES)),
    ] = DETECTOR_LOSSES[0].mode
    enable_staged_finetuning: Annotated[bool, Doc("fine-tune part by part")] = False
    finetune_stage1_epochs: Epochs = 7
    finetune_stage2_epochs: Epochs = 7
    finetune_stage3_epochs: Epochs = 5
    finetune_stage1_lr_decoder: RateFactor = 0.1
    finetune_stage2_lr_encoder_top: RateFactor = 0.01
    finetune_stage2_lr_decoder: RateFactor = 0.05
    finetune_stage2_lr_phase_head: RateFactor = 0.1
    finetune_stage3_lr_encoder_bottom: RateFactor = 0.005
    finetune_stage3_lr_encoder_top: RateFactor = 0.01
    finetune_stage3_lr_decoder: RateFactor = 0.02
    finetune_stage3_lr_phase_head: RateFactor = 0.05
    finetune_skip_stage3: Annotated[bool, Doc("leave out the third stage")] = True
    finetune_early_stop_patience: Annotated[int, Doc("epochs without progress that end a stage", at_least=1)] = 3
    finetune_val_split: Annotated[float, Doc("part of the groups that validates a stage", at_least=0, at_most=1)] = 0.05
    experiment_name: Label = ""
    notes: Label = ""
    model_name: Label = ""
    train_data_file: Annotated[Path | None, Doc("scan to train on (NPZ)")] = None
    test_data_file: Annotated[Path | None, Doc("scan to validate and to stitch with (NPZ)")] = None
    output_dir: Annotated[Path, Doc("folder for everything the run writes")] = Path("training_outputs")
    n_groups: Annotated[int | None, Doc("groups to train on", at_least=1)] = None


@dataclass
class InferenceConfig:
    """A reconstruction."""

    middle_trim: Annotated[int, Doc("side of the part of a patch that is stitched, pixels", at_least=0)] = 32
    batch_size: Annotated[int, Doc("groups per step (1000: as many as suit the library)", at_least=1)] = 1000
    experiment_number: ExperimentNumber = 0
    pad_eval: Annotated[bool, Doc("make the canvas large enough for every patch")] = True
    window: Annotated[int, Doc("pixels trimmed at the edge of the canvas", at_least=0)] = 20
    patch_weighting: Annotated[Literal["uniform", "probe"], Doc("weights of the pixels of a patch")] = "probe"
    log_patch_stats: Annotated[bool, Doc("write statistics of the patches")] = False
    patch_stats_limit: Annotated[int | None, Doc("batches to write them for (none: all)", at_least=1)] = None


@dataclass
class DatagenConfig:
    """Simulated scans to train on; `ptycho_torch.datagen` reads it."""

    objects_per_probe: Annotated[int, Doc("objects for every probe", at_least=1)] = 4
    diff_per_object: Annotated[int, Doc("patterns of every object", at_least=1)] = 7000
    object_class: Annotated[str, Doc("kind of the objects")] = "dead_leaves"
    image_size: Annotated[tuple[int, int], Doc("height and width of an object, pixels", at_least=1)] = (250, 250)
    probe_paths: Annotated[tuple[Path, ...] | None, Doc("files with probes (none: one zone plate)")] = None
    beamstop_diameter: Annotated[int, Doc("pixels behind the beam stop, across (0: none)", at_least=0)] = 4
