"""The exposure of a simulated scan: expected counts, photon noise, frames in memory or straight to a file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.detector_blur import check_blur
from ptycho.core.physics.diffraction import as_modes, diffract, fourier_shift, illuminate, poisson_amplitude
from ptycho.core.physics.fly_scan import FlyPath, check_fly_path
from ptycho.core.physics.multislice import projected
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.recording import Recording
from ptycho.core.physics.variable_probe import ProbeVariation, check_variation
from ptycho.core.scaling import Units
from ptycho.core.scan.scan import ScanFile, is_fast_side, next_fast_side
from ptycho.core.scan.stream import Frames, ScanStream, stand_in, write_stream
from ptycho.errors import ConfigError, DataError
from ptycho.networks.registry import PATTERN_SIZES

__all__ = ["ScanPlan", "SimulatedScan", "expose", "expose_to_file"]

Complex = NDArray[np.complexfloating[Any, Any]]
Mask = NDArray[np.bool_]
Positions = NDArray[np.float64]

_CHUNK_PIXELS = 1 << 17
"""Pixels of probe modes that are worked on at once: some MB, which fit a cache."""
_LARGEST_COUNT = 2**31


@dataclass(frozen=True)
class ScanPlan:
    """A scan before its exposure; what it says is what `expose` obeys.

    Raises:
        ConfigError: unknown units, or a dose that is not positive.
        DataError: shapes that do not belong together.
    """

    object: Complex
    """(H, W) transmission, dimensionless; opaque outside. (K, H, W) of K slices, with `gap`."""
    probe: Complex
    """(N, N) or (M, N, N), of any energy; it is scaled to the dose."""
    xcoords: Positions
    """(n,) column of each patch centre as the scan file will tell it, pixels of the object."""
    ycoords: Positions
    """(n,) row of each patch centre as the scan file will tell it, pixels of the object."""
    photons: float
    """Mean number of photons per frame on the whole detector, that is before `mask`."""
    units: Units = "amplitude"
    """'amplitude' stores sqrt(n) as float32, 'counts' stores n as uint32."""
    mask: Mask | None = None
    """(N, N), True where the detector pixel is valid; the others record 0."""
    xcoords_true: Positions | None = None
    """(n,) where the probe really was, which decides the frames; None: at `xcoords`."""
    ycoords_true: Positions | None = None
    """(n,) as `xcoords_true`, the row."""
    noise: bool = True
    """Whether photons are counted; else the frames are what is expected, as float32 in both units."""
    fly_path: FlyPath | None = None
    """(n, S, 2) where the probe is while each frame is exposed, relative to its true position; None: at rest."""
    background: NDArray[np.float64] | None = None
    """(N, N) counts that come to every frame beside `photons`, not negative, zero frequency in the middle; None: 0."""
    near_field: NearField | None = None
    """How waves go to a near detector; None: it is far away."""
    gap: NearField | None = None
    """The free space between two slices of the object; None: it is thin."""
    variation: ProbeVariation | None = None
    """How the probe differs from frame to frame, in the unit of `probe`; None: it is the same."""
    blur: float | None = None
    """Standard deviation of the detector's blur, pixels (`ptycho.core.physics.detector_blur`); None: it is sharp.
    It comes before photons are counted: each pixel counts by itself."""

    def __post_init__(self) -> None:
        if self.units not in ("counts", "amplitude"):
            raise ConfigError(f"units: expected 'counts' or 'amplitude', found {self.units!r}; choose one of these")
        if not 0 < self.photons < math.inf:
            raise ConfigError(f"photons: expected a positive number per frame, found {self.photons}; for example 1e5")
        _check_shapes(self)

    @property
    def true_positions(self) -> tuple[Positions, Positions]:
        """Where the probe really was: x, y."""
        x = self.xcoords if self.xcoords_true is None else self.xcoords_true
        y = self.ycoords if self.ycoords_true is None else self.ycoords_true
        return x, y

    @property
    def recording(self) -> Recording:
        """How the frames are recorded."""
        return Recording(None, self.fly_path, self.background, self.near_field, self.gap, self.variation, self.blur)

    @property
    def frame_type(self) -> np.dtype[Any]:
        """The type that frames are stored in."""
        return np.dtype(np.uint32 if self.units == "counts" and self.noise else np.float32)


@dataclass(frozen=True)
class SimulatedScan:
    """A scan as a detector would record it, and the truth behind it.

    The probe is in the unit of the measured amplitude, the square root of a photon: the expected counts of
    frame j are `|far_field(P O_j)|^2`, and the background's, whichever unit the frames are stored in.
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
    """(H, W), the truth; (K, H, W) of slices."""
    photons: float
    """Expected number of photons per frame on the whole detector, averaged over the scan."""
    recorded: float
    """Expected counts of a frame on valid pixels, the background's among them: `nphotons` of the scan, the dose that a
    reconstruction sees."""
    mask: Mask | None
    """(N, N), True where the detector pixel is valid; None when all are."""
    xcoords_true: Positions | None = None
    """(n,) where the probe really was, where that differs from `xcoords`."""
    ycoords_true: Positions | None = None
    """(n,) as `xcoords_true`, the row."""


