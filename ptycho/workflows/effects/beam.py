"""A beam that fell or rose through a scan, by the brightness of the patterns in the order they were taken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from ptycho.core.doctor.beam import beam_change
from ptycho.raw_data import RawData

__all__ = ["beam_trend"]

LOOKED_AT, BATCH = 512, 32
"""Patterns looked at for the trend, and at once."""
WINDOW = 0.1
"""Share of the patterns whose median the trend is, so that bright and dark places of the sample do not follow it."""


def beam_trend(data: RawData) -> NDArray[np.float64] | None:
    """Flux of the beam at every pattern of a scan (n,), mean 1; None where the brightness does not follow the order.

    Of several scans with probes of their own, which have their doses, that of each by itself.
    """
    if data.scan_probes is not None and data.scans:
        found = [beam_trend(scan) for scan in data.scans]
        if all(one is None for one in found):
            return None
        return np.concatenate(
            [np.ones(len(scan)) if one is None else one for scan, one in zip(data.scans, found, strict=True)]
        )
    some = np.unique(np.linspace(0, len(data) - 1, LOOKED_AT).round().astype(int))
    batches = np.array_split(some, max(1, len(some) // BATCH))
    brightness = np.concatenate(
        [np.square(data.amplitude(batch), dtype=np.float64).sum(axis=(1, 2)) for batch in batches]
    )
    if data.background is not None:
        valid = np.broadcast_to(data.valid_mask, (len(data), data.N, data.N))[some]
        brightness -= np.einsum("jyx,yx->j", valid, data.background)
    if beam_change(brightness) == 1.0:
        return None
    lit = brightness > 0
    window = 2 * int(WINDOW * np.count_nonzero(lit) / 2) + 1
    smooth = median_filter(np.log(brightness[lit]), window, mode="nearest")
    flux = np.exp(np.interp(np.arange(len(data)), some[lit], smooth))
    return np.asarray(flux / flux.mean())
