"""From patches to one object: phases synchronised where that explains the data better, then a weighted mean."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.diffraction import diffract
from ptycho.core.geometry import ObjectFrame
from ptycho.core.metrics import relative_fourier_error
from ptycho.core.patches import extract_rounded
from ptycho.core.stitching import probe_weight, stitch
from ptycho.core.synchronise import synchronise
from ptycho.raw_data import RawData

__all__ = ["StitchedObject", "stitch_scan"]

logger = logging.getLogger(__name__)

JUDGES = 256
"""Patterns, spread over the scan, that decide whether synchronised phases are kept."""


@dataclass(frozen=True)
class StitchedObject:
    """An object from patches, and what was decided about their phases."""

    object: NDArray[np.complex64]
    coverage: NDArray[np.float32]
    synchronised: bool
    agreement: tuple[float, float]


def stitch_scan(
    patches: NDArray[np.complex64],
    positions: NDArray[np.floating[Any]],
    data: RawData,
    probe: NDArray[np.complex64],
    frame: ObjectFrame,
) -> StitchedObject:
    """Average the patches in a frame, with the phases of the groups synchronised where the data like that better.

    Overlaps alone cannot tell: patches may agree with each other better than the true ones do. So the object is made
    both ways, and the one that predicts a sample of the measured patterns with the smaller error stays.

    Args:
        patches: (B, C, N, N) object patches of the members of each group, which share one phase.
        positions: (B, 1, 2, C) their centres (x, y), pixels of the object grid.
        data: the scan, for its patterns.
        probe: (M, N, N) modes in the unit of the scan's amplitudes; `sum |P|^2` weighs the patches.
        frame: which part of the object grid to make.
    """
    groups, members, n, _ = patches.shape
    x, y = (coords.reshape(-1) for coords in np.moveaxis(positions[:, 0], 1, 0))
    flat, weight = patches.reshape(-1, n, n), probe_weight(probe)
    found = synchronise(flat, x, y, weight, labels=np.repeat(np.arange(groups), members))
    plain, coverage = stitch(flat, x, y, weight, frame)
    chosen, synchronised = plain, False
    if found.n_edges:
        solved, _ = stitch(flat, x, y, weight, frame, phases=found.solved)
        sample = np.linspace(0, len(data) - 1, min(len(data), JUDGES)).astype(int)
        errors = [_sampled_error(image, data, probe, frame, sample) for image in (plain, solved)]
        logger.info("relative Fourier error of the stitched object: %.4f, with synchronised phases %.4f", *errors)
        if errors[1] < errors[0]:
            chosen, synchronised = solved, True
    return StitchedObject(chosen, coverage, synchronised, (found.agreement_before, found.agreement_after))


def _sampled_error(
    image: NDArray[np.complex64],
    data: RawData,
    probe: NDArray[np.complex64],
    frame: ObjectFrame,
    sample: NDArray[np.intp],
) -> float:
    """Relative Fourier error of an object on some patterns of the scan."""
    x, y = frame.local(data.xcoords[sample], data.ycoords[sample])
    patches, dx, dy = extract_rounded(image, x, y, data.N)
    mask = data.mask[sample] if data.mask is not None and data.mask.ndim == 3 else data.mask
    return relative_fourier_error(np.sqrt(diffract(probe, patches, dx, dy)), data.amplitude(sample), mask)
