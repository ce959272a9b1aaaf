"""How well an object and a probe explain the patterns of a scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.diffraction import as_modes, diffract
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.recording import PLAIN, Recording
from ptycho.core.scaling import Units, frame_blocks, to_amplitude
from ptycho.core.scan.stream import Frames
from ptycho.errors import DataError

__all__ = ["diffraction_error", "least_squares_scale"]

Array = NDArray[Any]


def diffraction_error(
    object: Array,
    probe: Array,
    xcoords: Array,
    ycoords: Array,
    frames: Frames,
    units: Units,
    mask: Array | None = None,
    near_field: NearField | None = None,
) -> float:
    """Relative Fourier error `sum (|F| - A)^2 / sum A^2` over all patterns of a scan, a block at a time.

    Args:
        object: complex (H, W).
        probe: (N, N) or (M, N, N), in the unit of the amplitudes; the `fourier` sub-pixel rule holds.
        xcoords, ycoords: (n,) centres of the patches, pixels of `object`.
        frames: (n, N, N) measured patterns.
        units: what they hold.
        mask: (N, N) or (n, N, N), True where valid.
        near_field: how waves go to a near detector; None: it is far away.

    Raises:
        DataError: numbers of positions or sizes that differ, or no light.
    """
    if len(xcoords) != len(frames) or probe.shape[-1] != frames.shape[-1]:
        found = f"{len(xcoords)} positions, a probe of {probe.shape[-1]} pixels and patterns {frames.shape}"
        raise DataError(f"diffraction error: expected parts of one scan, found {found}; name the scan of this result")
    modes = as_modes(probe)
    misfit = energy = 0.0
    for block in frame_blocks(len(frames), modes.size):
        amplitude = to_amplitude(frames.read(np.arange(block.start, block.stop)), units).astype(np.float64)
        patches, dx, dy = extract_rounded(object, xcoords[block], ycoords[block], probe.shape[-1])
        valid = np.isfinite(amplitude)
        if mask is not None:
            valid &= mask[block] if mask.ndim == 3 else mask
        gap = np.sqrt(diffract(modes, patches, dx, dy, recording=Recording(near_field=near_field))) - amplitude
        misfit += float(np.sum(gap**2, where=valid))
        energy += float(np.sum(amplitude**2, where=valid))
    if not energy > 0:
        raise DataError("diffraction error: expected light in valid pixels, found none; check the scan and its mask")
    return misfit / energy


def least_squares_scale(
    object: Array,
    probe: Array,
    positions: tuple[Array, Array],
    amplitude: Callable[[NDArray[np.intp]], NDArray[np.floating[Any]]],
    mask: Array | None = None,
    chosen: NDArray[np.intp] | None = None,
    recording: Recording = PLAIN,
) -> float:
    """The factor g for which `g object` explains the measured intensities best, a block of patterns at a time.

    `min_c sum (c |F|^2 - A^2)^2` over all patterns and valid pixels is linear in `c = g^2`, so that
    `g^2 = sum |F|^2 A^2 / sum |F|^4`: the scale is eliminated as variable projection eliminates what is linear.

    Args:
        object: complex (H, W).
        probe: (N, N) or (M, N, N), in the unit of the amplitudes; the `fourier` sub-pixel rule holds.
        positions: x and y (n,) of the centres of the patches, pixels of `object`.
        amplitude: measured amplitudes A (b, N, N) of some patterns, given their indices (b,).
        mask: (N, N) or (n, N, N), True where valid.
        chosen: indices of the patterns to look at; None: all.
        recording: of the patterns; `|F|^2` has their flux, and the background is taken from `A^2`.

    Raises:
        DataError: no light where both a pattern and its prediction could have it.

    Source: G. H. Golub and V. Pereyra, SIAM J. Numer. Anal. 10, 413 (1973).
    """
    x, y = positions
    places = np.arange(len(x)) if chosen is None else chosen
    modes = as_modes(probe)
    products = squares = 0.0
    for block in frame_blocks(len(places), modes.size):
        indices = places[block]
        patches, dx, dy = extract_rounded(object, x[indices], y[indices], probe.shape[-1])
        lit = replace(recording, background=None).of(indices)
        predicted = np.asarray(diffract(modes, patches, dx, dy, lit), np.float64)
        measured = np.square(amplitude(indices), dtype=np.float64)
        measured = measured if recording.background is None else measured - recording.background
        if mask is not None:
            predicted = np.where(mask[indices] if mask.ndim == 3 else mask, predicted, 0)
        products += float(np.sum(predicted * measured))
        squares += float(np.sum(predicted**2))
    if not (products > 0 and squares > 0):
        raise DataError("scale: expected light in measured and predicted patterns, found none; check the scan")
    return float(np.sqrt(products / squares))