def expose(plan: ScanPlan, rng: np.random.Generator) -> SimulatedScan:
    """Record a scan: `n_j ~ Poisson(|far_field(P O_j)|^2 + b)`, summed over the modes of the probe.

    Between pixels the `fourier` rule holds: the patch is cut at the rounded position and the probe moved by
    the remainder, which is exact for a probe that fits its window. The probe is first scaled so that the
    expected counts per frame, averaged over the scan, are `plan.photons`. Both units draw the same counts from
    the same `rng`. Works in chunks of frames, so that beyond the result it needs some 20 MB.

    Raises:
        ConfigError: a dose that overflows a 32-bit counter.
        DataError: a scan that meets no light.
    """
    plan, recorded = _to_dose(plan)
    return SimulatedScan(
        diffraction=_record(plan, rng, 0, len(plan.xcoords)),
        units=plan.units,
        xcoords=plan.xcoords,
        ycoords=plan.ycoords,
        probe=plan.probe.astype(np.complex64),
        object=plan.object.astype(np.complex64),
        photons=float(plan.photons),
        recorded=recorded,
        mask=plan.mask,
        xcoords_true=plan.xcoords_true,
        ycoords_true=plan.ycoords_true,
    )


def expose_to_file(
    plan: ScanPlan, rng: np.random.Generator, path: Path | str, metadata: dict[str, Any], truth: bool = True
) -> Path:
    """Record a scan straight to a scan file: what `expose` gives, at any size, in some 20 MB of memory.

    The frames are an uncompressed member of the archive that can be memory-mapped. The true positions, where they
    differ, are stored as `xcoords_start`, `ycoords_start`. The file appears whole or not at all.

    Args:
        plan: what to record.
        rng: source of the photon noise.
        path: the NPZ file.
        metadata: plain JSON values; `nphotons` is added, the mean number of photons on valid pixels.
        truth: whether the object goes into the file, as `objectGuess`.

    Returns:
        The path.

    Raises:
        ConfigError: a dose that overflows, or patterns of a size that a scan file does not hold.
        DataError: a scan that meets no light, or metadata that are not plain.
        OutputError: a place that cannot be written.
    """
    plan, recorded = _to_dose(plan)
    N = plan.probe.shape[-1]
    if not is_fast_side(N):
        fast = f"an even side without a prime factor above 13 (of the networks: {', '.join(map(str, PATTERN_SIZES))})"
        raise ConfigError(f"N: expected {fast}, found {N}; for example {next_fast_side(N)}")
    shape = (len(plan.xcoords), N, N)
    fields = ScanFile(
        diff3d=stand_in(shape, plan.frame_type),
        xcoords=plan.xcoords,
        ycoords=plan.ycoords,
        probeGuess=plan.probe,
        xcoords_start=plan.xcoords_true,
        ycoords_start=plan.ycoords_true,
        objectGuess=projected(plan.object).astype(np.complex64) if truth else None,
        mask=plan.mask,
        metadata={"nphotons": recorded, **({} if plan.near_field is None else plan.near_field.noted()), **metadata},
        units=plan.units,
    )
    # every block is asked for once and in order, so that the photons are those of `expose`
    frames = Frames(shape, plan.frame_type, lambda at: _record(plan, rng, int(at[0]), int(at[-1]) + 1))
    return write_stream(path, ScanStream(frames, None, fields))


def _record(plan: ScanPlan, rng: np.random.Generator, start: int, stop: int) -> NDArray[Any]:
    """Record the frames from `start` to `stop`, as they are stored."""
    frames = np.empty((stop - start, *plan.probe.shape[-2:]), plan.frame_type)
    for chunk, patches, modes, dx, dy in _chunks(plan, start, stop):
        expected = diffract(modes, patches, dx, dy, plan.recording.of(chunk))
        if expected.max() >= _LARGEST_COUNT:
            raise ConfigError(
                f"photons: expected below 2^31 in any pixel, found {plan.photons:g} a frame; ask for less"
            )
        if plan.noise:
            amplitude = poisson_amplitude(np.sqrt(expected), rng)
            block = np.rint(amplitude**2) if plan.units == "counts" else amplitude
        else:
            block = expected if plan.units == "counts" else np.sqrt(expected)
        frames[chunk.start - start : chunk.stop - start] = block
    if plan.mask is not None:
        frames *= plan.mask
    return frames


