"""How far a reconstruction can be trusted: every measured pattern against the one that the object predicts.

Two measures, each beside what photon noise alone would give (`ptycho.core.physics.poisson`), L the predicted counts:

* the deviance `D = 2 sum_valid [Y log(Y / L) - Y + L]` over its expectation `sum E[D](L)`: 1 for a correct model at
  any dose. It misses nothing, and at high dose it makes much of little: a model error of 0.7 % of the amplitude, as
  bilinear interpolation makes it, reads 52 at 1e9 photons per pattern.
* the relative Fourier error `sum (|F| - A)^2 / sum A^2` less its expectation: its root is the model error as a
  fraction of the amplitude. How much that matters depends on how much there is to explain, so it is also given as
  a fraction of what a uniform object leaves (`unexplained`).

The prediction follows the `fourier` sub-pixel rule (`ptycho.core.physics.diffraction.diffract`). An object that was
fitted to the same patterns follows their noise a little: its ratio lies below 1 by its free numbers over the pixels
that see light.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ptycho.core.physics.diffraction import as_modes, deviance, diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.poisson import poisson_moments
from ptycho.core.result import ByValue, plural
from ptycho.errors import DataError

__all__ = ["NOISE", "USABLE", "Dose", "Grade", "Trust", "measure_trust", "trust_map"]

Float = NDArray[np.float64]
Dose = Literal["measured", "stated", "nominal"]
"""Where the number of photons is from: counts, a number that came with the amplitudes, or an assumption."""
Grade = Literal["to the noise", "usable", "fails", "unknown"]
"""What the trust in a result comes down to."""

NOISE = 1.25
"""Ratio up to which a model explains the data to the noise: its error is then below half of the noise."""
USABLE = 0.4
"""Part of the structure in the patterns that a usable model may leave unexplained.

