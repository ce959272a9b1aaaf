"""Simulated scans with a known truth: from settings and a seed to a plan, and to the recorded scan.

Objects, probes, paths, detector and exposure have modules of their own (`objects`, `probes`, `scan_paths`,
`detector`, `exposure`); here they come together. Whatever is random is drawn from generators made of the seed,
one for each part, so that another dose or step leaves the object as it is. Both backends use this module: the
same seed gives the same numbers in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.fly_scan import FlyPath, fly_path, line_ways
from ptycho.core.physics.multislice import gap_of
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.probes import make_probe, orthogonal_modes
from ptycho.core.physics.stage import Stage, directions
from ptycho.core.physics.variable_probe import ProbeVariation
from ptycho.core.scaling import Units
from ptycho.core.simulation.detector import detector_mask, without_rim
from ptycho.core.simulation.exposure import ScanPlan, SimulatedScan, expose
from ptycho.core.simulation.objects import make_object
from ptycho.core.simulation.probe_drift import drifting
from ptycho.core.simulation.scan_paths import displaced, scan_positions, step_for_count, step_for_overlap
from ptycho.core.units import wavelength_m
from ptycho.errors import ConfigError

__all__ = ["ScanSettings", "SimulatedScan", "make_scan", "plan_scan", "simulate_scan"]

Complex = NDArray[np.complexfloating[Any, Any]]
Positions = NDArray[np.float64]

_FLOWN = ("raster", "snake", "spiral")
"""Paths whose points follow each other along lines."""
SLICE_KINDS = ("dead_leaves", "siemens_star", "lines")
"""What the slices of a thick object show behind the first one, in turn."""
_APART = 0.5
"""Distance of the places of a probe that moves, pixels."""


@dataclass(frozen=True)
class ScanSettings:
    """What a simulated scan is like. Of `step`, `overlap` and `count` at most one is given."""

    kind: str = "lines"
    """Kind of object (`ptycho.core.simulation.objects.OBJECTS`)."""
    object_settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of that kind."""
    shape: tuple[int, int] | None = None
    """(H, W) of the object, pixels; None is 4 N x 4 N."""
    amplitude: tuple[float, float] = (0.4, 1.0)
    """Lowest and highest amplitude of the object."""
    phase: tuple[float, float] = (-1.0, 1.0)
    """Lowest and highest phase of the object, radians."""
    N: int = 64
    """Side of a pattern, pixels."""
    probe: str = "zone_plate"
    """Kind of probe (`ptycho.core.physics.probes.PROBES`)."""
    probe_settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of that kind."""
    modes: tuple[float, ...] = (1.0,)
    """Power of each incoherent mode of the probe, up to a common factor; one mode is full coherence."""
    path: str = "raster"
    """Scan path (`ptycho.core.simulation.scan_paths.SCAN_PATHS`)."""
    step: float | None = None
    """Distance of neighbours, pixels; None is N/8, unless `overlap` or `count` says it."""
    overlap: float | None = None
    """Linear overlap of neighbours, as a fraction of the diameter that holds 90 % of the probe's energy."""
    count: int | None = None
    """Number of positions, exact for the path 'random', near for the others."""
    jitter: float = 2.0
    """Largest known displacement along each axis, pixels."""
    position_error: float = 0.0
    """Standard deviation of the unknown displacement along each axis, pixels: positions in the scan are off by it."""
    fly: float = 0.0
    """Share of the way to the next position that the stage goes while a frame is exposed; 0 is at rest."""
    stage_scale: tuple[float, float] = (1.0, 1.0)
    """Factors (x, y) by which true positions are farther from the middle of all than the scan says."""
    stage_rotation: float = 0.0
    """Degrees, from x towards y, by which they are turned about the middle."""
    stage_shear: float = 0.0
    """Degrees by which the angle between the axes of the stage is less than 90."""
    backlash: tuple[float, float] = (0.0, 0.0)
    """Pixels (x, y) between lines there and lines back, for a path that has both ('snake')."""
    photons: float = 1e9
    """Mean number of photons per frame on the whole detector."""
    fresnel_number: float | None = None
    """Of a pixel, `p^2 / (wavelength z)`: patterns of the near field at that distance; None: far field."""
    slices: int = 1
    """Slices of a thick object; the others show what `SLICE_KINDS` has after the first, which is of `kind`."""
    thickness: float | None = None
    """Metres, of a sample of several slices, each in the middle of its part; with `energy_keV` and
    `object_pixel_nm`."""
    energy_keV: float | None = None
    """Energy of the photons, which the scan tells."""
    object_pixel_nm: float | None = None
    """Side of a pixel of the object, which the scan tells."""
    noise: bool = True
    """Whether photons are counted; else frames are what is expected."""
    units: Units = "amplitude"
    """What frames hold: 'amplitude' or 'counts'."""
    gap_width: int = 0
    """Width of the gaps between four detector modules, pixels; 0 is none."""
    gap_offset: int = 0
    """Distance of the gaps from the zero frequency, pixels."""
    bad_pixels: float = 0.0
    """Fraction of the detector's pixels that are bad."""
    background: float = 0.0
    """Counts that come to every pixel of every frame beside `photons`."""
    detector_blur: float = 0.0
    """Standard deviation of the blur of the detector, pixels (`ptycho.core.physics.detector_blur`)."""
    probe_drift: float = 0.0
    """Waves of defocus at the edge of the far field of the probe that its focus drifts by, from first to last frame."""
    beam_stop: float = 0.0
    """Diameter of the beam stop on the detector, pixels; 0 is none."""
    seed: int = 0
    """Of everything that is random; a whole number, 0 or more."""

    @property
    def geometry(self) -> dict[str, float]:
        """What the metadata of the scan say of it."""
        lengths = {"energy_eV": (self.energy_keV, 1e3), "object_pixel_m": (self.object_pixel_nm, 1e-9)}
        return {name: value * unit for name, (value, unit) in lengths.items() if value is not None}


