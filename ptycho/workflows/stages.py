"""The order of the stages, the same for both backends; a backend brings its model, its fit and its prediction."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ptycho import params
from ptycho.architecture import network_spec
from ptycho.config.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho.core.container import GroupContainer
from ptycho.core.diffraction import as_modes
from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.group_options import NEUTRAL_GROUPS, GroupOptions
from ptycho.core.grouped_data import GroupedData
from ptycho.core.labels import object_labels
from ptycho.core.neighbourhood import Neighbourhoods, make_neighbourhoods
from ptycho.core.probes import probe_overlap
from ptycho.core.products import Reconstruction
from ptycho.core.refinement import Refinement
from ptycho.core.scale_options import NEUTRAL_SCALES, InputScaling, ScaleOptions
from ptycho.core.stitch_options import NEUTRAL_STITCHING, StitchOptions, lay_out, result_frames
from ptycho.errors import ConfigError, DataError, PtychoError
from ptycho.raw_data import RawData
from ptycho.workflows.assembly import stitch_scan
from ptycho.workflows.judgement import judge, noise_error

if TYPE_CHECKING:
    from ptycho.workflows.diagnostics import Diagnostics

__all__ = [
    "Backend",
    "Refine",
    "ScanModel",
    "Scans",
    "TestScans",
    "TrainingSet",
    "add_reconstructions",
    "experiment_pairs",
    "group_scan",
    "inference_settings",
    "model_path",
    "prepare_experiments",
    "prepare_training",
    "reconstruct",
    "scans_to_stitch",
    "training_results",
]

logger = logging.getLogger(__name__)

DEFAULT_GROUPS = 512
ENERGY_WARNING = 2.0
PROBE_WARNING = 0.9

Backend = Literal["pytorch", "tensorflow"]
Scans = RawData | Sequence[RawData]
"""A scan to train on, or one per experiment."""
TestScans = RawData | Sequence[RawData | None] | None
"""What to validate with, of several experiments in the same order."""
Container = TypeVar("Container", bound=GroupContainer)


class ScanProbe(Protocol):
    """The probe of a model."""

    def file_units(self, masked: bool = True) -> NDArray[np.complex64]:
        """Modes (M, N, N) in the unit of the file's amplitudes."""

    def take_energy_of(self, probe: NDArray[Any]) -> None:
        """Express results in the unit of another file's probe."""


class ScanModel(Protocol):
    """What the stages need of a model of either backend."""

    config: ModelConfig
    input_scale: float
    scaling: InputScaling
    subpixel: Literal["bilinear", "fourier"]

    @property
    def probe(self) -> ScanProbe:
        """The probe in use."""

    @property
    def intensity_scale(self) -> float:
        """s; `s X_norm` is in photon units."""


Refine = Callable[..., Refinement]
"""The backend's `refine(scan, start, iterations, *, probe, frame, report)`, with its further keywords bound."""


@dataclass(frozen=True)
class TrainingSet(Generic[Container]):
    """Everything that training needs of the scans, and nothing of a framework."""

    probe: NDArray[Any]
    mask: NDArray[np.bool_] | None
    """(N, N); None where every pixel is valid or each pattern has a mask of its own."""
    input_scale: float
    intensity_scale: float
    train: Container
    test: Container | None
    seed: int
    first_intensity_scale: float
    """Where the learning of s starts."""
    scaling: InputScaling

    @property
    def canvas_size(self) -> int:
        """Side of the canvas that holds every group, pixels."""
        return max(container.canvas_size for container in (self.train, self.test) if container is not None)


