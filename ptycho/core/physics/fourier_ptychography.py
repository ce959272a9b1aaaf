"""Fourier ptychography: images of a sample that is lit from many angles, as ptychography of its spectrum.

An LED lights the sample o by a plane wave of frequency f_j (cycles per metre), and a microscope passes what falls
into its pupil P, a disk of the radius NA / wavelength:

    image_j(r) = |F^-1[P(f) S(f - f_j)]|^2,   S = F[o]

In pixels of the spectrum, `1 / (N p)` each for images of N pixels of the side p in the sample plane, that is the
forward model of any scan here with the conjugates of the pupil as the probe and of the spectrum as the object: the
forward transform of a conjugate is the conjugate of the inverse transform, and a detector does not see the difference.
So images are taken as they are, and the position of an LED is L/2 - f_j N p in a spectrum of L pixels, whose zero
frequency is at L/2. An LED at (X, Y) over a sample at the distance r shines along (-X, -Y): `f_j = -(X, Y) / (r
wavelength)`.

Source: G. Zheng, R. Horstmeyer, C. Yang, Nature Photonics 7, 739 (2013).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.scan.scan import next_fast_side
from ptycho.errors import ConfigError, DataError

__all__ = ["KEY", "Microscope", "bright_field_start", "pupil_functions", "sample_of", "spectrum_of"]

Array = NDArray[Any]

KEY = "fourier_ptychography"
"""The entry of the metadata of a result whose object is a sample and whose patterns are its images."""
DEGREE = 8
"""Of the polynomials that a pupil is made of: 45 of them follow aberrations up to about a radian rms."""
SEEN = 0.5
"""Light on a pixel of the spectrum, relative to the middle of one clear pupil, from which on it is known: what edges of
pupils alone see is noise."""
INSIDE = 0.9
"""Part of the pupil's radius within which an LED shines into the objective."""


@dataclass(frozen=True)
class Microscope:
    """What makes the images.

    Raises:
        ConfigError: a number that is not positive and finite, or an aperture of 1 or more in the air.
    """

    na: float
    """Numerical aperture of the objective."""
    magnification: float
    wavelength_m: float
    camera_pixel_m: float

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name}: expected a number above 0, found {value}; correct it")

    @property
    def pixel_m(self) -> float:
        """p, the side of a camera pixel in the plane of the sample, metres."""
        return self.camera_pixel_m / self.magnification

    def radius_px(self, n: int) -> float:
        """Radius of the pupil in pixels of the spectrum of n pixels, `NA N p / wavelength`.

        Raises:
            ConfigError: the pixels do not sample what the objective passes.
        """
        radius = self.na * n * self.pixel_m / self.wavelength_m
        if radius > n / 2 - 1:
            raise ConfigError(
                f"camera pixel: expected at most wavelength / (2 NA) = {self.wavelength_m / (2 * self.na):.3g} m in "
                f"the plane of the sample, found {self.pixel_m:.3g}; check --na, --magnification, --detector-pixel-um "
                "and --wavelength-nm"
            )
        if radius < 2:
            raise ConfigError(
                f"pupil: expected a radius of 2 pixels of the spectrum or more, found {radius:.2g}; take a larger "
                "--region or check the optics"
            )
        return radius

    def disk(self, n: int) -> NDArray[np.float64]:
        """(n, n) the pupil without aberrations: 1 inside, 0 outside, and between them on its edge."""
        k = np.arange(n) - n // 2
        return np.clip(self.radius_px(n) - np.hypot(k[:, None], k[None, :]) + 0.5, 0, 1)

    def places(self, sines: Array, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
        """Positions x and y (k,) in the spectrum, and its side L, which holds every pupil with some room.

        Args:
            sines: (k, 2) direction of each LED as seen from the sample, X / r and Y / r.
            n: pixels of an image.

        Raises:
            DataError: no finite directions, or sines of 1 and more.
        """
        if sines.ndim != 2 or sines.shape[1] != 2 or not len(sines):
            raise DataError(f"LEDs: expected two direction sines each, found shape {sines.shape}; correct the table")
        if not np.isfinite(sines).all() or np.hypot(*sines.T).max() >= 1:
            raise DataError("LEDs: expected directions in front of the sample, found others; check unit and height")
        away = sines * n * self.pixel_m / self.wavelength_m
        side = next_fast_side(n + 2 * (math.ceil(float(np.abs(away).max())) + ROOM))
        return side // 2 + away[:, 0], side // 2 + away[:, 1], side


ROOM = 6
"""Pixels around the pupils of all LEDs, where positions may move to."""


def pupil_functions(disk: NDArray[np.float64], degree: int = DEGREE) -> NDArray[np.float64]:
    """Orthonormal functions (K, n, n) that a pupil is made of: a disk (n, n) times polynomials up to a degree.

    The products of Legendre polynomials in x and y whose degrees sum to no more than `degree`, orthonormal on the
    pixels; with complex factors they make amplitude and aberrations, Zernike's up to that order among them.
    """
    middle, inside = disk.shape[0] // 2, disk.ravel() > 0
    reach = max(np.abs(np.argwhere(disk > 0) - middle).max(), 1)
    lines = np.polynomial.legendre.legvander((np.arange(disk.shape[0]) - middle) / reach, degree)
    orders = [(row, column) for row in range(degree + 1) for column in range(degree + 1 - row)]
    products = [(disk * np.outer(lines[:, row], lines[:, column])).ravel()[inside] for row, column in orders]
    orthonormal, _ = np.linalg.qr(np.stack(products, axis=1))
    functions = np.zeros((orthonormal.shape[1], disk.size))
    functions[:, inside] = orthonormal.T
    return functions.reshape(-1, *disk.shape)


def sample_of(spectrum: Array) -> Array:
    """The sample (L, L) of an object that is its conjugate spectrum; unitary, both centred at index L/2."""
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(spectrum), norm="ortho")).conj()


def spectrum_of(sample: Array) -> Array:
    """The object that stands for a sample (L, L): the conjugate of its spectrum; the inverse of `sample_of`."""
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(sample), norm="ortho")).conj()


def bright_field_start(amplitude: Array, microscope: Microscope, side: int) -> tuple[Array, Array]:
    """The spectrum (L, L) and the pupil (n, n) to begin with, of the amplitude (n, n) of a bright-field image.

    The sample has the amplitude of the image over its mean, no phase, and nothing beyond the pupil; the pupil has no
    aberrations, and is as bright as the image.
    """
    n = amplitude.shape[-1]
    mean, margin = float(amplitude.mean()), (side - n) // 2
    if not mean > 0:
        raise DataError("images: expected light in the bright field, found none; check which LED is in the middle")
    disk = microscope.disk(n)
    spectrum = np.zeros((side, side), np.complex128)
    inner = slice(margin, margin + n)
    spectrum[inner, inner] = spectrum_of(amplitude / mean) * (disk > 0) * (side / n)
    return spectrum, (mean * n / side) * disk.astype(np.complex128)
