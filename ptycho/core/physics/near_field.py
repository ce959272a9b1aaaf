"""Waves on their way to a near detector: the angular spectrum over a distance, in pixels.

A detector near the sample sees the shadow of a sample of its own size, with the fringes of a propagation over the
distance z: every plane wave of the exit wave, of frequency f (cycles per pixel), keeps its amplitude and turns by the
phase

    -2 pi f^2 / (F (1 + sqrt(1 - (w f)^2))),   F = p^2 / (wavelength z),   w = wavelength / p

with the pixel size p of object and detector: `-pi f^2 / F`, Fresnel's, where w is small. A point source at a distance
z1 in front of the sample magnifies the shadow on a detector at a distance z2 behind it by `M = (z1 + z2) / z1`. Up to
the curvature of the beam, which the intensity does not show, that is the pattern of a parallel beam with the pixel
`p / M` at the distance `z2 / M` (D. Paganin, Coherent X-Ray Optics, Oxford 2006, section 1.5 and appendix B: the
Fresnel scaling theorem).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.errors import DataError

__all__ = ["KEY", "NearField", "carried", "fresnel_number"]

Array = NDArray[Any]

KEY = "near_field"
"""The entry of the metadata of a scan that tells."""


@dataclass(frozen=True)
class NearField:
    """How waves go from the sample to a near detector, whose pixels are those of the object.

    Raises:
        DataError: a number that is not positive and finite, or a wavelength of two pixels or more.
    """

    fresnel_number: float
    """F of one pixel, `p^2 / (wavelength z)`: a wave spreads over about 1/F pixels. Negative: back along the beam."""
    wavelength_px: float = 0.0
    """w, the wavelength in pixels; 0 takes Fresnel's approximation."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.fresnel_number) or not self.fresnel_number:
            raise DataError(f"near field: expected a finite Fresnel number, not 0, found {self.fresnel_number}")
        if not 0 <= self.wavelength_px < 1.4:
            raise DataError(
                f"near field: expected a wavelength below 1.4 pixels, found {self.wavelength_px:.3g}; check the energy "
                "and the pixel size"
            )

    @classmethod
    def of(cls, metadata: dict[str, Any] | None) -> NearField | None:
        """What the metadata of a scan say, under `near_field`; None: they are of the far field.

        Raises:
            DataError: something else stands there.
        """
        found = (metadata or {}).get(KEY)
        if found is None or found is False:
            return None
        try:
            return cls(**{name: float(value) for name, value in found.items()})
        except (AttributeError, TypeError, ValueError) as error:
            raise DataError(
                f"metadata near_field: expected fresnel_number and wavelength_px, found {found!r}; write them anew"
            ) from error

    @classmethod
    def from_array(cls, values: Array) -> NearField:
        """What `as_array` gave.

        Raises:
            DataError: other values.
        """
        if values.shape != (2,) or values.dtype.kind != "f":
            raise DataError(f"near field: expected two numbers, found {values.dtype} of shape {values.shape}")
        return cls(*values.tolist())

    def as_array(self) -> NDArray[np.float64]:
        """(2,) Fresnel number and wavelength, pixels."""
        return np.array([self.fresnel_number, self.wavelength_px])

    def noted(self) -> dict[str, Any]:
        """The entry of the metadata that `of` reads."""
        return {KEY: {"fresnel_number": self.fresnel_number, "wavelength_px": self.wavelength_px}}

    def binned(self, factor: int) -> NearField:
        """The same with pixels that are `factor` times as large."""
        return NearField(self.fresnel_number * factor**2, self.wavelength_px / factor)

    def transfer_function(self, n: int) -> NDArray[np.complex128]:
        """(n, n) what the spectrum of a wave is multiplied with, zero frequency first; its modulus is 1.

        Raises:
            DataError: the phase turns by more than pi from one of n frequencies to the next.
        """
        if abs(self.fresnel_number) * n < 1:
            raise DataError(
                f"near field: expected p^2/(wavelength z) of at least 1/{n} for patterns of {n} pixels, found "
                f"{self.fresnel_number:.3g}: the pixels do not sample it; take the far field, or smaller pixels"
            )
        return np.exp(1j * self.turns(n))

    def turns(self, n: int) -> NDArray[np.float64]:
        """(n, n) phase of the transfer function, radians, proportional to the distance."""
        f = np.fft.fftfreq(n) ** 2
        square = f[:, None] + f[None, :]
        depth = 1 + np.sqrt(1 - self.wavelength_px**2 * square)
        return -2 * np.pi / self.fresnel_number * square / depth

    def stretched(self, factor: float) -> NearField:
        """The same over so many times the distance."""
        return replace(self, fresnel_number=self.fresnel_number / factor)

    @property
    def spread_px(self) -> int:
        """Pixels by which the finest waves that the pixels sample go astray, `1 / (2 F)`."""
        return math.ceil(0.5 / abs(self.fresnel_number))


def carried(waves: Array, near_field: NearField, dx: Array | float = 0.0, dy: Array | float = 0.0) -> Array:
    """Waves (..., n, n) at the detector, moved by (dx, dy) pixels, which broadcast against the leading axes.

    Unitary; the adjoint goes by the conjugate of the transfer function and (-dx, -dy).
    """
    n = waves.shape[-1]
    f = np.fft.fftfreq(n)
    along = [np.asarray(shift, float)[..., None] * f for shift in (dy, dx)]
    transfer = near_field.transfer_function(n) * np.exp(-2j * np.pi * (along[0][..., :, None] + along[1][..., None, :]))
    dtype = np.result_type(waves, np.complex64)
    return np.fft.ifft2(np.fft.fft2(waves) * transfer.astype(dtype, copy=False))


def fresnel_number(wavelength_m: float, distance_m: float, pixel_m: float, magnification: float = 1.0) -> float:
    """F of a pixel: of the effective pixel `p / M` at the effective distance `z2 / M`.

    >>> round(fresnel_number(1e-10, 1.0, 55e-6, 300.0), 4)
    0.1008
    """
    return pixel_m**2 / (wavelength_m * distance_m * magnification)
