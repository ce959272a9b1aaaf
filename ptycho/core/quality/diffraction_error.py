"""How well an object and a probe explain the patterns of a scan."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.diffraction import as_modes, diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.scaling import Units, frame_blocks, to_amplitude
from ptycho.core.scan.stream import Frames
from ptycho.errors import DataError

__all__ = ["diffraction_error"]

Array = NDArray[Any]


def diffraction_error(
    object: Array,
    probe: Array,
    xcoords: Array,
    ycoords: Array,
    frames: Frames,
    units: Units,
    mask: Array | None = None,
) -> float:
    """Relative Fourier error `sum (|F| - A)^2 / sum A^2` over all patterns of a scan, a block at a time.

    Args:
        object: complex (H, W).
        probe: (N, N) or (M, N, N), in the unit of the amplitudes; the `fourier` sub-pixel rule holds.
        xcoords, ycoords: (n,) centres of the patches, pixels of `object`.
        frames: (n, N, N) measured patterns.
        units: what they hold.
        mask: (N, N) or (n, N, N), True where valid.

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
        gap = np.sqrt(diffract(modes, patches, dx, dy)) - amplitude
        misfit += float(np.sum(gap**2, where=valid))
        energy += float(np.sum(amplitude**2, where=valid))
    if not energy > 0:
        raise DataError("diffraction error: expected light in valid pixels, found none; check the scan and its mask")
    return misfit / energy
