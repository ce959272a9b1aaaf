"""Where the zero frequency of a scan's patterns is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.diffraction import as_modes, far_field, propagate_back
from ptycho.core.quality.registration import register_subpixel, shift_subpixel
from ptycho.core.scaling import Units
from ptycho.core.scan.stream import Frames

__all__ = ["FITS", "PatternCentre", "at_corner", "find_centre", "mean_intensity", "probe_offset", "probe_shift"]

Array = NDArray[Any]

_SPREAD = 0.15
"""Length of the mean direction on the torus, 1 for a point, up to which light is everywhere and has no centre."""
_CORNER, _ABOUT = 0.4, 2.5
"""Share of both sides from which on an offset is from the corner, and pixels within which it is from [0, 0]."""
FITS = 0.7
"""Correlation of the mean pattern with the far field of the probe from which on the latter tells the centre."""


@dataclass(frozen=True)
class PatternCentre:
    """How far the zero frequency lies from [H/2, W/2]; pairs are (y, x), pixels, modulo H and W in (-H/2, H/2]."""

    by_probe: tuple[float, float] | None
    """Shift of the mean pattern against the far field of the probe: the peak of their circular correlation; None
    without a probe."""
    by_mass: tuple[float, float]
    """Circular centre of mass of the mean pattern, blind to the probe."""
    likeness: float | None
    """Correlation of the two (roots of intensity) at that shift, 1 where the object changes nothing; None without."""

    @property
    def fits(self) -> bool:
        """Whether the probe tells the centre."""
        return self.likeness is not None and self.likeness > FITS

    @property
    def offset(self) -> tuple[float, float]:
        """By the probe where that fits, else by mass."""
        return self.by_mass if self.by_probe is None or not self.fits else self.by_probe

    def shift(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(dy, dx), whole pixels, that bring the zero frequency of patterns of this shape to [H/2, W/2].

        From the corner exactly half of the sides where it lies about there, as a transform leaves it at [0, 0].
        """
        return _back(self.offset, shape)


def at_corner(offset: tuple[float, float], shape: tuple[int, ...]) -> bool:
    """Whether a zero frequency (dy, dx) from [H/2, W/2] of patterns (H, W) is at their corner."""
    return all(abs(by) > _CORNER * side for by, side in zip(offset, shape, strict=True))


def mean_intensity(frames: Frames, units: Units, mask: Array | None = None) -> NDArray[np.float64]:
    """Mean intensity (N, N) over the frames in which a pixel is valid and finite; 0 where it never is."""
    total, count = np.zeros(frames.shape[1:]), np.zeros(frames.shape[1:])
    for block, values in frames.blocks():
        wide = values.astype(np.float64)
        good = np.isfinite(wide)
        if mask is not None:
            good &= mask[block] if mask.ndim == 3 else mask
        wide = np.where(good, wide, 0)
        total += np.sum(wide**2 if units == "amplitude" else wide, axis=0)
        count += good.sum(axis=0)
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0)


def probe_offset(probe: Array) -> tuple[float, float]:
    """(dy, dx) in pixels of the light of a probe, (R, C) or (M, R, C), from [R/2, C/2], by its mass on a torus."""
    return _circular_mass(np.asarray(np.sum(np.abs(as_modes(probe)) ** 2, axis=0, dtype=np.float64)))


def probe_shift(probe: Array) -> tuple[int, int]:
    """(dy, dx), whole pixels, that bring the light of a probe to its middle, from the corner half of its sides."""
    return _back(probe_offset(probe), probe.shape[-2:])


def _back(offset: tuple[float, float], shape: tuple[int, ...]) -> tuple[int, int]:
    half = (shape[0] // 2, shape[1] // 2)
    if all(abs(abs(by) - side) <= _ABOUT for by, side in zip(offset, half, strict=True)):
        return half
    return -round(offset[0]), -round(offset[1])


def find_centre(mean: Array, probe: Array | None) -> PatternCentre:
    """Find the zero frequency in a mean pattern (H, W) by the probe, (R, C) or (M, R, C), and without it.

    A probe of fewer pixels than the patterns have, or that is not finite, tells nothing.
    """
    probe = _on_frame(probe, mean.shape)
    if probe is None:
        return PatternCentre(None, _circular_mass(mean), None)
    model = np.sum(np.abs(far_field(as_modes(probe).astype(np.complex128))) ** 2, axis=0)
    # roots, so that a few bright pixels do not decide alone
    expected, seen = np.sqrt(model), np.sqrt(np.maximum(mean, 0))
    dy, dx = register_subpixel(expected, seen, upsample=10)
    norms = np.linalg.norm(expected) * np.linalg.norm(seen)
    common = float(np.vdot(shift_subpixel(expected, dy, dx), seen))
    return PatternCentre((dy, dx), _circular_mass(mean), float(common / norms) if norms > 0 else 0.0)


def _on_frame(probe: Array | None, shape: tuple[int, ...]) -> Array | None:
    """The probe on the sides of the patterns, for its far field; None where it belongs to fewer pixels than these."""
    if probe is None or not np.isfinite(probe).all():
        return None
    if any(have < side for have, side in zip(probe.shape[-2:], shape, strict=True)):
        return None
    first = [have // 2 - side // 2 for have, side in zip(probe.shape[-2:], shape, strict=True)]
    field = far_field(as_modes(probe))[..., first[0] : first[0] + shape[0], first[1] : first[1] + shape[1]]
    return propagate_back(field)


def _circular_mass(mean: Array) -> tuple[float, float]:
    """Centre of mass on a torus, from [N/2, N/2]: the phase of the first Fourier coefficient along each axis."""

    def along(line: Array) -> float:
        n = len(line)
        wave = np.exp(2j * np.pi * (np.arange(n) - n // 2) / n)
        mean = np.sum(line * wave)
        return float(np.angle(mean) * n / (2 * np.pi)) if abs(mean) > _SPREAD * line.sum() else 0.0

    return along(mean.sum(axis=1)), along(mean.sum(axis=0))