Mirrored or swapped axes, a transposed detector and a probe at half or twice its defocus leave 0.44 to 0.9 after a
refinement that tries to make up for them. Bilinear interpolation and positions scaled by 5 % leave 0.05 to 0.15, the
unknowns of real scans (partial coherence, motion) up to 0.35.
"""
SIGNIFICANT = 5.0
"""Standard deviations by which a number has to stand out of the noise."""
_STEADY = 6.0  # the same, in units of the scatter over the scan
_LISTED = 5  # outliers in `Trust.verdict`
_LIT = 1e-3  # of the most light a pixel gets: below it a map shows nothing
_PIXELS = 1 << 15  # of patterns in flight; larger temporaries leave the cache
_FLOOR = float(np.finfo(np.float32).eps) ** 2  # of the brightest pixel: less light is rounding of single precision


@dataclass(frozen=True, eq=False, repr=False)
class Trust(ByValue):
    """What the patterns of a scan say about an object, pattern by pattern, in the order of the scan.

    Raises:
        DataError: the parts are not of one length, or the dose is of no known kind.
    """

    deviance: Float
    """(n,) deviance D of each pattern."""
    expected: Float
    """(n,) what D would be on average if photon noise alone were at work."""
    deviation: Float
    """(n,) standard deviation of D about `expected`."""
    misfit: Float
    """(n,) `sum (|F| - A)^2`, in photons."""
    noise: Float
    """(n,) what `misfit` would be on average if photon noise alone were at work."""
    uniform: Float
    """(n,) what `misfit` is for a uniform object of the best transmission, the same for all patterns."""
    counts: Float
    """(n,) photons in the valid pixels, `sum A^2`."""
    dose: Dose
    """Where the number of photons is from; with 'nominal' nothing is known about the noise."""

    def __post_init__(self) -> None:
        shapes = {name: array.shape for name, array in vars(self).items() if name != "dose"}
        if len(set(shapes.values())) != 1 or self.deviance.ndim != 1:
            raise DataError(f"trust: expected one number per pattern, (n,) each, found {shapes}; measure it again")
        if self.dose not in get_args(Dose):
            raise DataError(f"trust: expected a dose of {get_args(Dose)}, found {self.dose!r}; measure it again")

    def __repr__(self) -> str:
        return f"Trust({plural(len(self.deviance), 'pattern')}, {self.summary})"

    @property
    def summary(self) -> str:
        """The grade and the two numbers behind it, on part of a line; `verdict` says more."""
        left = f"{100 * self.unexplained:.2g} % of the structure unexplained"
        return f"{self.grade}, deviance {self.overall_ratio:.3g} times that of noise, {left}, dose {self.dose}"

    @property
    def ratio(self) -> Float:
        """(n,) deviance over its expectation, 1 for a correct model; 1 too where no light is expected."""
        return np.divide(self.deviance, self.expected, out=np.ones_like(self.expected), where=self.expected > 0)

    @property
    def z(self) -> Float:
        """(n,) standard deviations by which the deviance lies above its expectation."""
        excess = self.deviance - self.expected
        return np.divide(excess, self.deviation, out=np.zeros_like(excess), where=self.deviation > 0)

    @property
    def overall_ratio(self) -> float:
        """Summed deviance over its summed expectation."""
        return float(self.deviance.sum() / self.expected.sum())

    @property
    def overall_z(self) -> float:
        """Standard deviations by which the summed deviance lies above its expectation."""
        return float((self.deviance - self.expected).sum() / np.sqrt(np.square(self.deviation).sum()))

    @property
    def fourier_error(self) -> float:
        """Relative Fourier error of the scan, `sum (|F| - A)^2 / sum A^2`."""
        return float(self.misfit.sum() / self.counts.sum())

    @property
    def noise_level(self) -> float:
        """Root of the relative Fourier error that photon noise alone would give: a fraction of the amplitude."""
        return float(np.sqrt(self.noise.sum() / self.counts.sum()))

    @property
    def model_error(self) -> float:
        """Root of the relative Fourier error beyond the noise: a fraction of the amplitude."""
        return float(np.sqrt(max(0.0, self.misfit.sum() - self.noise.sum()) / self.counts.sum()))

    @property
    def model_error_limit(self) -> float:
        """Model error that the noise could hide: two standard deviations above `model_error`.

        In bright pixels the squared misfit is a quarter of the deviance, and so is its standard deviation.
        """
        hidden = 2 * np.sqrt(np.square(self.deviation).sum()) / 4 / self.counts.sum()
        return float(np.sqrt(self.model_error**2 + hidden))

    @property
    def unexplained(self) -> float:
        """Part of the structure in the patterns that the model leaves, noise taken out, as a ratio of amplitudes.

        Root of (misfit - noise) over (uniform - noise): 0 for a correct model, 1 for one no better than a uniform
        object.
        """
        structure = self.uniform.sum() - self.noise.sum()
        excess = max(0.0, self.misfit.sum() - self.noise.sum())
        return float(np.sqrt(excess / structure)) if structure > excess else float(excess > 0)

    @property
    def outliers(self) -> NDArray[np.intp]:
        """(k,) patterns that fit far worse than the rest of the scan, the worst first.

        Their deviance lies beyond the noise, and the logarithm of their ratio above the median by six times the
        scatter (1.48 times the median deviation, or what noise makes of it).
        """
        logarithm = np.log(np.maximum(self.ratio, 1e-12))
        beyond = logarithm - np.median(logarithm)
        noise = np.divide(self.deviation, self.deviance, out=np.ones_like(self.deviance), where=self.deviance > 0)
        scatter = np.maximum(1.4826 * np.median(np.abs(beyond)), noise)
        far = np.flatnonzero((beyond > _STEADY * scatter) & (self.z > SIGNIFICANT))
        return far[np.argsort(-self.ratio[far])]

    @property
    def grade(self) -> Grade:
        """'unknown' without a dose; 'fails' where significant structure is left; 'to the noise' by the ratio."""
        if self.dose == "nominal":
            return "unknown"
        if self.overall_z > SIGNIFICANT and self.unexplained > USABLE:
            return "fails"
        return "to the noise" if self.overall_ratio <= NOISE else "usable"

    @property
    def verdict(self) -> str:
        """One line in plain words, with the numbers that led to it."""
        model, noise = f"{100 * self.model_error:.2g} %", f"{100 * self.noise_level:.2g} %"
        if self.overall_z <= SIGNIFICANT or not self.model_error:
            model = f"below {100 * self.model_error_limit:.2g} %"
        ratio, left = f"deviance {self.overall_ratio:.3g} times that of noise", f"{100 * self.unexplained:.2g} %"
        numbers = f"model error {model} of the amplitude, noise {noise}, {ratio}"
        left += " of the structure unexplained"
        return {
            "to the noise": f"explains the data to the noise: {numbers}",
            "usable": "usable, not quantitative; does not explain the data to the noise: "
            f"{numbers}, {left}; probe, positions or pixel size may be a little off",
            "fails": f"does not explain the data: {numbers}, {left}; check axes, positions, probe and pixel size",
            "unknown": "cannot tell noise from model error, the dose is not known: amplitudes differ by "
            f"{100 * np.sqrt(self.fourier_error):.2g} %; at the nominal dose {left}, {ratio}",
        }[self.grade] + self._listed()

    def _listed(self) -> str:
        worst = self.outliers
        if not worst.size:
            return ""
        named = ", ".join(f"{j} ({self.ratio[j] / np.median(self.ratio):.2g} x)" for j in worst[:_LISTED])
        more = f" and {len(worst) - _LISTED} more" if len(worst) > _LISTED else ""
        return f"; {len(worst)} of {len(self.ratio)} patterns stand out of the scan: {named}{more}"


def measure_trust(
    object: NDArray[np.complexfloating],
    probe: NDArray[np.complexfloating],
    xcoords: Float,
    ycoords: Float,
    amplitude: Callable[[NDArray[np.intp]], NDArray[np.floating[Any]]],
    photon_scale: float,
    dose: Dose,
    mask: NDArray[np.bool_] | None = None,
) -> Trust:
    """Compare every pattern of a scan with the one that object and probe predict, batch by batch.

    Args:
        object: (H, W) transmission.
        probe: (N, N) or (M, N, N), in the unit of the amplitudes.
        xcoords, ycoords: (n,) patch centres, pixels of `object`.
        amplitude: measured amplitudes (b, N, N) of some patterns, given their indices (b,).
        photon_scale: photons per unit of squared amplitude; 1 where the amplitude is the root of counts.
        dose: where `photon_scale` is from.
        mask: (N, N) or (n, N, N), True where valid.

    Raises:
        DataError: no pattern, a scale that is not positive, or no light in the valid pixels.
    """
    if not (np.isfinite(photon_scale) and photon_scale > 0):
        raise DataError(
            f"photon_scale: expected a positive number, found {photon_scale}; state the photons per pattern"
        )
    modes = as_modes(probe).astype(np.complex128)
    n, N = len(xcoords), modes.shape[-1]
    bare = np.sqrt(diffract(modes, np.ones((1, N, N))))
    size = max(1, _PIXELS // modes.size)
    columns = []
    for part in (np.arange(start, min(start + size, n)) for start in range(0, n, size)):
        patches, dx, dy = extract_rounded(object, xcoords[part], ycoords[part], N)
        valid = np.ones((N, N), bool) if mask is None else mask[part] if mask.ndim == 3 else mask
        measured = np.where(valid, amplitude(part), 0).astype(np.float64)
        columns.append(_compare(diffract(modes, patches, dx, dy), measured, bare, valid, photon_scale))
    found = np.concatenate(columns, axis=1) if columns else np.zeros((8, 0))
    deviances, expected, variance, noise, misfit, counts, product, energy = found
    if not counts.sum() > 0 or not energy.sum() > 0:
        raise DataError(f"trust: expected light in the valid pixels of {n} patterns, found none; check data and mask")
    level = product.sum() / energy.sum()
    uniform = counts - 2 * level * product + level**2 * energy
    return Trust(deviances, expected, np.sqrt(variance), misfit, noise, uniform, counts, dose)


def _compare(predicted: Float, measured: Float, bare: Float, valid: NDArray[np.bool_], photon_scale: float) -> Float:
    """Sums over the valid pixels of each pattern, in photons, `(8, b)`.

    Deviance, its expectation and variance, expected and found squared misfit of amplitudes, and with A measured and B
    the far field of the bare probe `A^2`, `A B`, `B^2`.
    """
    floored = photon_scale * np.maximum(predicted, _FLOOR * predicted.max())
    counts = photon_scale * measured**2
    expected, variance, noise = poisson_moments(floored, valid).T
    root = np.sqrt(photon_scale)

    def total(values: Float) -> Float:
        return np.sum(values, axis=(1, 2), where=valid)

    deviances = total(deviance(counts, floored))
    misfit = total((np.sqrt(floored) - root * measured) ** 2)
    light = np.broadcast_to(bare**2, measured.shape)
    products = total(counts), photon_scale * total(measured * bare), photon_scale * total(light)
    return np.stack([deviances, expected, variance, noise, misfit, *products])


def trust_map(
    values: Float, weight: Float, xcoords: Float, ycoords: Float, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Mean over the patterns of their values, at every pixel of the object weighted by the light it got in each.

    `m(r) = sum_j w(r - r_j) v_j / sum_j w(r - r_j)`, the positions r_j rounded; the cost is that of two Fourier
    transforms of the object, however many patterns there are.

    Args:
        values: (n,) one number per pattern, such as the logarithm of `Trust.ratio`.
        weight: (N, N) light of the probe, `stitching.probe_weight(probe)`, any unit.
        xcoords, ycoords: (n,) patch centres, pixels of the object; those outside of it are left out.
        shape: (H, W) of the object.

    Returns:
        (H, W), NaN where the light is below a thousandth of its maximum.
    """
    row, column = np.rint(ycoords).astype(np.int64), np.rint(xcoords).astype(np.int64)
    inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    index, pixels = (row * shape[1] + column)[inside], shape[0] * shape[1]
    half = weight.shape[-1] // 2
    whole = [scipy.fft.next_fast_len(size + n - 1, real=True) for size, n in zip(shape, weight.shape, strict=True)]
    spectrum = scipy.fft.rfft2(weight / weight.max(), whole)

    def spread(numbers: Float | None) -> Float:
        points = np.bincount(index, numbers, pixels).reshape(shape).astype(np.float64)
        lit: Float = scipy.fft.irfft2(scipy.fft.rfft2(points, whole) * spectrum, whole)
        return lit[half : half + shape[0], half : half + shape[1]]

    light = spread(None)
    lit = light > _LIT * light.max()
    return np.divide(spread(values[inside]), light, out=np.full(shape, np.nan), where=lit).astype(np.float32)
