"""Simulated diffraction of patches on a grid: the functions of `ptycho.diffsim`, thin over `ptycho.core`.

Patches are channel-last, `(B, N, N, C)`; `s` is the intensity scale, amplitude times s is in photon units.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptycho import params
from ptycho.core.physics.diffraction import diffract, poisson_amplitude
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.simulation.objects import make_object
from ptycho.core.simulation.scan_paths import raster_positions
from ptycho.errors import ConfigError, DataError

__all__ = ["SimulatedPatches", "illuminate_and_diffract", "mk_simdata", "scale_nphotons"]

Real = NDArray[np.floating[Any]]
Complex = NDArray[np.complexfloating[Any, Any]]


class SimulatedPatches(NamedTuple):
    """What `mk_simdata` makes; n objects with m patches each, patch j of object i at i m + j."""

    X: NDArray[np.float32]
    """(n m, N, N, 1) measured amplitude, in the unit of the probe."""
    Y_I: NDArray[np.float32]
    """(n m, N, N, 1) amplitude of the true patches."""
    Y_phi: NDArray[np.float32]
    """(n m, N, N, 1) phase of the true patches, radians."""
    intensity_scale: float
    """s: `s X` is in photon units."""
    YY_full: NDArray[np.complex64]
    """(n, size, size) the objects."""
    norm_Y_I: float
    """Largest amplitude of the objects."""
    coords: tuple[NDArray[np.float64], NDArray[np.float64]]
    """x, y of the patch centres of one object, (m,) each, pixels."""


def scale_nphotons(amplitude: Real, nphotons: float | None = None) -> float:
    """Intensity scale `s = sqrt(nphotons / mean_j sum A_j^2)` that brings amplitudes to a dose.

    Args:
        amplitude: expected far-field amplitude (B, N, N, C); each channel is a pattern.
        nphotons: mean number of photons per pattern; None takes `nphotons` of `params.cfg`.

    Raises:
        DataError: no light.
        ConfigError: a dose that is not positive.
    """
    dose = params.get("nphotons") if nphotons is None else nphotons
    energy = float(np.sum(np.square(amplitude, dtype=np.float64)) / (amplitude.shape[0] * amplitude.shape[-1]))
    if not dose > 0:
        raise ConfigError(f"nphotons: expected a positive number per pattern, found {dose}; for example 1e5")
    if not energy > 0:
        raise DataError("amplitude: expected light, found only zeros; check the probe and the patches")
    return float(np.sqrt(dose / energy))


def illuminate_and_diffract(
    Y_I: Real,
    Y_phi: Real,
    probe: Complex,
    intensity_scale: float | None = None,
    nphotons: float | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[NDArray[np.float32], Real, Real, float]:
    """Measure patches: `X = sqrt(Poisson((s A)^2)) / s`, A the far-field amplitude of `probe * Y_I exp(i Y_phi)`.

    Args:
        Y_I: (B, N, N, C) amplitude of the patches.
        Y_phi: (B, N, N, C) phase of the patches, radians.
        probe: (N, N) or (M, N, N).
        intensity_scale: s; None takes `scale_nphotons`.
        nphotons: mean number of photons per pattern, where s is not given; None takes that of `params.cfg`.
        rng: source of the photon noise; None counts no photons, X is A.

    Returns:
        X: float32 (B, N, N, C), in the unit of the probe.
        Y_I, Y_phi: as given.
        s: the intensity scale that was used.

    Raises:
        DataError: shapes that do not belong together, or no light.
        ConfigError: a dose that is not positive.
    """
    if Y_I.ndim != 4 or Y_I.shape != Y_phi.shape or Y_I.shape[1:3] != probe.shape[-2:]:
        found = f"{Y_I.shape}, {Y_phi.shape} and {probe.shape}"
        raise DataError(f"patches, probe: expected twice (B, N, N, C) and (N, N), found {found}; correct them")
    patches = np.moveaxis(Y_I * np.exp(1j * Y_phi), -1, 1)
    amplitude = np.moveaxis(np.sqrt(diffract(probe, patches)), 1, -1)
    scale = scale_nphotons(amplitude, nphotons) if intensity_scale is None else intensity_scale
    measured = amplitude if rng is None else poisson_amplitude(scale * amplitude, rng) / scale
    return measured.astype(np.float32), Y_I, Y_phi, scale


def mk_simdata(
    n: int,
    size: int,
    probe: Complex,
    rng: np.random.Generator,
    outer_offset: float = 8.0,
    kind: str = "lines",
    intensity_scale: float | None = None,
    nphotons: float | None = None,
) -> SimulatedPatches:
    """Draw objects and measure each on the same grid of whole-pixel positions.

    Args:
        n: number of objects.
        size: side of an object, pixels.
        probe: (N, N) or (M, N, N).
        rng: source of every random number.
        outer_offset: distance of neighbouring patches, pixels; positions are rounded.
        kind: what the objects show (`ptycho.core.simulation.objects.OBJECTS`).
        intensity_scale: as in `illuminate_and_diffract`.
        nphotons: as in `illuminate_and_diffract`.

    Raises:
        ConfigError: no object, an object that is too small, or what `make_object` refuses.
    """
    if n < 1:
        raise ConfigError(f"n: expected 1 object or more, found {n}; ask for some")
    N = probe.shape[-1]
    xcoords, ycoords = (np.rint(line) for line in raster_positions((size, size), N, outer_offset, 0.0, rng))
    objects = np.stack([make_object(kind, (size, size), rng) for _ in range(n)])
    patches = np.concatenate([extract_rounded(image, xcoords, ycoords, N)[0] for image in objects])[..., None]
    amplitude, phase = np.abs(patches), np.angle(patches)
    X, _, _, scale = illuminate_and_diffract(amplitude, phase, probe, intensity_scale, nphotons, rng)
    return SimulatedPatches(X, amplitude, phase, scale, objects, float(np.abs(objects).max()), (xcoords, ycoords))
