"""A scan as several of fewer photons, independent of each other: what one was made of, another can judge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ptycho.core.files.scratch import scratch_array
from ptycho.core.scaling import frame_blocks
from ptycho.core.scan_edit.thinning import PhotonShares
from ptycho.errors import DataError
from ptycho.raw_data import RawData
from ptycho.workflows.trust import NOMINAL_PHOTONS, photon_scale

__all__ = ["photon_parts"]

_WHOLE = 1e-3
"""How far the root of a count may be off, relative: counts that were stored as the roots of single precision."""


def photon_parts(data: RawData, shares: Sequence[float] = (0.5, 0.5), seed: int = 0) -> tuple[RawData, ...]:
    """Share the photons of every pattern out (`ptycho.core.scan_edit.thinning`).

    Each part has all patterns and positions of the scan, and of its light a share p: amplitudes `sqrt(n / (p s))` of
    its n photons, s the photons per unit of squared amplitude, so that the same object and probe predict it, with the
    dose in its metadata. A background that the scan knows is that of the parts.

    Args:
        data: a scan in counts, or of a stated dose (`nphotons`).
        shares: above 0, of the sum 1.
        seed: of the draw.

    Returns:
        A scan in amplitudes for every share; above 256 MiB it is on disk.

    Raises:
        DataError: a scan that does not tell how many photons it has. ConfigError: other shares.
    """
    drawn = PhotonShares(shares, seed)
    scale, dose = photon_scale(data, NOMINAL_PHOTONS)
    if dose == "nominal":
        raise DataError(
            f"{data.name}: expected counts, or amplitudes with the dose in the metadata (nphotons), found neither: "
            "photons cannot be shared out; state the dose"
        )
    frames = [scratch_array((len(data), data.N, data.N), np.float32) for _ in drawn.shares]
    counted = np.zeros(len(frames))
    for block in frame_blocks(len(data), data.N**2):
        photons = _whole(scale * data.amplitude(np.arange(block.start, block.stop)).astype(np.float64) ** 2)
        for k, part in enumerate(drawn.split(photons)):
            counted[k] += part.sum()
            frames[k][block] = np.sqrt(part / (drawn.shares[k] * scale))
    return tuple(
        _part(data, values, mean, share, seed)
        for values, mean, share in zip(frames, counted / len(data), drawn.shares, strict=True)
    )


def _whole(photons: np.ndarray) -> np.ndarray:
    """Photons, whole where what they are off may come from single precision."""
    nearest = np.rint(photons)
    return np.where(np.abs(photons - nearest) <= np.minimum(_WHOLE * np.sqrt(nearest), 0.4), nearest, photons)


def _part(data: RawData, values: np.ndarray, mean: float, share: float, seed: int) -> RawData:
    """The scan with these patterns, of so many photons."""
    made_of = data.identity.derived(f"{share:g} of its photons, drawn with seed {seed}")
    part = data.replaced(diff3d=values, units="amplitude", metadata={**(data.metadata or {}), "nphotons": float(mean)})
    part.made_of = made_of
    return part if data.background is None else part.with_recording(background=data.background)
