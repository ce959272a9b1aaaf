"""What a training needs of its scans: groups, scales and dose of every experiment, and nothing of a framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import InferenceConfig, TrainingConfig
from ptycho.config.options import NEUTRAL_GROUPS, GroupOptions, ScaleOptions
from ptycho.config.schema import is_stated
from ptycho.core.geometry import object_frame
from ptycho.core.groups.container import GroupContainer
from ptycho.core.groups.grouped_data import GroupedData
from ptycho.core.groups.known_patches import object_labels
from ptycho.core.groups.neighbourhood import Neighbourhoods, make_neighbourhoods
from ptycho.core.memory import check_room
from ptycho.core.scan.identity import ScanIdentity
from ptycho.core.training.scales import InputScaling
from ptycho.errors import ConfigError, DataError, PtychoError
from ptycho.networks.registry import BUILT_IN, PATTERN_SIZES, network_entry
from ptycho.networks.spec import network_spec
from ptycho.raw_data import RawData
from ptycho.workflows.experiments import Scans, TestScans, experiment_pairs
from ptycho.workflows.result_frame import scan_frame

__all__ = ["TrainingSet", "at_network_size", "group_scan", "prepare_experiments", "prepare_training", "prepared_scan"]

DEFAULT_GROUPS = 512

Container = TypeVar("Container", bound=GroupContainer)


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
    identity: ScanIdentity
    """Of the scan that is trained on."""
    scan: Mapping[str, Any]
    """What the model keeps of that scan: `metadata` and `source`, as results have them."""
    frame: Mapping[str, Any]
    """What a checkpoint keeps of the scans (`result_frame.scan_frame`)."""

    @property
    def canvas_size(self) -> int:
        """Side of the canvas that holds every group, pixels."""
        return max(container.canvas_size for container in (self.train, self.test) if container is not None)


def prepare_training(
    train_data: RawData,
    test_data: RawData | None,
    config: TrainingConfig,
    container: type[Container],
) -> TrainingSet[Container]:
    """Measure k and the dose, and group the scans.

    Args:
        train_data, test_data: the scans; the second may be missing.
        config: settings of the training; its sections `groups` and `scales` say how groups are drawn and scales are
            measured.
        container: the backend's kind of container.

    Raises:
        ConfigError, DataError: settings or data that cannot work.
    """
    for scan in (train_data, test_data):
        if scan is not None:
            check_room(object_frame(scan.xcoords, scan.ycoords, scan.N))
    groups, scaling = config.groups, config.scales
    _check_ramp(config, scaling)
    straight = scaling.probe_ramp_removal
    data = prepared_scan(train_data, config, straight)
    probe, scales = np.asarray(data.probeGuess), data.scales(_photons(data, config), scaling)
    dose_scale = scales.intensity_scale

    def contained(part: RawData, config: TrainingConfig) -> Container:
        number, ordered = _number(part, config, groups), config.sequential_sampling
        grouped = group_scan(part, config, number, ordered, scales.input_scale, groups)
        drawn_from = _neighbourhoods(part, grouped, config, groups)
        labels = None
        if config.model.model_type == "supervised" and part.Y is None and config.positions_provided:
            labels = object_labels(part.objectGuess, part.xcoords, part.ycoords)
        return container(grouped, part.probeGuess, part.mask, dose_scale, neighbourhoods=drawn_from, labels=labels)

    train, test = contained(data, config), None
    if test_data is not None:
        unseen = prepared_scan(test_data, replace(config, n_subsample=None), straight)
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
        identity=train_data.recorded_identity,
        scan={"metadata": train_data.known_metadata, "source": train_data.source},
        frame=scan_frame(train_data, test_data),
    )


def prepare_experiments(
    train_data: Scans,
    test_data: TestScans,
    config: TrainingConfig,
    container: type[Container],
) -> list[TrainingSet[Container]]:
    """The training set of every experiment, as of `prepare_training`.

    Args:
        train_data: a scan, or one per experiment, each with its own probe, dose and unit.
        test_data: what to validate with; of several experiments a list in the same order, None where there is none.
        config, container: as in `prepare_training`; `n_groups` is that of each scan.

    Raises:
        ConfigError, DataError: settings or data that cannot work; of several experiments the line says which.
    """
    pairs, made = experiment_pairs(train_data, test_data), []
    for number, (train, test) in enumerate(pairs):
        try:
            made.append(prepare_training(train, test, config, container))
        except PtychoError as error:
            if len(pairs) == 1:
                raise
            raise type(error)(f"experiment {number}: {error}") from error
    _check_levels(made, config.scales)
    return made


def _check_levels(sets: Sequence[TrainingSet[Any]], scaling: ScaleOptions) -> None:
    """One network gives objects of one level."""
    levels = [found.scaling.level for found in sets]
    if len(set(levels)) > 1:
        shown = ", ".join(f"{level:.3g}" for level in levels)
        raise ConfigError(
            f"data_scaling={scaling.data_scaling!r}, normalize={scaling.normalize!r}: {len(sets)} experiments share a "
            f"network, whose object would have the levels {shown}; use data_scaling='Parseval', normalize='Batch'"
        )


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
    """What the groups of a network that learns from held-out neighbours are drawn from; None for any other."""
    spec, asked = network_spec(config.model), config.held_out_neighbors
    if not (network_entry(config.model.architecture).canvas and config.model.object_big):
        if asked:
            able = " or ".join(f"architecture={name!r}" for name, entry in BUILT_IN.items() if entry.canvas)
            raise ConfigError(
                f"held_out_neighbors={asked} needs {able} with object_big, found "
                f"{config.model.architecture!r}, object_big={config.model.object_big}: leave it out"
            )
        return None
    held_out = min(spec.recipe.held_out(spec.members), len(data) - spec.members) if asked is None else asked
    seeds, size = grouped["nn_indices"][:, 0], spec.members + held_out
    return make_neighbourhoods(data.xcoords, data.ycoords, seeds, size, config.subsample_seed or 0, options=groups)


def _photons(data: RawData, config: TrainingConfig) -> float:
    """Photons per pattern; with counts a dose that nobody stated is no claim that could be wrong."""
    claimed = data.units == "amplitude" or is_stated(config, "nphotons")
    return data.photons(config.nphotons if claimed else None)


def at_network_size(data: RawData, N: int) -> RawData:
    """The scan with patterns of N x N pixels, of a network or of a result, where its own size is that of neither."""
    return data if data.N in (N, *PATTERN_SIZES) else data.fitted(sizes=(N,))


def prepared_scan(data: RawData, config: TrainingConfig | InferenceConfig, straight_probe: bool) -> RawData:
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


def group_scan(
    data: RawData,
    config: TrainingConfig | InferenceConfig,
    groups: int,
    sequential: bool,
    input_scale: float,
    options: GroupOptions = NEUTRAL_GROUPS,
) -> GroupedData:
    """Groups of a scan by the fields that training and inference share; `input_scale` is k."""
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
        input_scale=input_scale,
    )
