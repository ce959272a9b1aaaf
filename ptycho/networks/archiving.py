"""What both backends do alike between a model and its archive; loads no framework.

A model here is anything with the attributes that both `PtychoPINN` have: `options`, `intensity_scale`, `input_scale`,
`nominal_intensity_scale`, `labels`, `scan`, and a `probe` layer with `file_units`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho import params
from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.config.files import config_from_dict, config_to_dict
from ptycho.config.legacy import update_legacy_dict
from ptycho.config.options import NetworkOptions
from ptycho.core.archive import ArchivedExperiment, Backend, ModelArchive, json_snapshot, to_json
from ptycho.core.physics.probes import probe_overlap
from ptycho.core.provenance import version_of
from ptycho.core.training.scales import NEUTRAL_INPUT, InputScaling
from ptycho.errors import ArchiveError, ConfigError
from ptycho.networks.options import options_from_dict, options_to_dict
from ptycho.networks.spec import NetworkSpec

__all__ = [
    "archived_arguments",
    "archived_config",
    "archived_options",
    "archived_scaling",
    "checked_weights",
    "choose_experiment",
    "make_archive",
    "most_alike",
    "restore_params",
]


logger = logging.getLogger(__name__)


def make_archive(
    backend: Backend,
    models: Sequence[Any],
    weights: dict[str, NDArray[Any]],
    masks: Sequence[NDArray[np.bool_]],
    config: TrainingConfig,
    versions: dict[str, str],
) -> ModelArchive:
    """A trained network as data: its weights by canonical name, its settings in both spellings, and its experiments.

    Args:
        backend: that trained it.
        models: one per experiment, which share the network: probe and scales.
        weights: of the network.
        masks: (N, N), one per experiment.
        config: of the training.
        versions: of the backend's libraries; the version of this library is added.

    Options that are not at their defaults are the configuration `network`, a mask of the probe that is an array is one
    of the arrays.
    """
    model = models[0]
    options = options_to_dict(model.options)
    extra = {"network": to_json(options)} if options else {}
    if model.scaling != NEUTRAL_INPUT:
        extra["scaling"] = asdict(model.scaling)
    return ModelArchive(
        backend=backend,
        weights=weights,
        **_experiment(model, masks[0]),
        others=tuple(ArchivedExperiment(**_experiment(*pair)) for pair in zip(models[1:], masks[1:], strict=True)),
        params=_legacy_snapshot(model, config),
        configs={"training": to_json(config_to_dict(config)), **extra},
        versions={"ptychopinn": str(version_of("ptycho")), **versions},
        probe_mask=model.options.mask_array,
    )


def _legacy_snapshot(model: Any, config: TrainingConfig) -> dict[str, Any]:
    """What `params.cfg` holds after a training with these settings, all but the probe, which JSON cannot hold."""
    snapshot: dict[str, Any] = dict(params.REPORTED)
    update_legacy_dict(snapshot, config)
    snapshot |= {"intensity_scale": model.intensity_scale, "input_scale": model.input_scale}
    return json_snapshot(snapshot | dict(model.labels))


def _experiment(model: Any, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """The fields of ArchivedExperiment."""
    return {
        "probe": model.probe.file_units(masked=False),
        "log_intensity_scale": math.log(model.intensity_scale),
        "intensity_scale_nominal": model.nominal_intensity_scale,
        "input_scale": model.input_scale,
        "mask": mask,
        "scan": dict(model.scan),
    }


def choose_experiment(archive: ModelArchive, number: int | None, probe: NDArray[Any] | None) -> ModelArchive:
    """The archived model as one experiment has it.

    Args:
        archive: of a network that was trained with one experiment or several.
        number: of the experiment, from 0; None takes the one whose probe is most like that of the scan.
        probe: (N, N) or (M, N, N) of the scan to reconstruct; None where there is none: the first experiment.

    Raises:
        ConfigError: there is no such experiment.
    """
    if number is None:
        number = most_alike([experiment.probe for experiment in archive.experiments], probe)
    return archive.of_experiment(number)


def most_alike(probes: Sequence[NDArray[Any]], probe: NDArray[Any] | None) -> int:
    """The number of the experiment whose probe overlaps most with that of a scan; 0 where there is no choice."""
    if len(probes) == 1 or probe is None:
        return 0
    overlaps = [probe_overlap(known, probe) for known in probes]
    number, shown = int(np.argmax(overlaps)), ", ".join(f"{overlap:.3f}" for overlap in overlaps)
    logger.info("experiment %d of the model: its probe is most like that of the scan (overlaps %s)", number, shown)
    return number


def archived_arguments(archive: ModelArchive, source: str) -> dict[str, Any]:
    """What the archived model is made with, by the names that both `PtychoPINN` have for it; its scale stays.

    Raises:
        ArchiveError: naming `source`, where the archive lacks a part.
    """
    return {
        "config": archived_config(archive, source),
        "probe": archive.probe,
        "input_scale": archive.input_scale,
        "intensity_scale": archive.intensity_scale_nominal,
        "mask": archive.mask,
        "intensity_scale_trainable": False,
        "options": archived_options(archive, source),
        "scaling": archived_scaling(archive, source),
    }


def archived_config(archive: ModelArchive, source: str) -> ModelConfig:
    """The settings of the archived model.

    Raises:
        ArchiveError: naming `source`, where the archive has none.
    """
    try:
        return config_from_dict(ModelConfig, archive.configs["training"]["model"])
    except KeyError as error:
        raise ArchiveError(f"{source}: the configuration of the model is missing ({error}): save it again") from error


def archived_options(archive: ModelArchive, source: str) -> NetworkOptions:
    """The network options of the archived model.

    Raises:
        ArchiveError: naming `source`, where an option is unknown or has a value that is not allowed.
    """
    try:
        return options_from_dict(archive.configs.get("network", {}), archive.probe_mask, source)
    except ConfigError as error:
        raise ArchiveError(f"{error}: update this library, or save the model again") from error


def archived_scaling(archive: ModelArchive, source: str) -> InputScaling:
    """How the input of the archived model was scaled.

    Raises:
        ArchiveError: naming `source`, where it is not known here.
    """
    try:
        return InputScaling(**archive.configs.get("scaling", {}))
    except TypeError as error:
        raise ArchiveError(f"{source}: scaling is not known ({error}): update this library") from error


def checked_weights(spec: NetworkSpec, weights: dict[str, NDArray[Any]], source: str) -> dict[str, NDArray[Any]]:
    """Give back `weights` when their names and shapes are just those of a spec.

    Raises:
        ArchiveError: naming `source` and the first array that is missing, unexpected or of another shape.
    """
    expected = spec.parameters() | spec.statistics()
    for name in sorted(expected.keys() ^ weights.keys()):
        state = "is missing" if name in expected else "is unexpected"
        raise ArchiveError(f"{source}: weight {name!r} {state} for N={spec.N}: the archive is of another network")
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise ArchiveError(f"{source}: weight {name!r} must be of shape {shape}, found {weights[name].shape}")
    return weights


def restore_params(archive: ModelArchive, intensity_scale: float) -> None:
    """Write an archive's snapshot and the computed keys `probe`, `intensity_scale`, `input_scale` to `params.cfg`."""
    computed = {"probe": archive.probe, "intensity_scale": intensity_scale, "input_scale": archive.input_scale}
    params.mirror(**archive.params | computed)