def prepare_training(
    train_data: RawData,
    test_data: RawData | None,
    config: TrainingConfig,
    container: type[Container],
    groups: GroupOptions = NEUTRAL_GROUPS,
    scaling: ScaleOptions = NEUTRAL_SCALES,
) -> TrainingSet[Container]:
    """Measure k and the dose, group the scans, and write `input_scale`, `intensity_scale`, `probe` to `params.cfg`.

    Args:
        train_data, test_data: the scans; the second may be missing.
        config: settings of the training.
        container: the backend's kind of container.
        groups, scaling: how groups are drawn and scales are measured.

    Raises:
        ConfigError, DataError: settings or data that cannot work.
    """
    _check_ramp(config, scaling)
    straight = scaling.probe_ramp_removal
    data = _prepare(train_data, config, straight)
    probe, scales = np.asarray(data.probeGuess), data.scales(_photons(data, config), scaling)
    dose_scale = scales.intensity_scale
    params.cfg.update(_computed_keys(scales.input_scale, dose_scale, probe))

    def contained(part: RawData, config: TrainingConfig) -> Container:
        grouped = group_scan(part, config, _number(part, config, groups), config.sequential_sampling, groups)
        judged = _neighbourhoods(part, grouped, config, groups)
        labels = None
        if config.model.model_type == "supervised" and part.Y is None and config.positions_provided:
            labels = object_labels(part.objectGuess, part.xcoords, part.ycoords)
        return container(grouped, part.probeGuess, part.mask, dose_scale, neighbourhoods=judged, labels=labels)

    train, test = contained(data, config), None
    if test_data is not None:
        unseen = _prepare(test_data, replace(config, n_subsample=None), straight)
        at_most = _most_groups(unseen, config, groups)
        asked = None if config.n_groups is None else min(config.n_groups, at_most)
        test = contained(unseen, replace(config, n_groups=asked))
    return TrainingSet(
        probe=probe,
        mask=data.mask if data.mask is not None and data.mask.ndim == 2 else None,
        input_scale=scales.input_scale,
        intensity_scale=dose_scale,
        train=train,
        test=test,
        seed=config.subsample_seed or 0,
        first_intensity_scale=scales.first_intensity_scale,
        scaling=InputScaling(scales.level, scaling.normalize == "Group", scaling.probe_ramp_removal),
    )


def prepare_experiments(
    train_data: Scans,
    test_data: TestScans,
    config: TrainingConfig,
    container: type[Container],
    groups: GroupOptions = NEUTRAL_GROUPS,
    scaling: ScaleOptions = NEUTRAL_SCALES,
) -> list[TrainingSet[Container]]:
    """The training set of every experiment, as of `prepare_training`; `params.cfg` is left with that of the first.

    Args:
        train_data: a scan, or one per experiment, each with its own probe, dose and unit.
        test_data: what to validate with; of several experiments a list in the same order, None where there is none.
        config, container, groups, scaling: as in `prepare_training`; `n_groups` is that of each scan.

    Raises:
        ConfigError, DataError: settings or data that cannot work; of several experiments the line says which.
    """
    pairs, made = experiment_pairs(train_data, test_data), []
    for number, (train, test) in enumerate(pairs):
        try:
            made.append(prepare_training(train, test, config, container, groups, scaling))
        except PtychoError as error:
            if len(pairs) == 1:
                raise
            raise type(error)(f"experiment {number}: {error}") from error
    first = made[0]
    params.cfg.update(_computed_keys(first.input_scale, first.intensity_scale, first.probe))
    levels = [found.scaling.level for found in made]
    if len(set(levels)) > 1:
        shown = ", ".join(f"{level:.3g}" for level in levels)
        raise ConfigError(
            f"data_scaling={scaling.data_scaling!r}, normalize={scaling.normalize!r}: {len(made)} experiments share a "
            f"network, whose object would have the levels {shown}; use data_scaling='Parseval', normalize='Batch'"
        )
    return made


def _computed_keys(input_scale: float, intensity_scale: float, probe: NDArray[Any]) -> dict[str, Any]:
    """What training writes to `params.cfg`."""
    return {"input_scale": input_scale, "intensity_scale": intensity_scale, "probe": as_modes(probe)}


def experiment_pairs(train_data: Scans, test_data: TestScans) -> list[tuple[RawData, RawData | None]]:
    """Every experiment's scan to train on and the one to validate with, if it has one.

    Raises:
        ConfigError: no experiment, or lists that do not fit together.
    """
    train = [train_data] if isinstance(train_data, RawData) else list(train_data)
    if test_data is None:
        test: list[RawData | None] = [None] * len(train)
    else:
        test = [test_data] if isinstance(test_data, RawData) else list(test_data)
    if not train or len(train) != len(test):
        raise ConfigError(
            f"experiments: expected one scan to train on, or more, and as many to validate with (None for none), found "
            f"{len(train)} and {len(test)}"
        )
    return list(zip(train, test, strict=True))


