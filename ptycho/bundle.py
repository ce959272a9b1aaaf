"""What both backends do alike between a model and its archive; loads no framework.

A model here is anything with the attributes that both `PtychoPINN` have: `options`, `intensity_scale`, `input_scale`,
`nominal_intensity_scale`, and a `probe` layer with `file_units`.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ptycho
from ptycho import params
from ptycho.architecture import NetworkSpec
from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.config.files import config_from_dict
from ptycho.core.archive import Backend, ModelArchive, json_snapshot, to_json
from ptycho.core.scale_options import NEUTRAL_INPUT, InputScaling
from ptycho.errors import ArchiveError, ConfigError
from ptycho.network_options import NetworkOptions, options_from_dict, options_to_dict

__all__ = [
    "archived_config",
    "archived_options",
    "archived_scaling",
    "checked_weights",
    "make_archive",
    "restore_params",
]


def make_archive(
    backend: Backend,
    model: Any,
    weights: dict[str, NDArray[Any]],
    mask: NDArray[np.bool_],
    config: TrainingConfig,
    versions: dict[str, str],
) -> ModelArchive:
    """A trained model as data: its weights by canonical name, probe, scales, mask, settings and `params.cfg`.

    `versions` are those of the backend's libraries; the version of this library is added. Options that are not at
    their defaults are the configuration `network`, a mask of the probe that is an array is one of the arrays.
    """
    options = options_to_dict(model.options)
    extra = {"network": to_json(options)} if options else {}
    if model.scaling != NEUTRAL_INPUT:
        extra["scaling"] = asdict(model.scaling)
    return ModelArchive(
        backend=backend,
        weights=weights,
        probe=model.probe.file_units(masked=False),
        log_intensity_scale=math.log(model.intensity_scale),
        intensity_scale_nominal=model.nominal_intensity_scale,
        input_scale=model.input_scale,
        mask=mask,
        params=json_snapshot(params.cfg),
        configs={"training": to_json(asdict(config)), **extra},
        versions={"ptychopinn": ptycho.__version__, **versions},
        probe_mask=model.options.mask_array,
    )


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
    params.cfg.update(archive.params)
    params.cfg.update(probe=archive.probe, intensity_scale=intensity_scale, input_scale=archive.input_scale)
