"""Sections of a configuration: groups, scales, network, objective, stages, iteration, stitching, patch statistics.

Each is a frozen dataclass whose defaults ask for nothing special. A section is finished when it is made, so that making
one checks its values, each by itself and together; a ConfigError of one line names what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from ptycho.config.losses import REGULARISERS
from ptycho.config.schema import Doc, check_settings, settings_of
from ptycho.errors import ConfigError, MissingFileError

__all__ = [
    "NEUTRAL",
    "NEUTRAL_GROUPS",
    "NEUTRAL_OBJECTIVE",
    "NEUTRAL_PATCH_STATS",
    "NEUTRAL_SCALES",
    "NEUTRAL_STAGES",
    "NEUTRAL_STITCHING",
    "GroupOptions",
    "IterationOptions",
    "NetworkOptions",
    "ObjectiveOptions",
    "PatchStatsOptions",
    "ScaleOptions",
    "StageOptions",
    "StitchOptions",
    "changed_options",
]

Bounds = Annotated[
    tuple[float, float],
    Doc("part of the scan's extent along one axis that seed points lie in; neighbours may lie outside"),
]
Coefficient = Annotated[float, Doc("weight of that regulariser", at_least=0)]
Epochs = Annotated[int, Doc("epochs of this stage of staged fine-tuning", at_least=0)]
NETWORK = "network"
OBJECT_PRIORS, SUPPORT = ("tv", "l1", "absorbing", "phase", NETWORK), "support="
"""What may be known of an object, by the word that says so; a support goes on with the name of a file."""
USUAL_ITERATIONS = 80
"""Of an iteration whose number is left open, as long as no more is gained."""
RateFactor = Annotated[float, Doc("rate of this part of the network in this stage, of the learning rate", at_least=0)]


@dataclass(frozen=True)
class GroupOptions:
    """Groups: which points are seeds, and which of their neighbours join them."""

    neighbor_function: Annotated[
        Literal["Nearest", "Min_dist", "4_quadrant"],
        Doc("neighbours to draw from: the K nearest, those within a distance, or as many from each quadrant"),
    ] = "Nearest"
    """'Nearest': the K nearest other points. 'Min_dist': the K nearest whose distance d from the seed point is
    `min_neighbor_distance <= d <= max_neighbor_distance`. '4_quadrant': as many from each of the four quadrants around
    the seed point, among its K_quadrant nearest, so that the group surrounds it: of C - 1 neighbours every quadrant
    gives (C - 1) // 4, and as many quadrants as are left over, drawn at random, one more. For C = 4 that is one each
    from three of the four. A quadrant holds the axis at which it begins, so that the four next points of a raster lie
    in one each. Points with too few such neighbours, as at the edge of a scan, are no seeds; they may be members.
    """
    scan_pattern: Annotated[
        Literal["Isotropic", "Rectangular"], Doc("Rectangular: distances count in steps, which differ along x and y")
    ] = "Isotropic"
    """'Rectangular': the step along x is not that along y. A distance is then measured in steps,
    `d^2 = s_x s_y ((dx / s_x)^2 + (dy / s_y)^2)`, s of `axis_step`: in pixels, and as ever where the steps agree."""
    K_quadrant: Annotated[int, Doc("nearest points to look through for the four quadrants together", at_least=1)] = 30
    min_neighbor_distance: Annotated[float, Doc("least distance of Min_dist, pixels")] = 0.0
    max_neighbor_distance: Annotated[float, Doc("largest distance of Min_dist, pixels")] = 3.0
    groups_per_seed: Annotated[
        int, Doc("groups around each seed point where n_groups is not given, and at most", at_least=1)
    ] = 1
    x_bounds: Bounds = (0.0, 1.0)
    y_bounds: Bounds = (0.0, 1.0)

    def __post_init__(self) -> None:
        _tuples(self, "x_bounds", "y_bounds")
        least, most = self.min_neighbor_distance, self.max_neighbor_distance
        _require(_finite(least) and least >= 0, "min_neighbor_distance", least, "pixels, at least 0")
        expected = f"pixels, at least min_neighbor_distance={least:g}"
        _require(_finite(most) and most >= least, "max_neighbor_distance", most, expected)
        check_settings(self)
        for name in ("x_bounds", "y_bounds"):
            bounds = getattr(self, name)
            fits = len(bounds) == 2 and 0 <= bounds[0] < bounds[1] <= 1
            _require(fits, name, bounds, "two rising numbers from 0 to 1, parts of the scan's extent")

    def for_inference(self) -> GroupOptions:
        """The same distances, but every point once the seed of its nearest: no point of the scan is left out."""
        return replace(self, neighbor_function="Nearest", groups_per_seed=1, x_bounds=(0.0, 1.0), y_bounds=(0.0, 1.0))


@dataclass(frozen=True)
class ScaleOptions:
    """Scales between file, network and photons: how those of a training set are found."""

    data_scaling: Annotated[
        Literal["Parseval", "Max"], Doc("what the input's scale is measured by: mean energy, or largest amplitude")
    ] = "Parseval"
    """What k is measured by. 'Parseval': the mean energy. 'Max': the largest amplitude, as in
    `input_scale_to_maximum`; one bright pixel decides."""
    normalize: Annotated[
        Literal["Batch", "Group", "None"],
        Doc("Batch: one scale for all patterns; Group: every group at one energy; None: patterns as they are"),
    ] = "Batch"
    """'Batch': one k for every pattern, `X_norm = k A`. 'Group': as 'Batch', but the network sees each group at the
    energy (N/2)^2 (`group_gain`) and its object is divided by that gain again. 'None': k = 1, for patterns that are in
    the network's unit already."""
    probe_ramp_removal: Annotated[bool, Doc("take the phase ramp out of the probe")] = False
    intensity_scale: Annotated[
        float | None, Doc("first value of the intensity scale s (none: that of the dose)", above=0)
    ] = None
    """First value of the s that is learned, or used where it is not; None is s itself. The counts that the physics
    explains stay those of the data."""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.normalize == "None" and self.data_scaling == "Max":
            raise ConfigError("data_scaling='Max': normalize='None' scales no data; leave one of them at its default")


