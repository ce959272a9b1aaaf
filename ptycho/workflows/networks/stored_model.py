"""Trained networks on disk as a scan takes them: the archive that is named, or the one that comes with the package.

A model is a network with the probe, the mask and the scales of an experiment. That of the package was trained on many
simulated ones (scripts/training/universal_weights.py), and all of its physics is in its gradients: so it is made for a
scan, with the probe, N, the mask, the scales and the dose of that.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho.config.files import config_to_dict
from ptycho.config.options import NEUTRAL
from ptycho.core.archive import ModelArchive, load_archive, to_json
from ptycho.core.doctor.positions import neighbour_distance
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.simulation.scan_paths import linear_overlap
from ptycho.errors import ConfigError
from ptycho.networks.archiving import archived_config, archived_options, choose_experiment
from ptycho.networks.registry import PATTERN_SIZES
from ptycho.networks.universal import training_ranges, weights_file
from ptycho.raw_data import RawData

__all__ = [
    "archive_for",
    "beyond_training",
    "is_universal",
    "model_path",
    "shaped_like",
    "started_from",
    "starting_weights",
]


def model_path(config: InferenceConfig) -> Path:
    """The model of a configuration (`weights_file`).

    Raises:
        ConfigError: the path is empty.
    """
    if config.model_path == Path():
        raise ConfigError("model_path is empty: name the folder or the zip of the trained model, or leave it out")
    return weights_file(config.model_path)


def archive_for(path: Path, experiment: int | None, scan: RawData | None) -> ModelArchive:
    """The archived model as an experiment has it, or of many simulated ones as a scan does.

    Args:
        path: the archive (`weights_file`).
        experiment: number of the one of several (`choose_experiment`).
        scan: to reconstruct.

    Raises:
        MissingFileError, ArchiveError: no sound archive.
        ConfigError: no such experiment, or no scan for weights that have no probe of their own.
    """
    archive = load_archive(weights_file(path))
    if not is_universal(archive):
        return choose_experiment(archive, experiment, None if scan is None else scan.probeGuess)
    if scan is None:
        raise ConfigError(
            f"{path}: expected a scan, whose probe these weights take, found none: reconstruct with a scan, or name a "
            "model that one trained"
        )
    return _of_scan(archive, scan.fitted(sizes=PATTERN_SIZES) if scan.N not in PATTERN_SIZES else scan, str(path))


def _of_scan(archive: ModelArchive, scan: RawData, source: str) -> ModelArchive:
    training = archive.configs["training"]
    model = replace(archived_config(archive, source), N=scan.N)
    scales = scan.scales(scan.photons(TrainingConfig().nphotons if scan.units == "amplitude" else None))
    return replace(
        archive,
        probe=as_modes(np.asarray(scan.probeGuess, np.complex64)),
        log_intensity_scale=math.log(scales.intensity_scale),
        intensity_scale_nominal=scales.intensity_scale,
        input_scale=scales.input_scale,
        mask=np.asarray(scan.mask) if scan.mask is not None and scan.mask.ndim == 2 else None,
        configs={**archive.configs, "training": {**training, "model": to_json(config_to_dict(model))}},
    )


def starting_weights(path: Path) -> tuple[dict[str, NDArray[Any]], str]:
    """The weights of an archive (`weights_file`) by canonical name for a training to begin with, and whose they are.

    Raises:
        MissingFileError, ArchiveError: no sound archive.
    """
    file = weights_file(path)
    return load_archive(file).weights, str(path)


def started_from(path: Path, *scans: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is known of the scans that train models, each with the archive whose weights the training begins with."""
    file = weights_file(path)
    simulated = (load_archive(file).scan.get("source") or {}).get("simulated")
    begun = {"file": file.name, **({} if simulated is None else {"simulated": simulated})}
    return [{**scan, "source": {**(scan.get("source") or {}), "started_from": begun}} for scan in scans]


def shaped_like(path: Path, config: TrainingConfig, stated: Container[str]) -> str:
    """Fill in what a command line left open about the network by an archive whose weights a training begins with.

    Args:
        path: the archive.
        config: changed in place: every setting of the model but N, and the options of the network.
        stated: names of the settings that were given.

    Returns:
        One line on what was taken.
    """
    archive, source = load_archive(weights_file(path)), str(path)
    theirs = archived_config(archive, source)
    for one in fields(ModelConfig):
        if one.name != "N" and one.name not in stated:
            setattr(config.model, one.name, getattr(theirs, one.name))
    if config.network == NEUTRAL:
        config.network = archived_options(archive, source)
    return f"From {path}: architecture {config.model.architecture}, gridsize {config.model.gridsize}"


def is_universal(archive: ModelArchive) -> bool:
    """Whether a network was trained on many simulated experiments, and so belongs to none."""
    return bool(training_ranges(archive.scan))


def beyond_training(ranges: Mapping[str, Any], scan: RawData) -> str:
    """What of a scan lies outside of these ranges, in one clause; empty where nothing does."""
    probe = as_modes(np.asarray(scan.probeGuess))
    step = neighbour_distance(scan.xcoords, scan.ycoords)
    told = scan.units == "counts" or "nphotons" in (scan.metadata or {})
    photons = scan.photons() if told else None
    known = {"overlap": linear_overlap(probe, step), "photons": photons, "modes": len(probe)}
    outside = [
        f"{name} {value:.3g} (trained from {ranges[name][0]:.3g} to {ranges[name][-1]:.3g})"
        for name, value in known.items()
        if value is not None and not ranges[name][0] <= value <= ranges[name][-1]
    ]
    if scan.N not in ranges["N"]:
        outside.append(f"N={scan.N} (trained with {' and '.join(map(str, ranges['N']))})")
    return ", ".join(outside)
