"""Do the patterns lie in the far field? In the near field each is a shadow of the sample, which moves with the scan.

A shadow moves in far fields too, where a defocused beam opens into a cone: a beam of D object pixels that lights C
pixels of the detector moves it by C/D pixels for each object pixel. In the far field D is less than the window of N
pixels. Where what is seen to move would take a beam wider than the window, far-field patterns it cannot be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ptycho.core.doctor.findings import Finding
from ptycho.core.doctor.samples import neighbourhood
from ptycho.core.doctor.statistics import ScanStatistics
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.probe_estimates import light_radius
from ptycho.core.quality.orientation import ORIENTATIONS, Orientation
from ptycho.core.scaling import frame_blocks
from ptycho.core.scan.stream import ScanStream

__all__ = ["ShadowTest", "check_field", "follow_shadows"]

Array = NDArray[Any]

_COUNT, _FEWEST, _NEIGHBOURS = 48, 12, 6
"""Patterns that are compared, without which nothing is said, and with how many of its neighbours each is."""
_SIDE = 64
"""Pixels to which a pattern is binned, about."""
_LIT = 0.02
"""Mean intensity over its maximum from which on the contrast of a pixel is looked at."""
_SPEEDS, _LEAST = 80, 1.5
"""Shifts per object pixel that are tried, and the pixels by which the longest of the shifts has to be one."""
_FINER = 25
"""Speeds tried between the neighbours of the best."""
_PERMUTATIONS = 20
_OFF = 0.1
"""Relative deviation of a magnification from what is seen that is told of."""
_LIKE, _CHANCE = 0.2, 3.0
"""Correlation of shadows that are the same, and how many times that of shadows moved at random it has to be."""
_TOO_WIDE = 2.0
"""Width of the beam over that of the window from which on it is no far field; of 20 simulated far fields and two real
ones with such shadows none is above 1.4, a real near field has 4.3."""


@dataclass(frozen=True)
class ShadowTest:
    """What moves in the patterns along with the positions."""

    correlation: float
    """Mean correlation of the contrast of neighbouring patterns, one moved as their positions differ."""
    by_chance: float
    """The same with the positions of other pairs."""
    speed: float
    """Pixels of the detector for one of the object."""
    lit: float
    """Diameter in detector pixels of the disk that holds 90 % of the light."""
    window: int
    """N."""
    pairs: int

    @property
    def width(self) -> float:
        """Diameter in object pixels of the beam that would light the detector so and move shadows so."""
        return self.lit / self.speed

    @property
    def sight(self) -> str:
        """By how much the sample is seen to move, in words."""
        likeness = f"correlation {self.correlation:.2f}, {self.by_chance:.2f} by chance"
        return f"{self.speed:.3g} pixels for each object pixel ({likeness})"

    @property
    def moves(self) -> bool:
        """Whether shadows of the sample are seen to move."""
        return self.correlation > max(_LIKE, _CHANCE * self.by_chance)

    @property
    def near(self) -> bool:
        """Whether the patterns are in the near field."""
        return self.moves and self.width > _TOO_WIDE * self.window


def follow_shadows(stream: ScanStream, statistics: ScanStatistics) -> ShadowTest | None:
    """Look for what moves with the scan in patterns from its middle, in any orientation; None for too few places."""
    fields = stream.fields
    chosen = neighbourhood(fields.xcoords, fields.ycoords, _COUNT)
    points = np.column_stack([fields.ycoords[chosen], fields.xcoords[chosen]])
    if len(chosen) < _FEWEST or not np.ptp(points, axis=0).max() > 0:
        return None
    contrast, pixel = _contrast(stream, statistics, chosen)
    pairs = _neighbours(points)
    likeness = _correlations(contrast, pairs)
    moved = points[pairs[:, 1]] - points[pairs[:, 0]]
    length = np.hypot(*moved.T)
    lowest = _LEAST / length.max()
    speeds = np.geomspace(lowest, max(contrast.shape[-1] / 3 / np.median(length), 2 * lowest), _SPEEDS)
    found = [
        (_mean_at(likeness, speed * _oriented(moved, o)), float(speed), o) for o in ORIENTATIONS for speed in speeds
    ]
    rng = np.random.default_rng(0)
    by_chance = [
        max(_mean_at(likeness, speed * rng.permutation(moved)) for speed in speeds[::4]) for _ in range(_PERMUTATIONS)
    ]
    correlation, speed, orientation = max(found, key=lambda entry: entry[0])
    around = speed * np.geomspace(speeds[0] / speeds[1], speeds[1] / speeds[0], _FINER)
    speed = max((_mean_between(likeness, each * _oriented(moved, orientation)), float(each)) for each in around)[1]
    lit = 2 * light_radius(np.sqrt(np.where(statistics.valid, np.maximum(statistics.mean, 0), 0)))
    return ShadowTest(
        correlation, float(np.mean(by_chance)), speed * pixel, lit, int(max(stream.frames.shape[1:])), len(pairs)
    )


def check_field(test: ShadowTest | None, metadata: dict[str, Any] | None) -> Finding:
    """Are the patterns far fields?"""
    if test is None:
        return Finding("near field", "note", "Not tested: too few patterns at different places.", {})
    fresnel = _fresnel_number(test, metadata)
    numbers: dict[str, Any] = {
        "correlation": test.correlation,
        "correlation_by_chance": test.by_chance,
        "pixels_per_object_pixel": test.speed,
        "beam_width": test.width,
        "fresnel_number": fresnel,
        "pairs": test.pairs,
    }
    if NearField.of(metadata) is not None:
        return _check_magnification(test, numbers)
    if not test.moves:
        sentence = "No shadow of the sample is seen to move with the scan: nothing speaks against the far field."
        return Finding("near field", "ok", sentence, numbers)
    text = f"Neighbouring patterns show the sample moved by {test.sight}"
    if not test.near:
        sentence = f"{text}, as the cone of a beam of {test.width:.3g} pixels does in the far field."
        return Finding("near field", "ok", sentence, numbers)
    number = "" if fresnel is None else f" Its width D has D^2/(wavelength distance) = {fresnel:.2g}, not far below 1."
    sentence = (
        f"{text}: shadows, of a beam {test.width:.3g} object pixels wide in a window of {test.window}.{number} This "
        "looks like near field, or the positions are far too large."
    )
    magnification = _magnification(test, metadata)
    if magnification is None:
        sentence += " In near field the set-up has to be said: --energy-keV, --distance-m and --detector-pixel-um."
    else:
        numbers["magnification"] = magnification
        sentence += f" In near field the shadows are magnified {magnification:.4g} times."
    mend = () if magnification is None else (f"--near-field {magnification:.4g}",)
    return Finding("near field", "fault", sentence, numbers, mend)


def _magnification(test: ShadowTest, metadata: dict[str, Any] | None) -> float | None:
    """Of the shadows on the detector; None where the pixels are not known."""
    known = metadata or {}
    object_pixel, pixel = known.get("object_pixel_size_m"), known.get("detector_pixel_size_m")
    return float(test.speed * float(pixel) / float(object_pixel)) if object_pixel and pixel else None


def _check_magnification(test: ShadowTest, numbers: dict[str, Any]) -> Finding:
    """Do shadows of the near field move as the positions do?"""
    if not test.moves:
        sentence = "Patterns of the near field in which no shadow of the sample is seen to move with the scan."
        return Finding("near field", "note", sentence, numbers)
    text = f"Patterns of the near field; the sample moves by {test.sight}"
    if abs(test.speed - 1) <= _OFF:
        return Finding("near field", "ok", f"{text}, as it should.", numbers)
    sentence = f"{text}: the magnification is another, {test.speed:.3g} times what was said, or positions are."
    return Finding("near field", "warning", sentence, numbers)


def _contrast(stream: ScanStream, statistics: ScanStatistics, chosen: Array) -> tuple[Array, int]:
    """(b, n, n) how these patterns differ from the mean one, over it where there is light; pixels of one of n."""
    side = min(stream.frames.shape[1:])
    pixel = next(k for k in range(max(1, side // _SIDE), 0, -1) if side % k == 0)
    n = side // pixel
    mean = _binned(np.where(statistics.valid, np.maximum(statistics.mean, 0), 0), pixel)
    made = np.empty((len(chosen), n, n))
    for block in frame_blocks(len(chosen), side**2):
        values = stream.frames.read(chosen[block]).astype(np.float64)
        values = np.where(np.isfinite(values) & statistics.valid, np.maximum(values, 0), 0)
        made[block] = _binned(values**2 if statistics.units == "amplitude" else values, pixel)
    made *= mean.sum() / np.maximum(made.sum(axis=(1, 2), keepdims=True), 1e-30)
    weight = np.where(mean > _LIT * mean.max(), 1 / np.sqrt(np.maximum(mean, 1e-30)), 0)
    made = (made - mean) * weight
    return made - made.mean(axis=0), pixel


def _binned(images: Array, pixel: int) -> Array:
    """Sums over pixel x pixel pixels of images (..., N, N)."""
    n = images.shape[-1] // pixel
    return np.asarray(images.reshape(*images.shape[:-2], n, pixel, n, pixel).sum(axis=(-3, -1)))


def _neighbours(points: Array) -> NDArray[np.intp]:
    """(p, 2) indices of each two points (y, x) of which one is among the nearest of the other."""
    _, near = KDTree(points).query(points, k=min(_NEIGHBOURS + 1, len(points)))
    pairs = {(min(i, int(j)), max(i, int(j))) for i, row in enumerate(near) for j in row if i != j}
    return np.array(sorted(pairs), np.intp)


def _correlations(contrast: Array, pairs: NDArray[np.intp]) -> Array:
    """(p, 2n, 2n) correlation of the second of each two images with the first, moved by (i - n, j - n)."""
    n = contrast.shape[-1]
    spectra = np.fft.rfft2(contrast.astype(np.float32), s=(2 * n, 2 * n))
    norms = np.maximum(np.sqrt(np.sum(contrast**2, axis=(1, 2))), 1e-30)
    product = spectra[pairs[:, 1]] * np.conj(spectra[pairs[:, 0]])
    made = np.fft.irfft2(product, s=(2 * n, 2 * n)) / (norms[pairs[:, 0]] * norms[pairs[:, 1]])[:, None, None]
    return np.fft.fftshift(made, axes=(1, 2))


def _mean_at(likeness: Array, shifts: Array) -> float:
    """Mean of correlations (p, 2n, 2n) at shifts (p, 2)."""
    return float(np.mean(_at(likeness, np.rint(shifts))))


def _mean_between(likeness: Array, shifts: Array) -> float:
    """The same, linear between pixels: tells shifts apart that `_mean_at` rounds to one."""
    whole, total = np.floor(shifts), np.zeros(len(shifts))
    part = shifts - whole
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        total += np.prod(np.where(corner, part, 1 - part), axis=1) * _at(likeness, whole + corner)
    return float(np.mean(total))


def _at(likeness: Array, shifts: Array) -> Array:
    """(p,) of correlations (p, 2n, 2n) at shifts (p, 2), whole pixels."""
    size = likeness.shape[-1]
    y, x = np.clip((size // 2 + shifts).astype(np.intp), 0, size - 1).T
    return np.asarray(likeness[np.arange(len(likeness)), y, x])


def _oriented(moved: Array, orientation: Orientation) -> Array:
    turned = moved[:, ::-1] if orientation.transpose else moved
    return turned * (-1.0 if orientation.flip_y else 1.0, -1.0 if orientation.flip_x else 1.0)


def _fresnel_number(test: ShadowTest, metadata: dict[str, Any] | None) -> float | None:
    """`D^2/(wavelength distance)` of the beam; object pixel a times detector pixel p is wavelength distance / N."""
    known = metadata or {}
    object_pixel, pixel = known.get("object_pixel_size_m"), known.get("detector_pixel_size_m")
    if not object_pixel or not pixel:
        return None
    return float(test.width**2 * float(object_pixel) / (test.window * float(pixel)))