def _check_ramp(config: TrainingConfig, scaling: ScaleOptions) -> None:
    """Known objects belong to the probe of the file."""
    known = config.model.model_type == "supervised" or config.realspace_mae_weight > 0
    if scaling.probe_ramp_removal and known:
        raise ConfigError(
            "probe_ramp_removal=True turns the object, but known objects are compared with as they are: leave it off, "
            "or train without them"
        )


def _most_groups(data: RawData, config: TrainingConfig, groups: GroupOptions) -> int:
    """Groups of a scan where none has to be drawn twice."""
    return data.group_count(config.model.gridsize, config.neighbor_count, config.neighbor_pool_size, groups)


def _number(data: RawData, config: TrainingConfig, groups: GroupOptions) -> int:
    """Groups to train on: as many as asked for, else at most `DEFAULT_GROUPS`."""
    return config.n_groups or min(DEFAULT_GROUPS, _most_groups(data, config, groups))


def _neighbourhoods(
    data: RawData, grouped: GroupedData, config: TrainingConfig, groups: GroupOptions
) -> Neighbourhoods | None:
    """What the groups of a network that is judged on held-out neighbours are drawn from; None for any other."""
    spec, asked = network_spec(config.model), config.held_out_neighbors
    if config.model.architecture != "unrolled" or not config.model.object_big:
        if asked:
            raise ConfigError(
                f"held_out_neighbors={asked} needs architecture='unrolled' with object_big, found "
                f"{config.model.architecture!r}, object_big={config.model.object_big}: leave it out"
            )
        return None
    held_out = min(spec.recipe.held_out, len(data) - spec.members) if asked is None else asked
    seeds, size = grouped["nn_indices"][:, 0], spec.members + held_out
    return make_neighbourhoods(data.xcoords, data.ycoords, seeds, size, config.subsample_seed or 0, options=groups)


def group_scan(
    data: RawData,
    config: TrainingConfig | InferenceConfig,
    groups: int,
    sequential: bool,
    options: GroupOptions = NEUTRAL_GROUPS,
) -> GroupedData:
    """Groups of a scan by the fields that training and inference share."""
    return data.generate_grouped_data(
        config.model.N,
        K=config.neighbor_count,
        nsamples=groups,
        seed=config.subsample_seed,
        sequential_sampling=sequential,
        gridsize=config.model.gridsize,
        enable_oversampling=config.enable_oversampling,
        neighbor_pool_size=config.neighbor_pool_size,
        options=options,
    )


def _prepare(data: RawData, config: TrainingConfig | InferenceConfig, straight_probe: bool) -> RawData:
    """Check the pattern size, take the subsample that the configuration asks for, straighten the probe if need be."""
    if data.N != config.model.N:
        raise DataError(
            f"the model expects patterns of N={config.model.N} pixels, found {data.N}: crop or bin them, or train with "
            f"N={data.N}"
        )
    if straight_probe:
        data = data.without_probe_ramp()
    if config.n_subsample is None:
        return data
    return data.subsample(config.n_subsample, config.subsample_seed)


def _photons(data: RawData, config: TrainingConfig) -> float:
    """Photons per pattern; with counts a dose left at its default is no claim that could be wrong."""
    claimed = data.units == "amplitude" or config.nphotons != TrainingConfig().nphotons
    return data.photons(config.nphotons if claimed else None)


def model_path(config: InferenceConfig) -> Path:
    """The model that a configuration names; ConfigError where it names none."""
    if config.model_path is None or config.model_path == Path():
        raise ConfigError("model_path is missing: name the folder or the zip of the trained model (wts.h5.zip)")
    return Path(config.model_path)


def inference_settings(config: TrainingConfig) -> InferenceConfig:
    """How to reconstruct right after training: the model and the neighbours of the training, every scan point.

    Raises:
        ConfigError: the training has no positions to stitch by.
    """
    if not config.positions_provided:
        raise ConfigError("positions_provided=False: stitching needs the scan positions; train without do_stitching")
    return InferenceConfig(
        model=ModelConfig(**vars(config.model)),
        neighbor_count=config.neighbor_count,
        subsample_seed=config.subsample_seed,
        backend=config.backend,
        use_xla=config.use_xla,
    )