def plan_scan(
    settings: ScanSettings, object: Complex | None = None, probe: Complex | None = None
) -> tuple[ScanPlan, np.random.Generator]:
    """Draw everything of a scan but its photons.

    Args:
        settings: what the scan is like.
        object: (H, W), instead of the one that the settings describe.
        probe: (N, N) or (M, N, N), instead of the one that the settings describe; a single mode is split as
            `settings.modes` says.

    Returns:
        plan: what `ptycho.core.simulation.exposure.expose` records.
        rng: the generator to record it with.

    Raises:
        ConfigError: a setting, or a combination of settings, that cannot be.
    """
    s = settings
    if s.seed < 0:
        raise ConfigError(f"seed: expected a whole number, 0 or more, found {s.seed}; choose another")
    for_object, for_positions, for_noise, for_errors, for_detector = (
        np.random.default_rng(stream) for stream in np.random.SeedSequence(s.seed).spawn(5)
    )
    if probe is None:
        probe = make_probe(s.probe, s.N, **s.probe_settings)
    if len(s.modes) != 1:
        probe = orthogonal_modes(probe, s.modes)
    N = probe.shape[-1]
    if object is None:
        object = make_object(s.kind, s.shape or (4 * N, 4 * N), for_object, s.amplitude, s.phase, **s.object_settings)
    shape = (object.shape[0], object.shape[-1])
    gap = _gap(s, N)
    if gap is not None:
        kinds = (SLICE_KINDS[k % len(SLICE_KINDS)] for k in range(s.slices - 1))
        behind = (make_object(kind, shape, for_object, s.amplitude, s.phase) for kind in kinds)
        object = np.stack([object, *behind])
    xcoords, ycoords = scan_positions(s.path, shape, N, _step(s, shape, probe), s.jitter, for_positions)
    x_true, y_true = _true_positions(s, xcoords, ycoords, for_errors)
    mask = detector_mask(N, for_detector, s.gap_width, s.gap_offset, s.bad_pixels, s.beam_stop)
    near = None if s.fresnel_number is None else NearField(s.fresnel_number)
    path = _fly_path(s, xcoords, ycoords)
    if near is not None:
        gone = 0.0 if path is None else np.abs(path).max()  # at the rim of a beam that has none a way leads around
        mask = without_rim(mask, N, min(near.spread_px + int(np.ceil(gone)), N // 4))
    if not 0 <= s.background < np.inf:
        raise ConfigError(f"background: expected 0 or more counts per pixel, found {s.background}; correct it")
    probe, variation = _drifting(s, probe, len(xcoords))
    background = np.full((N, N), s.background) if s.background else None
    beside = path, background, near, gap, variation, s.detector_blur or None
    plan = ScanPlan(object, probe, xcoords, ycoords, s.photons, s.units, mask, x_true, y_true, s.noise, *beside)
    return plan, for_noise


def _gap(settings: ScanSettings, n: int) -> NearField | None:
    """The free space between two slices."""
    s = settings
    if s.slices == 1:
        return None
    if s.fresnel_number is not None:
        raise ConfigError("slices: expected a far field, found fresnel_number of a near one; leave one of them out")
    if s.thickness is None or s.energy_keV is None or s.object_pixel_nm is None:
        raise ConfigError(
            f"slices={s.slices}: expected thickness, energy_keV and object_pixel_nm, found not all three; give them"
        )
    return gap_of(s.slices, s.thickness, wavelength_m(1e3 * s.energy_keV), 1e-9 * s.object_pixel_nm, n)


def _drifting(settings: ScanSettings, probe: Complex, count: int) -> tuple[Complex, ProbeVariation | None]:
    """The mean probe and how it varies, where its focus drifts."""
    if not np.isfinite(settings.probe_drift):
        raise ConfigError(f"probe_drift: expected a number of waves, found {settings.probe_drift}; correct it")
    return drifting(as_modes(probe), count, settings.probe_drift) if settings.probe_drift else (probe, None)


def _fly_path(settings: ScanSettings, xcoords: Positions, ycoords: Positions) -> FlyPath | None:
    """Places half a pixel apart on the way between neighbours in the order of the scan."""
    share = settings.fly
    if not 0 <= share <= 1:
        raise ConfigError(f"fly: expected a share of the step from 0 to 1, found {share}; correct it")
    if not share:
        return None
    if settings.path not in _FLOWN:
        raise ConfigError(f"fly: expected a path among {', '.join(_FLOWN)}, found {settings.path}; choose one of these")
    ways = line_ways(xcoords, ycoords)
    longest = share * float(np.hypot(*ways.T).max(initial=0.0))
    return fly_path(ways, max(1, int(np.ceil(longest / _APART))), share)


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

    Arguments as in `ScanSettings`; the object has `size` x `size` pixels.
    """
    settings = ScanSettings(
        kind=kind, shape=(size, size), N=N, step=step, jitter=jitter, photons=photons, seed=seed, units=units
    )
    return expose(*plan_scan(settings))


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
    """Record a scan at given positions: `expose` of a `ScanPlan` with these arguments."""
    return expose(ScanPlan(object, probe, xcoords, ycoords, photons, units, mask), rng)


def _true_positions(
    settings: ScanSettings, x: Positions, y: Positions, rng: np.random.Generator
) -> tuple[Positions | None, Positions | None]:
    """Where the probe really is; None where that is what the scan says."""
    s = settings
    stage = Stage.of(s.stage_scale, s.stage_rotation, s.stage_shear, s.backlash)
    if any(s.backlash) and directions(x, y) is None:
        raise ConfigError(f"backlash: expected a path with lines there and back ('snake'), found {s.path!r}")
    if not (stage.matrix.any() or stage.backlash.any() or s.position_error):
        return None, None
    moved = stage.displacement(x, y)
    return displaced(x + moved[:, 0], y + moved[:, 1], s.position_error, rng)


def _step(settings: ScanSettings, shape: tuple[int, int], probe: Complex) -> float:
    given = {name: getattr(settings, name) for name in ("step", "overlap", "count")}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1:
        found = ", ".join(f"{name}={value}" for name, value in given.items())
        raise ConfigError(f"expected one of step, overlap and count, found {found}; leave the others out")
    if settings.overlap is not None:
        return step_for_overlap(probe, settings.overlap)
    if settings.count is not None:
        return step_for_count(shape, probe.shape[-1], settings.count)
    return probe.shape[-1] / 8 if settings.step is None else settings.step
