"""Other choices of the scales between file, network and photons, and what a network may see besides.

By default k gives the patterns of the training set the mean energy (N/2)^2, that of the probe inside the model, so that
a network says |O_net| near 1. Another k puts |O_net| near `Scales.level` instead. Nothing else changes: the
object comes out in the unit of the file, and the counts of the physics are those of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.options import NEUTRAL_SCALES, ScaleOptions
from ptycho.core.physics.diffraction import as_modes, far_field
from ptycho.core.scaling import input_scale, intensity_scale, probe_scale
from ptycho.errors import ConfigError, DataError

__all__ = [
    "GAIN_FLOOR",
    "NEUTRAL_INPUT",
    "InputScaling",
    "Scales",
    "group_gain",
    "input_scale_to_maximum",
    "measure_scales",
]

LEVELS = (0.25, 1.5)
"""Mean |O_net| that a network is trained at: heads start at 1, and that of `sigmoid` ends at 2."""
FIRST_SCALE = 2.0
"""Factor by which a first intensity scale may differ from the dose: further off, training does not find back."""
GAIN_FLOOR = 1e-4
"""A group's energy counts as no less than this part of (N/2)^2, so that empty patterns are not blown up."""


@dataclass(frozen=True)
class InputScaling:
    """What a model keeps of the scaling that it was trained with, beside k and s."""

    level: float = 1.0
    """Mean |O_net| of its training set (`Scales.level`)."""
    even_groups: bool = False
    """The network sees every group at the energy (N/2)^2 (`group_gain`); its object is divided by that gain again."""
    straight_probe: bool = False
    """The phase ramp is taken out of the probe of every scan."""


NEUTRAL_INPUT = InputScaling()
"""That of the default options."""


@dataclass(frozen=True)
class Scales:
    """The scales of a training set."""

    input_scale: float
    """k; the network sees `X_norm = k A`."""
    intensity_scale: float
    """s; `s X_norm` is in the root of photons."""
    first_intensity_scale: float
    """Where the learning of s starts; s itself unless it was given."""
    level: float = 1.0
    """`k sqrt(mean energy) / (N/2)`, the mean |O_net| to expect. The mean energy of X_norm is `(level N/2)^2`, the
    photons of a pattern are `(s level N/2)^2`."""


def measure_scales(
    mean_energy: float,
    photons: float,
    N: int,
    options: ScaleOptions = NEUTRAL_SCALES,
    largest: float | None = None,
    probe: NDArray[Any] | None = None,
) -> Scales:
    """The scales of a training set by its numbers.

    Args:
        mean_energy: `mean_j sum A_j^2`, in the unit of the file squared.
        photons: mean photons per pattern.
        N: pattern side, pixels.
        options: how.
        largest: the largest amplitude, and
        probe: (N, N) or (M, N, N), both in the unit of the file: for `data_scaling='Max'` alone.

    Raises:
        ConfigError: a scale that puts the network out of its range, or a first intensity scale far from the dose.
        DataError: numbers that are not positive.
    """
    k, s, level = input_scale(mean_energy, N), intensity_scale(photons, N), 1.0
    if options.normalize == "None" or options.data_scaling == "Max":
        other = 1.0
        if options.normalize != "None":
            if largest is None or probe is None:
                raise DataError("data_scaling='Max': expected the largest amplitude and the probe; pass both")
            other = input_scale_to_maximum(largest, probe)
        level = other / k
        _check_level(level, options)
        k, s = other, s / level  # the photons of a pattern, (s level N/2)^2, stay what they are
    first = s if options.intensity_scale is None else options.intensity_scale
    if not 1 / FIRST_SCALE <= first / s <= FIRST_SCALE:
        raise ConfigError(
            f"intensity_scale={first:g}: the photons of the patterns make it {s:.4g}, expected within a factor of "
            f"{FIRST_SCALE:g} of that; correct it or nphotons, or leave it out"
        )
    return Scales(k, s, first, level)


def _check_level(level: float, options: ScaleOptions) -> None:
    if LEVELS[0] <= level <= LEVELS[1]:
        return
    named, remedy = f"normalize={options.normalize!r}", "scale the patterns in the file"
    if options.normalize != "None":
        named, remedy = f"data_scaling={options.data_scaling!r}", "mask hot pixels"
    raise ConfigError(
        f"{named} puts the network's object at |O| = {level:.3g}, expected {LEVELS[0]:g} to {LEVELS[1]:g}; "
        f"{remedy}, or leave it at its default"
    )


def input_scale_to_maximum(largest: float, probe: NDArray[Any]) -> float:
    """Input scale k at which the brightest pixel of the scan is as bright as the probe makes it without a sample.

    `k max A = a max |F(P)|`, with `a = sqrt((N/2)^2 / sum |P|^2)` and |F(P)|^2 summed over the modes. Light that a
    sample scatters out of the brightest pixel, or photon noise in it, moves k; the mean energy does neither.

    Args:
        largest: the largest amplitude, and
        probe: (N, N) or (M, N, N), both in the unit of the file.

    >>> input_scale_to_maximum(4.0, np.ones((64, 64)))  # a = 1/2, one bright pixel of 64
    8.0
    """
    if not (isfinite(largest) and largest > 0):
        raise DataError(f"largest amplitude: expected a positive number, found {largest}; check the scan and units")
    fields = far_field(as_modes(np.asarray(probe)).astype(np.complex128))
    return probe_scale(probe, fields.shape[-1]) * sqrt(float(np.sum(np.abs(fields) ** 2, axis=0).max())) / largest


def group_gain(normalised: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Factor that brings each group to the energy (N/2)^2, for `normalize='Group'`.

    `g = (N/2) / sqrt(mean_c sum X_c^2)`, the energy no less than `GAIN_FLOOR` of what it is to be. The network sees
    `g X_norm`; what it says is divided by g: object, and what is assembled from it.

    Args:
        normalised: X_norm (B, N, N, C), 0 in invalid pixels.

    Returns:
        (B,), 1 where a group has the energy of the mean already (`level` 1).
    """
    members, full = normalised.shape[-1], (normalised.shape[1] / 2) ** 2
    energy = np.einsum("byxc,byxc->b", normalised, normalised, dtype=np.float64) / members
    return np.asarray(np.sqrt(full / np.maximum(energy, GAIN_FLOOR * full)))