@dataclass(frozen=True, eq=False)
class NetworkOptions:
    """Network, beyond the model: normalisation, attention, decoders, edges, the probe's mask.

    An attention multiplies features by numbers in (0, 2) that start at 1. It follows the second convolution of a block;
    where a block has several, channels come first: ECA, CBAM, spatial. The encoder's deepest level is the bottleneck.
    """

    batch_norm: Annotated[bool, Doc("normalise over the batch after each convolution of a block")] = False
    eca_encoder: Annotated[bool, Doc("efficient channel attention in every level of the encoder")] = False
    eca_decoder: Annotated[bool, Doc("efficient channel attention in every level of the decoders")] = False
    cbam_encoder: Annotated[bool, Doc("channel and spatial attention in the encoder above its deepest level")] = False
    cbam_bottleneck: Annotated[bool, Doc("channel and spatial attention in the encoder's deepest level")] = False
    cbam_decoder: Annotated[bool, Doc("channel and spatial attention in every level of the decoders")] = False
    spatial_decoder: Annotated[bool, Doc("spatial attention in every level of the decoders")] = False
    decoder_spatial_kernel: Annotated[int, Doc("kernel of spatial_decoder, odd, pixels", at_least=1)] = 7
    use_shared_decoder: Annotated[bool, Doc("one decoder with two heads for amplitude and phase")] = False
    outer_fraction: Annotated[
        float, Doc("part of its level's channels that the border branch reads", at_least=0, at_most=1)
    ] = 1.0
    edge_pad: Annotated[
        int, Doc("pixels of mirrored input around the encoder, rounded up to whole pixels of every level", at_least=0)
    ] = 0
    amplitude_channels: Annotated[
        int | None, Doc("channels of the amplitude head: gridsize^2 (none), or 1 for the whole group", at_least=1)
    ] = None
    mask_array: Annotated[
        object | None, Doc("the mask of the probe itself, N x N numbers from 0 to 1, or the .npy file that holds it")
    ] = None
    mask_diameter: Annotated[float | None, Doc("diameter of the probe's mask, pixels (none: N/2)", above=0)] = None
    mask_sigma: Annotated[float, Doc("soft edge of the probe's mask, pixels", at_least=0)] = 1.0

    def __post_init__(self) -> None:
        check_settings(self)
        if self.decoder_spatial_kernel % 2 == 0:
            raise ConfigError(
                f"decoder_spatial_kernel must be odd, so that it has a middle, found {self.decoder_spatial_kernel}"
            )
        if self.mask_array is None:
            return
        if self.mask_diameter is not None:
            raise ConfigError(f"mask_diameter={self.mask_diameter} is of a disk: give it or the mask itself, not both")
        object.__setattr__(self, "mask_array", _mask(self.mask_array))

    def __eq__(self, other: object) -> bool:
        """Whether every option is the same."""
        return _comparable(self) == _comparable(other) if isinstance(other, NetworkOptions) else NotImplemented

    def __hash__(self) -> int:
        return hash(_comparable(self))

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the options that are not at their defaults."""
        return tuple(changed_options(self))


@dataclass(frozen=True)
class ObjectiveOptions:
    """Objective: terms of the loss that are off unless somebody asks for them.

    The formulas are in `ptycho.core.physics.losses`. All of them act on the object relative to its nominal scale
    `a / k`, so that a coefficient means the same for every scan.
    """

    phase_subtraction: Annotated[
        bool, Doc("compare with known objects after one phase per group is taken out (off: their phase is learned)")
    ] = True
    amp_loss: Annotated[str | None, Doc("regulariser of the amplitude of the patches", choices=tuple(REGULARISERS))] = (
        None
    )
    phase_loss: Annotated[
        str | None,
        Doc("regulariser of their phase, as a phasor, so that wraps are none", choices=tuple(REGULARISERS)),
    ] = None
    amp_loss_coeff: Coefficient = 1.0
    phase_loss_coeff: Coefficient = 1.0
    probe_reference_coeff: Annotated[
        float, Doc("weight of the distance of the trainable probe from the first one", at_least=0)
    ] = 0.0
    amplitude_variance_loss: Annotated[bool, Doc("keep the amplitude from going flat")] = False
    amplitude_variance_coeff: Annotated[float, Doc("weight of that term", at_least=0)] = 0.01

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class StageOptions:
    """Stages of a training and fine-tuning (PyTorch); the defaults are one stage of `nepochs` epochs.

    Rates are factors of the learning rate. `ptycho_torch.lightning.staging.parts_of` says what the parts of a network
    are.
    """

    stage_1_epochs: Annotated[int, Doc("epochs on the error of the amplitude alone", at_least=0)] = 0
    stage_2_epochs: Annotated[int, Doc("epochs in which the configured likelihood comes in", at_least=0)] = 0
    stage_3_epochs: Annotated[
        int, Doc("epochs on the configured likelihood alone; the three together, if any, replace nepochs", at_least=0)
    ] = 0
    physics_weight_schedule: Annotated[
        Literal["linear", "cosine", "exponential"], Doc("how the likelihood comes in, in stage 2")
    ] = "linear"
    stage_3_lr_factor: Annotated[
        float, Doc("rate of stage 3, or of the last third of the schedule MultiStage", at_least=0)
    ] = 0.1
    epochs_fine_tune: Annotated[int, Doc("further epochs, from the best weights so far", at_least=0)] = 0
    fine_tune_gamma: Annotated[float, Doc("their rate, constant, of the learning rate", at_least=0)] = 0.1
    enable_staged_finetuning: Annotated[
        bool, Doc("fine-tune part by part after all other epochs, each stage from the best weights so far")
    ] = False
    finetune_stage1_epochs: Epochs = 7
    """Epochs of the decoder alone, its heads included."""
    finetune_stage2_epochs: Epochs = 7
    """Epochs of all but the lower half of the encoder."""
    finetune_stage3_epochs: Epochs = 5
    """Epochs of the whole network."""
    finetune_stage1_lr_decoder: RateFactor = 0.1
    finetune_stage2_lr_encoder_top: RateFactor = 0.01
    finetune_stage2_lr_decoder: RateFactor = 0.05
    finetune_stage2_lr_phase_head: RateFactor = 0.1
    finetune_stage3_lr_encoder_bottom: RateFactor = 0.005
    finetune_stage3_lr_encoder_top: RateFactor = 0.01
    finetune_stage3_lr_decoder: RateFactor = 0.02
    finetune_stage3_lr_phase_head: RateFactor = 0.05
    finetune_skip_stage3: Annotated[bool, Doc("leave out the third stage of staged fine-tuning")] = True
    finetune_early_stop_patience: Annotated[int, Doc("epochs without progress that end one of them", at_least=1)] = 3
    finetune_val_split: Annotated[
        float, Doc("part of the groups that validates them where there is no validation set", at_least=0, below=1)
    ] = 0.05

    def __post_init__(self) -> None:
        check_settings(self)
        last = 0 if self.finetune_skip_stage3 else self.finetune_stage3_epochs
        if self.enable_staged_finetuning and not self.finetune_stage1_epochs + self.finetune_stage2_epochs + last:
            raise ConfigError("enable_staged_finetuning asks for no epoch: raise finetune_stage1_epochs")

    @property
    def three_stages(self) -> bool:
        """Whether the training has three stages."""
        return self.stage_1_epochs + self.stage_2_epochs + self.stage_3_epochs > 0

    def epochs(self, nepochs: int) -> int:
        """Epochs before any fine-tuning."""
        return self.stage_1_epochs + self.stage_2_epochs + self.stage_3_epochs if self.three_stages else nepochs


@dataclass(frozen=True)
class IterationOptions:
    """Iteration: how an object is found on a scan without a network, or refined after one.

    What is 'auto' is decided by the patterns themselves (`ptycho.workflows.iteration.iterate`).
    """

    iterations: Annotated[
        int | None,
        Doc(
            "at most so many iterations; less where nothing more is gained (none: 80, and more while much is gained)",
            at_least=1,
            basic=True,
        ),
    ] = None
    seconds: Annotated[
        float | None,
        Doc("at most so many seconds, after what is left open is decided", above=0, flag="time", basic=True),
    ] = None
    likelihood: Annotated[
        Literal["auto", "amplitude", "poisson"],
        Doc("what is fitted (poisson: for few counts; auto: by the photons of a pixel)"),
    ] = "auto"
    refine_probe: Annotated[
        Literal["auto"] | bool, Doc("let the probe move too (auto: at once or later, whichever unseen patterns prefer)")
    ] = "auto"
    modes: Annotated[
        Literal["auto"] | int | None,
        Doc(
            "incoherent modes of the probe (auto: as many as unseen patterns gain by; none: those of the scan)",
            at_least=1,
            basic=True,
        ),
    ] = "auto"
    refine_positions: Annotated[
        Literal["stage", "search"] | bool,
        Doc(
            "let the scan positions move too: scale, rotation, shear and backlash of the stage, then each position "
            "(stage: only the former; search: single ones that are pixels off are tried elsewhere first)",
            flag="positions",
            basic=True,
        ),
    ] = False
    position_bound_px: Annotated[
        float,
        Doc(
            "how far a position may go from where the stage has it along each axis, pixels",
            above=0,
            flag="position-bound",
        ),
    ] = 2.0
    refine_flux: Annotated[
        Literal["auto"] | bool,
        Doc("let the flux of the beam change from pattern to pattern (auto: where it fell or rose)", flag="flux"),
    ] = "auto"
    fly_points: Annotated[
        Literal["auto"] | int | None,
        Doc(
            "places of the probe that share a pattern, where the stage moves meanwhile (auto: by how far; none: one)",
            at_least=1,
            flag="fly",
            alone="auto",
        ),
    ] = None
    fly_duty: Annotated[
        Literal["auto"] | float,
        Doc(
            "share of the way to the next position that the stage goes during a pattern (auto: by unseen patterns)",
            above=0,
            at_most=1,
        ),
    ] = "auto"
    background: Annotated[
        Literal["constant", "smooth", "pixels"] | bool,
        Doc("find light that every pattern has beside the object's: a number, smooth (alone) or one for each pixel"),
    ] = False
    detector_blur: Annotated[
        Literal["find"] | float,
        Doc(
            "standard deviation of the Gaussian by which the detector, or partial coherence, blurs patterns, pixels "
            "(find, alone: by the patterns; 0: sharp)",
            at_least=0,
            alone="find",
        ),
    ] = 0.0
    slices: Annotated[
        int,
        Doc(
            "slices of a thick sample, 2 to 20, free space between them (needs the thickness)",
            at_least=1,
            at_most=20,
            basic=True,
        ),
    ] = 1
    thickness: Annotated[
        float | None, Doc("of the whole sample, metres; each slice stands in the middle of its part", above=0)
    ] = None
    refine_thickness: Annotated[bool, Doc("let the distance between the slices move too", flag="thickness-refine")] = (
        False
    )
    object_prior: Annotated[
        str | None,
        Doc(
            "known of the object: tv (few edges), l1 (few pixels differ from the empty beam), absorbing (nothing makes "
            "light), phase (nothing takes light), support=FILE (the sample is where this .npy mask is not 0), network "
            "(it looks like what a network was trained on, where photons are few)"
        ),
    ] = None
    prior_strength: Annotated[
        Literal["auto"] | float,
        Doc("weight of object_prior (auto: by unseen patterns; of network by unseen photons)", at_least=0),
    ] = "auto"
    prior_seconds: Annotated[
        float,
        Doc(
            "of object_prior=network: let the scan teach the network first, by halves of its photons, for so long",
            at_least=0,
        ),
    ] = 0.0
    variable_probe: Annotated[
        int,
        Doc(
            "modes of variation of a probe that changes during the scan, orthogonal probe relaxation, OPR "
            "(alone: 2; 0: it is the same in all patterns)",
            at_least=0,
            alone="2",
        ),
    ] = 0
    variable_probe_smooth: Annotated[
        float | None,
        Doc("let it change slowly along the scan, in pieces of so many patterns (none: each has its own)", above=0),
    ] = None
    shared_probe: Annotated[bool, Doc("of several scans of one object: all have the probe of the first")] = False
    scan_offsets: Annotated[
        bool, Doc("of several scans of one object: find how far each lies from where it was recorded")
    ] = True
    holdout: Annotated[
        float,
        Doc("patterns that stay unseen and choose the result, a fraction below 1 or a number", at_least=0),
    ] = 0.0
    batch_size: Annotated[int | None, Doc("patterns in a mini-batch (none: all at once)", at_least=1)] = None
    seed: Annotated[int, Doc("of everything that is drawn", at_least=0)] = 0

    def __post_init__(self) -> None:
        check_settings(self)
        if self.thickness is not None and self.slices == 1:
            raise ConfigError(f"thickness={self.thickness:g}: expected 2 slices or more, found 1; add --slices")
        asked = self.object_prior
        if asked is None:
            _require(self.prior_strength == "auto", "prior_strength", self.prior_strength, "an object_prior beside it")
        elif asked not in OBJECT_PRIORS and not (asked.startswith(SUPPORT) and asked != SUPPORT):
            _require(False, "object_prior", asked, f"one of {', '.join(OBJECT_PRIORS)}, {SUPPORT}FILE")
        else:
            _require(self.slices == 1, "slices", self.slices, "1 beside an object_prior")
        if self.prior_seconds:
            _require(asked == NETWORK, "prior_seconds", self.prior_seconds, f"object_prior={NETWORK} beside it")
        if self.variable_probe and self.refine_probe is False:
            raise ConfigError("--variable-probe: expected a probe that moves, found refine_probe=False; leave one out")
        if self.variable_probe_smooth is not None and not self.variable_probe:
            raise ConfigError("--variable-probe-smooth: expected --variable-probe beside it, found none; add it")

    def without_prior(self) -> IterationOptions:
        """The same, with nothing known of the object."""
        return replace(self, object_prior=None, prior_strength="auto", prior_seconds=0.0)

    @property
    def background_family(self) -> Literal["constant", "smooth", "pixels"] | None:
        """How a background may look; smooth where nobody said, which a constant is too; None: there is none."""
        return "smooth" if self.background is True else self.background or None

    @property
    def planned(self) -> int:
        """Iterations to reckon with: those asked for, else the usual number."""
        return USUAL_ITERATIONS if self.iterations is None else self.iterations


@dataclass(frozen=True)
class StitchOptions:
    """Stitching: how patches become an object; by default all of each, by |P|^2, on a canvas that holds them all."""

    patch_weighting: Annotated[
        Literal["probe", "uniform"], Doc("a pixel of a patch counts as the light it received, or all count alike")
    ] = "probe"
    middle_trim: Annotated[
        int, Doc("side of the central part of a patch that is stitched, pixels (0: all of it)", at_least=0)
    ] = 0
    """0 and N are the whole patch. Where that leaves holes inside the scan, they are filled from whole patches."""
    window: Annotated[int, Doc("pixels at each edge of the canvas that are left out of the result", at_least=0)] = 0
    """Coverage 0, object 1, spread NaN there."""
    pad_eval: Annotated[bool, Doc("make the canvas hold every patch (off: the box of the scan positions)")] = True

    def __post_init__(self) -> None:
        check_settings(self)

    def middle(self, N: int) -> int | None:
        """Side of the central part of patches of N pixels; None where that is the whole patch."""
        return self.middle_trim if 0 < self.middle_trim < N else None


@dataclass(frozen=True)
class PatchStatsOptions:
    """Statistics of predicted patches: whether they are written, and of how many batches."""

    log_patch_stats: Annotated[
        bool, Doc("write statistics of predicted patches to OUTPUT_DIR/analysis", flag="log-patch-stats")
    ] = False
    patch_stats_limit: Annotated[
        int | None, Doc("batches to write them for, the first ones (none: all)", at_least=1)
    ] = None

    def __post_init__(self) -> None:
        check_settings(self)
        limit = self.patch_stats_limit
        if limit is not None and not self.log_patch_stats:
            raise ConfigError(f"patch_stats_limit={limit} limits statistics that are not written: set log_patch_stats")


def changed_options(section: Any) -> Mapping[str, Any]:
    """The options of a section that are not at their defaults."""
    declared = settings_of(type(section))
    values = {name: getattr(section, name) for name in declared}
    # the one array there is has the default None, and an array is not compared with anything
    return {
        name: value
        for name, value in values.items()
        if (value is not None if name == "mask_array" else value != declared[name].default)
    }


def _require(fits: bool, name: str, value: Any, expected: str) -> None:
    if not fits:
        raise ConfigError(f"{name}={value!r}: expected {expected}")


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) < float("inf")


def _tuples(section: Any, *names: str) -> None:
    """Lists, as files and other programs hold them, become tuples."""
    for name in names:
        value = getattr(section, name)
        if isinstance(value, list):
            object.__setattr__(section, name, tuple(value))


def _comparable(options: NetworkOptions) -> tuple[Any, ...]:
    """Every option, the mask as its shape and bytes."""
    mask: Any = options.mask_array
    others = (getattr(options, field.name) for field in fields(options) if field.name != "mask_array")
    return (*others, None if mask is None else (mask.shape, mask.tobytes()))


def _mask(values: Any) -> Any:
    """A mask, or that of a file, as float32, after a look at its shape and its values."""
    import numpy as np  # late: settings are read without an array library

    from ptycho.core.files.damage import readable
    from ptycho.core.files.npz import read_npy

    if isinstance(values, (str, Path)):
        if not Path(values).is_file():
            raise MissingFileError(f"mask_array={str(values)!r}: expected an array or a .npy file, found none there")
        with readable(Path(values), "mask_array, a .npy file", ConfigError, "name another one"):
            values = read_npy(Path(values))
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise ConfigError(f"mask_array must hold numbers, found {values.dtype}")
    mask = values.astype(np.float32)
    if mask.ndim != 2 or mask.shape[0] != mask.shape[1]:
        raise ConfigError(f"mask_array must be N x N, found shape {mask.shape}")
    if not ((mask >= 0) & (mask <= 1)).all() or not mask.any():
        raise ConfigError(
            f"mask_array must hold numbers from 0 to 1, some above 0, found {mask.min():g} to {mask.max():g}"
        )
    mask.setflags(write=False)
    return mask


NEUTRAL = NetworkOptions()
"""What is done where nothing is said."""
NEUTRAL_GROUPS = GroupOptions()
"""What is done where nothing is said."""
NEUTRAL_SCALES = ScaleOptions()
"""What is done where nothing is said."""
NEUTRAL_OBJECTIVE = ObjectiveOptions()
"""What is done where nothing is said."""
NEUTRAL_STAGES = StageOptions()
"""What is done where nothing is said."""
NEUTRAL_STITCHING = StitchOptions()
"""What is done where nothing is said."""
NEUTRAL_PATCH_STATS = PatchStatsOptions()
"""What is done where nothing is said."""