def training_results(
    backend: Backend,
    models: Sequence[Any],
    sets: Sequence[TrainingSet[Any]],
    history: dict[str, list[float]],
    seconds: float,
    config: TrainingConfig,
) -> dict[str, Any]:
    """What a training returns; of several experiments the plain names are those of the first."""
    return {
        "backend": backend,
        "model": models[0],
        "models": tuple(models),
        "history": history,
        "train_container": sets[0].train,
        "train_containers": tuple(found.train for found in sets),
        "test_container": sets[0].test,
        "test_containers": tuple(found.test for found in sets),
        "train_seconds": seconds,
        "config": config,
    }


def scans_to_stitch(train_data: Scans, test_data: TestScans) -> list[RawData]:
    """Of every experiment the scan to reconstruct: the one to validate with, else the one to train on."""
    return [train if test is None else test for train, test in experiment_pairs(train_data, test_data)]


def add_reconstructions(
    results: dict[str, Any],
    scans: Scans,
    reconstruct_one: Callable[..., Reconstruction],
    diagnostics: Diagnostics | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, Any]]:
    """Reconstruct the scan of every experiment with its model: (amplitude, phase, results with the reconstructions).

    Of several experiments amplitude and phase, and the plain names, are those of the first; `diagnostics` is told of
    that one. `reconstruct_one(model, scan, diagnostics=)` is the backend's.
    """
    each = [scans] if isinstance(scans, RawData) else scans
    told = [diagnostics, *[None] * (len(each) - 1)]
    made = [
        reconstruct_one(model, scan, diagnostics=one)
        for model, scan, one in zip(results["models"], each, told, strict=True)
    ]
    found = made[0]
    amplitude, phase = np.abs(found.object), np.angle(found.object)
    results.update(
        reconstruction=found,
        reconstructions=tuple(made),
        obj_tensor_full=found.object,
        global_offsets=results["train_container"].global_offsets,
        recon_amp=amplitude,
        recon_phase=phase,
    )
    return amplitude, phase, results


