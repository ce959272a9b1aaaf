"""Where a refinement begins: what is given, else what its start has, else nothing known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.physics.detector_blur import check_blur
from ptycho.core.physics.diffraction import as_modes, diffract
from ptycho.core.physics.fly_scan import FlyPath, check_fly_path
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.probes import with_modes
from ptycho.core.physics.recording import Recording, check_background, check_flux
from ptycho.core.physics.scan_probes import ScanProbes, check_scan_probes
from ptycho.core.physics.variable_probe import ProbeVariation, check_variation
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.device.kernels import Point, ScanData
from ptycho.core.refinement.refinement import Refinement, Start
from ptycho.core.refinement.settings import Settings
from ptycho.core.refinement.steps.background import first_background
from ptycho.core.refinement.steps.placement import room
from ptycho.core.refinement.steps.thickness import in_slices
from ptycho.core.refinement.sums.parts import places
from ptycho.errors import ConfigError, DataError

__all__ = ["checked_pupil", "first_point", "first_recording", "known_path"]

Array = NDArray[Any]

FAR = 10.0
"""Ratio of light from which on a flat object is not begun at 1: the probe is in another unit than the patterns."""
LOOKED_AT = 32
"""Patterns that tell it."""
BRIGHT = 0.5
"""Light of a pixel of a flat object's pattern, relative to the brightest, from which on it is the direct beam's."""


def first_recording(scan: ScanData, start: Start | None, given: Recording) -> Recording:
    """The gap between slices, the path of the probe, how it differs from pattern to pattern and the blur of the
    detector, those given or else those of a start; the rest as it is. A blur that neither has is that of the scan.

    Raises:
        ConfigError: slices, or a path, of a near field.
    """
    gap, path = _gap(scan, start, given.gap), _fly_path(scan, start, given.fly_path)
    variation = _differing(scan, start, given.variation)
    return replace(given, gap=gap, fly_path=path, variation=variation, blur=_blur(scan, start, given.blur))


def _blur(scan: ScanData, start: Start | None, given: float | None) -> float | None:
    """That given, else that of a start, else what the scan knows; in a refinement None says that there is none."""
    if given is not None:
        return given
    known = start.blur if isinstance(start, Reconstruction | Refinement) else None
    return scan.blur if known is None and not isinstance(start, Refinement) else known


def _differing(
    scan: ScanData, start: Start | None, given: ProbeVariation | ScanProbes | None
) -> ProbeVariation | ScanProbes | None:
    """How the probe differs, as is given, else as in a start with as many patterns, else by the scan."""
    if given is None and isinstance(start, Reconstruction | Refinement) and len(start.xcoords) == len(scan):
        given = start.variation
    return scan.scan_probes if given is None else given


def first_point(
    scan: ScanData,
    start: Start | None,
    probe: Array | None,
    frame: ObjectFrame | None,
    recording: Recording,
    settings: Settings,
) -> tuple[Point, ObjectFrame]:
    """Object, probe, positions, flux, background and blur to begin with, and the frame they lie in.

    Flux and background are those given, else those of the start, else what the scan knows.
    """
    x, y = np.asarray(scan.xcoords, np.float64), np.asarray(scan.ycoords, np.float64)
    flux, background = recording.flux, recording.background
    image: Array | None
    if isinstance(start, Reconstruction | Refinement):
        image, frame = start.layers, start.frame if frame is None else frame
        probe = start.probe if probe is None else probe
        if len(start.xcoords) == len(scan):
            x, y = start.xcoords + start.frame.x0, start.ycoords + start.frame.y0
            flux = start.flux if flux is None else flux
        known = scan.background is not None and len(start.xcoords) != len(scan)
        if start.background is not None and start.background.shape == scan.probeGuess.shape[-2:] and not known:
            background = start.background if background is None else background
    else:
        image = start
    n = int(scan.probeGuess.shape[-1])
    if frame is None:
        frame = object_frame(x, y, n)
        if settings.refine_positions and image is None:
            frame = frame.widened(room(x, y, settings.position_bound_px))
    if image is not None and image.shape[-2:] != frame.shape:
        raise DataError(
            f"start: expected an object of the frame's shape {frame.shape}, found {image.shape}; pass the frame= it "
            "lies in"
        )
    modes = as_modes(np.asarray(scan.probeGuess if probe is None else probe))
    if modes.ndim != 3 or modes.shape[1:] != (n, n):
        raise DataError(f"probe: expected shape (M, {n}, {n}) as the patterns, found {modes.shape}; crop or pad it")
    for name, values in (("start", image), ("probe", modes), ("xcoords", x), ("ycoords", y)):
        if values is not None and not np.isfinite(values).all():
            raise DataError(f"{name}: expected finite values, found NaN or infinity; replace them")
        if name in ("start", "probe") and values is not None and not values.any():
            raise DataError(f"{name}: expected a value that is not 0, found none; nothing can be refined from the dark")
    x, y = frame.local(x, y)
    places(x, y, n, frame.shape)
    flux = scan.flux if flux is None else flux
    background = scan.background if background is None else background
    tells = image is None and scan.near_field is None and settings.pupil is None and scan.scan_probes is None
    image = in_slices(image, settings.slices, recording.gap, frame.shape)
    if background is None and start is None and settings.refine_background is not None:
        background = first_background(scan)
    flux = np.ones(len(scan)) if flux is None else check_flux(flux, len(scan))
    background = np.zeros((n, n)) if background is None else check_background(background, n)
    level = _level(scan, modes, background) if tells else 1.0
    if level != 1:
        image = image * level ** (1 / (1 if image.ndim == 2 else len(image)))
    blur = np.array(0.0 if recording.blur is None else check_blur(recording.blur, n))
    begun = Point(image, modes, x, y, flux, background, blur=blur)
    changes, coefficients = _variation(recording.variation, len(scan), n, settings.variable_probe)
    if isinstance(recording.variation, ScanProbes):
        begun = begun._replace(probe=_of_all_scans(modes, check_scan_probes(recording.variation, len(scan), n)))
    return begun._replace(variation=changes, coefficients=coefficients), frame


def _level(scan: ScanData, modes: Array, background: Array) -> float:
    """The modulus of a flat object: 1, but for a probe that is in quite another unit than the patterns.

    From an object that is many times too dark or too bright few iterations lead nowhere. A background makes all pixels
    together too bright, and a sample that scatters the direct beam too dark: the nearer of both to 1 is believed.
    """
    some = np.unique(np.linspace(0, len(scan) - 1, LOOKED_AT).round().astype(int))
    n, mask = modes.shape[-1], scan.mask
    valid = np.ones((n, n), bool) if mask is None else mask[some].all(axis=0) if mask.ndim == 3 else mask
    light = diffract(modes.astype(np.complex128), np.ones((1, n, n)))[0] * valid
    mean = np.square(scan.amplitude(some), dtype=np.float64).mean(axis=0)
    mean = np.maximum(np.where(valid, mean - background, 0), 0)
    bright = light > BRIGHT * light.max()
    if not bright.any() or not mean[bright].any():
        return 1.0
    ratios = sorted((float(mean.sum() / light.sum()), float(mean[bright].sum() / light[bright].sum())))
    ratio = ratios[0] if ratios[0] > FAR else ratios[1] if ratios[1] < 1 / FAR else 1.0
    return float(np.sqrt(ratio))


def _of_all_scans(modes: Array, known: ScanProbes) -> Array:
    """(S M, N, N) modes of the probes of all scans, each with as many as the first."""
    return np.concatenate([modes, *(with_modes(other, len(modes)) for other in known.others)])


def _variation(given: ProbeVariation | ScanProbes | None, count: int, n: int, wanted: int) -> tuple[Array, Array]:
    """Modes and coefficients to begin with, at least so many; further ones are 0."""
    if not isinstance(given, ProbeVariation):
        return np.zeros((wanted, n, n), complex), np.zeros((count, wanted), complex)
    known = check_variation(given, count, n)
    more = max(0, wanted - len(known.modes))
    return np.pad(known.modes, ((0, more), (0, 0), (0, 0))), np.pad(known.coefficients, ((0, 0), (0, more)))


def _gap(scan: ScanData, start: Start | None, given: NearField | None) -> NearField | None:
    """That given, else that of a start."""
    gap = start.gap if given is None and isinstance(start, Reconstruction | Refinement) else given
    if gap is not None and scan.near_field is not None:
        raise ConfigError("slices: expected a far field, found a scan of the near field; leave them out")
    return gap


def checked_pupil(given: NDArray[np.float64] | None, scan: ScanData) -> NDArray[np.float64] | None:
    """Functions of a pupil that fit the probe.

    Raises:
        DataError: another shape, or values that are not finite.
    """
    n = int(scan.probeGuess.shape[-1])
    if given is not None and (given.ndim != 3 or given.shape[1:] != (n, n) or not np.isfinite(given).all()):
        raise DataError(f"pupil: expected finite functions (K, {n}, {n}), found shape {given.shape}; correct them")
    return given


def known_path(start: Start | None, count: int) -> FlyPath | None:
    """That of a start with so many patterns; None where it has none."""
    known = start.fly_path if isinstance(start, Reconstruction | Refinement) else None
    return known if known is not None and len(known) == count else None


def _fly_path(scan: ScanData, start: Start | None, given: FlyPath | None) -> FlyPath | None:
    """The path given, else that of a start with as many patterns."""
    if given is None:
        given = known_path(start, len(scan))
    if given is None:
        return None
    return check_fly_path(given, len(scan))
