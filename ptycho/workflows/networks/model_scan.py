"""A scan as a trained network takes it, and how far it is from what that was trained on."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from ptycho.config.config import InferenceConfig
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.probes import probe_overlap
from ptycho.networks.universal import training_ranges
from ptycho.raw_data import RawData
from ptycho.workflows.backend import ScanModel
from ptycho.workflows.networks.training_data import at_network_size, prepared_scan

__all__ = ["scan_for"]

logger = logging.getLogger(__name__)

ENERGY_WARNING = 2.0
"""Times the energy of the patterns that were trained on, or as many times less."""
PROBE_WARNING = 0.9
"""Overlap of the scan's probe with that of the network."""


def scan_for(model: ScanModel, data: RawData, config: InferenceConfig) -> tuple[RawData, InferenceConfig]:
    """A scan as a model takes it, and the configuration with the model's own settings; its probe has the scan's energy
    then.
    """
    settings = replace(config, model=model.config)
    return _prepared(model, data, settings), settings


def _prepared(model: ScanModel, data: RawData, config: InferenceConfig) -> RawData:
    """The scan as the model takes it; the model's probe has its energy then."""
    scan = prepared_scan(at_network_size(data, model.config.N), config, model.scaling.straight_probe)
    if not training_ranges(model.scan):
        _compare_with_training(model, scan)
    model.probe.take_energy_of(np.asarray(scan.probeGuess))
    return scan


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
            "training refined the probe of this set-up (--find-probe)",
            overlap,
        )
