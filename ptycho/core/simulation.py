"""Simulated scans with a known truth: positions, expected counts, photon noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.diffraction import as_modes, diffract, poisson_amplitude
from ptycho.core.objects import make_object
from ptycho.core.patches import extract_rounded
from ptycho.core.probes import zone_plate_probe
from ptycho.core.scaling import Units
from ptycho.errors import ConfigError, DataError

__all__ = ["SimulatedScan", "make_scan", "raster_positions", "simulate_scan"]

Complex = NDArray[np.complexfloating[Any, Any]]
Positions = NDArray[np.float64]

_CHUNK_PIXELS = 1 << 19
"""Pixels of probe modes that are worked on at once: some tens of MB."""


@dataclass(frozen=True)
class SimulatedScan:
    """A scan as a detector would record it, and the truth behind it.

    The probe is in the unit of the measured amplitude, the square root of a photon: the expected counts of
    frame j are `|far_field(P O_j)|^2`, whichever unit the frames are stored in.
    """

    diffraction: NDArray[Any]
    """(n, N, N) photon counts as uint32, or their square root (amplitude) as float32; 0 where masked."""
    units: Units
    xcoords: Positions
    """(n,) column of each patch centre, pixels of `object`."""
    ycoords: Positions
    """(n,) row of each patch centre, pixels of `object`."""
    probe: NDArray[np.complex64]
    """(N, N) or (M, N, N), scaled to the dose."""
    object: NDArray[np.complex64]
    """(H, W), the truth."""
    photons: float
    """Expected number of photons per frame on the whole detector, averaged over the scan."""
    mask: NDArray[np.bool_] | None
    """(N, N), True where the detector pixel is valid; None when all are."""


def raster_positions(
    shape: tuple[int, int], N: int, step: float, jitter: float, rng: np.random.Generator
) -> tuple[Positions, Positions]:
    """Jittered raster over every position whose `N x N` patch fits into an object of `shape` (H, W).

    The raster is centred in the object and goes row by row. Each point then moves by up to `jitter` each way,
    evenly distributed, but never closer to an edge of the object than N/2 + 1 pixels.

    Args:
        shape: (H, W) of the object, pixels.
        N: side of a patch, pixels.
        step: distance of neighbours, pixels.
        jitter: largest displacement along each axis, pixels.
        rng: source of the jitter.

    Returns:
        xcoords, ycoords: float64 (n,), pixels.

    Raises:
        ConfigError: a step that is not positive, a negative jitter, or an object below N + 2 pixels a side.
    """
    if not 0 < step < math.inf or not 0 <= jitter < math.inf:
        raise ConfigError(f"raster: expected step > 0 and jitter >= 0, found {step} and {jitter}; correct them")
    if min(shape) < N + 2:
        raise ConfigError(f"raster: expected an object of at least {N + 2} pixels a side, found {shape}; enlarge it")
    margin = N // 2 + 1
    spans = [size - 2 * margin for size in shape]
    rows, cols = (margin + span % step / 2 + step * np.arange(span // step + 1) for span in spans)
    y, x = (grid.ravel() for grid in np.meshgrid(rows, cols, indexing="ij"))
    xcoords = np.clip(x + rng.uniform(-jitter, jitter, x.size), margin, margin + spans[1])
    ycoords = np.clip(y + rng.uniform(-jitter, jitter, y.size), margin, margin + spans[0])
    return xcoords, ycoords


def simulate_scan(
    object: Complex,
    probe: Complex,
    xcoords: Positions,
    ycoords: Positions,
    photons: float,
    rng: np.random.Generator,
    units: Units = "amplitude",
    mask: NDArray[np.bool_] | None = None,
) -> SimulatedScan:
    """Record a scan: `n_j ~ Poisson(|far_field(P O_j)|^2)`, summed over the modes of the probe.

    Between pixels the `fourier` rule holds: the patch is cut at the rounded position and the probe moved by
    the remainder, which is exact for a probe that fits its window. The probe is first scaled so that the
    expected counts per frame, averaged over the scan, are `photons`. Both units draw the same counts from the
    same `rng`. Works in chunks of frames, so that beyond the result it needs some tens of MB.

    Args:
        object: (H, W), dimensionless; opaque outside.
        probe: (N, N) or (M, N, N), of any energy.
        xcoords: (n,) column of each patch centre, pixels of the object.
        ycoords: (n,) row of each patch centre, pixels of the object.
        photons: mean number of photons per frame.
        rng: source of the photon noise.
        units: 'amplitude' stores sqrt(n) as float32, 'counts' stores n as uint32.
        mask: (N, N), True where the detector pixel is valid; the others record 0.

    Raises:
        ConfigError: unknown units, or a dose that is not positive or overflows a 32-bit counter.
        DataError: shapes that do not belong together, or a scan that meets no light.
    """
    if units not in ("counts", "amplitude"):
        raise ConfigError(f"units: expected 'counts' or 'amplitude', found {units!r}; choose one of these")
    if not 0 < photons < math.inf:
        raise ConfigError(f"photons: expected a positive number per frame, found {photons}; for example 1e5")
    _check_shapes(object, probe, xcoords, ycoords, mask)
    energy = sum(float(expected.sum()) for _, expected in _expected(object, probe, xcoords, ycoords))
    if not energy > 0:
        raise DataError("scan: expected light behind the object, found none; check positions and probe")
    scaled = (probe * np.sqrt(photons * len(xcoords) / energy)).astype(np.complex64)
    dtype = np.uint32 if units == "counts" else np.float32
    frames = np.zeros((len(xcoords), *probe.shape[-2:]), dtype)
    for chunk, expected in _expected(object, scaled, xcoords, ycoords):
        if expected.max() >= 2**31:
            raise ConfigError(f"photons: expected below 2^31 in any pixel, found {photons:g} a frame; ask for less")
        amplitude = poisson_amplitude(np.sqrt(expected), rng)
        frames[chunk] = np.rint(amplitude**2) if units == "counts" else amplitude
    if mask is not None:
        frames *= mask
    truth = object.astype(np.complex64)
    return SimulatedScan(frames, units, xcoords, ycoords, scaled, truth, float(photons), mask)


def make_scan(
    kind: str,
    size: int,
    N: int,
    step: float,
    jitter: float,
    photons: float,
    seed: int,
    units: Units = "amplitude",
) -> SimulatedScan:
    """Make a whole scan from a seed: an object, a zone plate's probe, a jittered raster, photon noise.

    Object, positions and noise have random streams of their own, so that a change of dose or step leaves the
    object as it is. Arguments as in `make_object` (an object of `size` x `size` pixels), `raster_positions`
    and `simulate_scan`.
    """
    if seed < 0:
        raise ConfigError(f"seed: expected a whole number, 0 or more, found {seed}; choose another")
    for_object, for_positions, for_noise = (
        np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(3)
    )
    truth = make_object(kind, (size, size), for_object)
    xcoords, ycoords = raster_positions((size, size), N, step, jitter, for_positions)
    return simulate_scan(truth, zone_plate_probe(N), xcoords, ycoords, photons, for_noise, units)


def _expected(
    object: Complex, probe: Complex, xcoords: Positions, ycoords: Positions
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Expected counts (frames, N, N) in float64, chunk by chunk, with the slice of the frames."""
    modes = as_modes(probe).astype(np.complex128)
    frames = max(1, _CHUNK_PIXELS // modes.size)
    for start in range(0, len(xcoords), frames):
        chunk = slice(start, start + frames)
        patches, dx, dy = extract_rounded(object, xcoords[chunk], ycoords[chunk], probe.shape[-1])
        yield chunk, diffract(modes, patches, dx, dy)


def _check_shapes(
    object: Complex, probe: Complex, xcoords: Positions, ycoords: Positions, mask: NDArray[np.bool_] | None
) -> None:
    if object.ndim != 2:
        raise DataError(f"object: expected shape (H, W), found {object.shape}; pass one complex image")
    if probe.ndim not in (2, 3) or probe.shape[-1] != probe.shape[-2]:
        raise DataError(f"probe: expected (N, N) or (M, N, N), found {probe.shape}; the modes come first")
    if xcoords.ndim != 1 or xcoords.shape != ycoords.shape or xcoords.size == 0:
        raise DataError(
            f"xcoords, ycoords: expected one shape (n,), n >= 1, found {xcoords.shape}, {ycoords.shape}; "
            "pass the pixel position of every frame"
        )
    if mask is not None and (mask.dtype != bool or mask.shape != probe.shape[-2:]):
        raise DataError(f"mask: expected bool {probe.shape[-2:]}, found {mask.dtype} {mask.shape}; True is valid")