def _to_dose(plan: ScanPlan) -> tuple[ScanPlan, float]:
    """The plan with its probe scaled to the dose, complex64, and how many counts of a frame meet valid pixels."""
    energy, valid = 0.0, 0.0
    for chunk, patches, modes, dx, dy in _chunks(plan, 0, len(plan.xcoords)):
        # the energy behind the object is that on the detector (Parseval), which keeps every photon
        if plan.mask is None and plan.fly_path is None and plan.gap is None and plan.variation is None:
            moved = fourier_shift(modes, dx[:, None], dy[:, None]) if dx.any() or dy.any() else modes
            waves = illuminate(moved, patches)
            energy += float(np.vdot(waves, waves).real)
        else:
            expected = diffract(modes, patches, dx, dy, replace(plan.recording.of(chunk), background=None))
            energy += float(expected.sum())
            valid += 0.0 if plan.mask is None else float(expected[:, plan.mask].sum())
    if not energy > 0:
        raise DataError("scan: expected light behind the object, found none; check positions and probe")
    share = 1.0 if plan.mask is None else valid / energy
    if not share > 0:
        raise DataError("mask: expected valid pixels with light, found none; make gaps and stop smaller")
    factor = np.sqrt(plan.photons * len(plan.xcoords) / energy)
    varies = plan.variation
    varies = None if varies is None else replace(varies, modes=factor * varies.modes)
    scaled = replace(plan, probe=(plan.probe * factor).astype(np.complex64), variation=varies)
    return scaled, float(plan.photons * share) + _beside(plan)


def _beside(plan: ScanPlan) -> float:
    """Counts of the background of a frame on valid pixels."""
    return (
        0.0
        if plan.background is None
        else float(np.sum(plan.background, where=True if plan.mask is None else plan.mask))
    )


def _chunks(plan: ScanPlan, start: int, stop: int) -> Iterator[tuple[slice, Complex, Complex, Positions, Positions]]:
    """Patches at the rounded true positions and the remainders, with the modes in complex128."""
    modes = as_modes(plan.probe).astype(np.complex128)
    xcoords, ycoords = plan.true_positions
    step = max(1, _CHUNK_PIXELS // modes.size)
    for first in range(start, stop, step):
        chunk = slice(first, min(first + step, stop))
        patches, dx, dy = extract_rounded(plan.object, xcoords[chunk], ycoords[chunk], modes.shape[-1])
        yield chunk, patches, modes, dx, dy


def _check_shapes(plan: ScanPlan) -> None:
    object, probe, mask = plan.object, plan.probe, plan.mask
    if object.ndim != (2 if plan.gap is None else 3):
        expected = "(H, W)" if plan.gap is None else "(K, H, W)"
        raise DataError(f"object: expected shape {expected}, found {object.shape}; pass one complex image")
    if probe.ndim not in (2, 3) or probe.shape[-1] != probe.shape[-2]:
        raise DataError(f"probe: expected (N, N) or (M, N, N), found {probe.shape}; the modes come first")
    x, y = plan.xcoords, plan.ycoords
    if x.ndim != 1 or x.shape != y.shape or x.size == 0:
        raise DataError(
            f"xcoords, ycoords: expected one shape (n,), n >= 1, found {x.shape}, {y.shape}; "
            "pass the pixel position of every frame"
        )
    for line in plan.true_positions:
        if line.shape != x.shape:
            raise DataError(f"true positions: expected shape {x.shape} as xcoords, found {line.shape}; correct them")
    if plan.fly_path is not None:
        check_fly_path(plan.fly_path, x.size)
    if plan.variation is not None:
        check_variation(plan.variation, x.size, probe.shape[-1])
    if plan.blur is not None:
        check_blur(plan.blur, probe.shape[-1])
    background = plan.background
    if background is not None and (
        background.shape != probe.shape[-2:] or not (np.isfinite(background) & (background >= 0)).all()
    ):
        found = f"{background.shape}"
        raise DataError(
            f"background: expected {probe.shape[-2:]} finite counts, none below 0, found {found}; correct it"
        )
    if mask is not None and (mask.dtype != bool or mask.shape != probe.shape[-2:]):
        raise DataError(f"mask: expected bool {probe.shape[-2:]}, found {mask.dtype} {mask.shape}; True is valid")