def reconstruct(
    model: ScanModel,
    data: RawData,
    config: InferenceConfig,
    *,
    backend: Backend,
    container: type[Container],
    predict: Callable[[Container], NDArray[np.complex64]],
    refine: Refine | None = None,
    refine_iterations: int = 0,
    refinement: Mapping[str, Any] | None = None,
    stitching: StitchOptions = NEUTRAL_STITCHING,
    diagnostics: Diagnostics | None = None,
) -> Reconstruction:
    """Reconstruct a scan: one pass of the network, stitching and, when asked for, refinement.

    Args:
        model: a trained model; its probe takes the energy of the scan's.
        data: the scan.
        config: groups and neighbours; the model's own settings come with `model`.
        backend: named in the result.
        container: the backend's kind of container.
        predict: object patches of every member of every group, `(B, C, N, N)` in the file's units, at whole pixels
            where the model's sub-pixel rule is `fourier`.
        refine: the backend's refinement; needed where `refine_iterations` is not 0.
        refine_iterations: 0 is no refinement.
        refinement: further keywords of `refine`; without `noise` it stops where the photon noise of the scan is all
            that is left, so far as the dose is known.
        stitching: weights of the patches, the part of each that is stitched, and what of the canvas is shown.
        diagnostics: told of the patches and of what stitching makes of them; None: nobody is.
    """
    settings = replace(config, model=model.config)
    data = _prepare(data, settings, model.scaling.straight_probe)
    _compare_with_training(model, data)
    model.probe.take_energy_of(np.asarray(data.probeGuess))
    params.cfg["input_scale"] = model.input_scale
    grouped = group_scan(data, settings, settings.n_groups or len(data), sequential=True)
    timings: dict[str, float] = {}
    begun = time.perf_counter()
    on_grid = model.subpixel == "fourier"
    groups = container(grouped, data.probeGuess, data.mask, params.cfg.get("intensity_scale"), on_grid=on_grid)
    patches = predict(groups)
    timings["inference"] = time.perf_counter() - begun
    count = patches.shape[0] * patches.shape[1]
    rate = count / timings["inference"]
    logger.info("inference: %d patches in %.1f s (%.0f patches/s)", count, timings["inference"], rate)
    if diagnostics is not None:
        diagnostics.predicted(patches)
    begun = time.perf_counter()
    work = object_frame(data.xcoords, data.ycoords, data.N)
    probe = model.probe.file_units()
    positions = groups.pixel_positions if on_grid else grouped["coords_nn"]
    found = stitch_scan(patches, positions, data, probe, work, stitching)
    stitched, coverage, spread = found.object, found.coverage, found.spread
    timings["stitching"] = time.perf_counter() - begun
    logger.info(
        "stitching: %.1f s, agreement of overlaps %.3f, with synchronised phases %.3f: %s",
        timings["stitching"],
        *found.agreement,
        "synchronised" if found.synchronised else "left as predicted",
    )
    if diagnostics is not None:
        diagnostics.stitched(patches, positions, found, work)
    x, y = work.local(data.xcoords, data.ycoords)
    nominal = (model.intensity_scale * model.scaling.level * data.N / 2) ** 2
    refined: NDArray[np.complex64] | None = None
    history: tuple[float, ...] = ()
    if refine is not None and refine_iterations:
        vacuum = np.abs(stitched).mean(where=coverage > 0)
        start = np.where(coverage > 0, stitched, vacuum)
        options = dict(refinement or {})
        if "noise" not in options:
            likelihood = options.get("likelihood", "amplitude")
            options["noise"] = noise_error(judge(start, probe, x, y, data, nominal), likelihood)
        better = _refined(partial(refine, **options), data, start, probe, work, refine_iterations)
        probe, history = better.probe, better.error_history[: better.kept + 1]
        x, y = better.xcoords, better.ycoords
        refined = np.where(coverage > 0, better.object, np.complex64(1))
        timings["refinement"] = better.seconds
    begun = time.perf_counter()
    final = stitched if refined is None else refined
    trust = judge(final, probe, x, y, data, nominal)
    timings["trust"] = time.perf_counter() - begun
    shown, frame = result_frames(data.xcoords, data.ycoords, data.N, stitching)
    if data.objectGuess is not None:
        height, width = data.objectGuess.shape[-2:]
        frame = ObjectFrame(height, width, 0, 0)
    stitched, coverage, spread = (
        lay_out(image, work, shown, frame, fill) for image, fill in ((stitched, 1), (coverage, 0), (spread, np.nan))
    )
    refined = None if refined is None else lay_out(refined, work, shown, frame, 1)
    x, y = frame.local(x + work.x0, y + work.y0)
    return Reconstruction(
        object=stitched if refined is None else refined,
        coverage=coverage,
        probe=probe,
        xcoords=x,
        ycoords=y,
        frame=frame,
        backend=backend,
        method="network" if refined is None else "network+refined",
        subpixel=model.subpixel if refined is None else "fourier",
        network_object=None if refined is None else stitched,
        error_history=history,
        timings=timings,
        synchronised=found.synchronised,
        agreement=found.agreement,
        spread=spread,
        trust=trust,
    )


def _refined(
    refine: Refine,
    data: RawData,
    start: NDArray[np.complex64],
    probe: NDArray[np.complex64],
    frame: ObjectFrame,
    iterations: int,
) -> Refinement:
    """Refine on the whole scan, with a line of progress every tenth of the way and one that says why it ended."""

    def report(iteration: int, error: float) -> None:
        if iteration % max(1, iterations // 10) == 0 or iteration == iterations:
            logger.info("refinement %d/%d: relative Fourier error %.3g", iteration, iterations, error)

    found = refine(data, start, iterations, probe=probe, frame=frame, report=report)
    logger.info("refinement: %.1f s, %s", found.seconds, found.stopped)
    return found


def _compare_with_training(model: ScanModel, data: RawData) -> None:
    """Warn where the scan is far from what the network was trained on."""
    energy = data.mean_energy * model.input_scale**2 / (model.scaling.level * data.N / 2) ** 2
    if not 1 / ENERGY_WARNING < energy < ENERGY_WARNING:
        logger.warning(
            "the patterns hold %.2g times the energy of those the network was trained on: expect a poor object; "
            "train on this scan, or refine",
            energy,
        )
    ours, theirs = model.probe.file_units(masked=False), as_modes(np.asarray(data.probeGuess))
    if ours.shape != theirs.shape:
        logger.warning(
            "the network was trained with %d probe modes, the scan has %d: the network's are used",
            len(ours),
            len(theirs),
        )
    overlap = probe_overlap(ours, theirs)
    if overlap < PROBE_WARNING:
        logger.warning(
            "the scan's probe overlaps with that of the network by %.2f only: expect a poor object, unless the "
            "training refined the probe of this set-up (--refine_probe)",
            overlap,
        )
