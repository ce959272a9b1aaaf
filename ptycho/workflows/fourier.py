"""Fourier ptychography: from images under many LEDs to a judged sample, by the same iteration as any scan.

The images are patterns, the pupil is the probe, and the spectrum of the sample the object
(`ptycho.core.physics.fourier_ptychography`); the iteration begins with the spectrum of the bright-field image, since
from a flat one it goes astray.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig
from ptycho.config.options import IterationOptions
from ptycho.core.formats.led_table import Leds
from ptycho.core.fourier_result import as_sample
from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.fourier_ptychography import (
    INSIDE,
    KEY,
    SEEN,
    Microscope,
    bright_field_start,
    pupil_functions,
)
from ptycho.core.progress import Watch, log_progress
from ptycho.core.quality.foretold import Foretold
from ptycho.core.quality.trust import NOISE, Trust
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.passes import places
from ptycho.core.refinement.preconditioner import illumination
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.scaling import Units
from ptycho.core.scan.scan import is_fast_side
from ptycho.core.scan.stream import Frames
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.workflows.backend import BackendName
from ptycho.workflows.backend_selector import backend_named
from ptycho.workflows.iterate import iterate
from ptycho.workflows.iteration_plan import Plan
from ptycho.workflows.refined_result import measured_reconstruction
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.start_from import unmeasured
from ptycho.workflows.trust import NOMINAL_PHOTONS, scan_trust

__all__ = ["FourierRequest", "FourierScan", "Region", "fourier_scan", "reconstruct_sample"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]
Region = tuple[int, int, int]
"""First column, first row and side of the part of the images that is reconstructed, camera pixels."""

KEPT_BACK, LEAST = 8, 24
"""Images that are kept back to be foretold by the others, and how many there have to be for that."""
INNER = 2 / 3
"""Share of the LEDs, those nearest to the axis, among which they are: others see the rim, which no second one sees."""
ITERATIONS = 30
"""Of that, and of trials of what may be wrong."""
BRIGHTER = 2.0
"""How many times brighter images of LEDs that shine into the objective are at least."""
BETTER = 1.3
"""Ratio of errors from which on a remedy is believed."""


@dataclass(frozen=True, eq=False)
class FourierScan:
    """Images and LEDs as a scan of the spectrum."""

    data: RawData
    """Images as patterns, places of the LEDs in the spectrum, and the pupil without aberrations as the probe."""
    start: Reconstruction
    """The spectrum to begin with."""
    microscope: Microscope
    region: Region
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class FourierRequest:
    """What is asked for beside the images."""

    backend: BackendName
    iteration: IterationOptions = field(default_factory=IterationOptions)
    execution: PyTorchExecutionConfig | None = None
    tell: Callable[[str], None] = logger.info
    """Told in one line each what was found and decided."""
    watch: Watch = log_progress


def fourier_scan(
    images: Frames,
    leds: Leds,
    microscope: Microscope,
    region: Region | None = None,
    units: Units = "counts",
    name: str = "images",
) -> FourierScan:
    """Prepare images for their reconstruction.

    Args:
        images: (k, rows, columns), intensities unless `units` says otherwise.
        leds: of each image.
        microscope: its optics.
        region: the part to reconstruct; None: the largest square in the middle that transforms take fast.
        units: 'counts' or 'amplitude', what pixels hold.
        name: of the images.

    Raises:
        ConfigError: a region outside the images, or optics that cannot be.
        DataError: another number of LEDs than of images, or no LED that shines into the objective.
    """
    if len(images) != len(leds):
        raise DataError(
            f"{name}: expected one LED for every image, found {len(leds)} for {len(images)}; correct the table or the "
            "board (--leds, --led-grid)"
        )
    rows, columns = images.shape[1:]
    x0, y0, n = _region(region, rows, columns)
    patterns = np.empty((len(images), n, n), images.dtype)
    for block, values in images.blocks():
        patterns[block] = values[:, y0 : y0 + n, x0 : x0 + n]
    middle = (x0 + n // 2 - columns // 2) * microscope.pixel_m, (y0 + n // 2 - rows // 2) * microscope.pixel_m
    x, y, side = microscope.places(leds.sines(middle), n)
    away = np.hypot(x - side // 2, y - side // 2)
    inside = away < INSIDE * microscope.radius_px(n)
    if not inside.any():
        raise DataError(
            f"LEDs: expected one within the numerical aperture {microscope.na:g}, found the nearest at "
            f"{away.min() / microscope.radius_px(n) * microscope.na:.2g}; check the height, --led-centre and --na"
        )
    central = int(np.argmin(away))
    bright = patterns[central].astype(np.float64)
    spectrum, pupil = bright_field_start(bright if units == "amplitude" else np.sqrt(bright), microscope, side)
    optics = {**asdict(microscope), "region": [x0, y0, n], "pupil_radius_px": microscope.radius_px(n)}
    data = RawData(x, y, None, None, patterns, pupil, metadata={"name": name, KEY: optics}, units=units)
    largest = microscope.na + float(away.max()) * microscope.wavelength_m / (n * microscope.pixel_m)
    notes = (
        f"{len(images)} images of {n} x {n} pixels, {np.count_nonzero(inside)} of them bright; synthetic NA "
        f"{largest:.3g}, a pixel of the sample is {1e9 * microscope.pixel_m * n / side:.4g} nm",
    )
    start = _start(spectrum, pupil, x, y)
    return FourierScan(data, start, microscope, (x0, y0, n), notes, _faults(patterns, inside))


def reconstruct_sample(scan: FourierScan, request: FourierRequest) -> Reconstruction:
    """Reconstruct the sample, its pupil and what else is asked for, and measure how well it explains the images.

    Returns:
        The sample (L, L), with the pupil (n, n) as `probe`, in the unit of the images' amplitudes. Positions are those
        of the LEDs in the spectrum, `ptycho.core.physics.fourier_ptychography.spectrum_of` the sample.

    Raises:
        ConfigError: options that mean nothing here.
    """
    options, told = _options(request.iteration), []

    def tell(line: str) -> None:
        told.append(line)
        request.tell(line)

    for line in (*scan.notes, *scan.faults):
        tell(line)
    backend = backend_named(request.backend)
    run = backend.settled(RunOptions(execution=request.execution, watch=request.watch))
    functions = pupil_functions(scan.microscope.disk(scan.data.N))
    refine = partial(backend.refine, config=InferenceConfig(backend=request.backend), run=run, pupil=functions)
    plan = Plan(scan.start.probe, options.refine_probe is not False, False)
    found = iterate(scan.data, refine, options, scan.start, request.watch, tell=tell, plan=plan)
    known = _known(found.refinement, scan.microscope)
    solved = measured_reconstruction(known, scan.data, settings=asdict(options), device=backend.device(run))
    solved = replace(solved, object=known.object)
    begun = time.perf_counter()
    trust = solved.trust
    assert trust is not None
    trust = replace(trust, foretold=_foretold(scan, solved, refine), faults=scan.faults)
    if trust.grade != "to the noise" or trust.overall_ratio > NOISE:
        trust = replace(trust, advice=_advice(scan, solved, refine, options))
    timings = solved.timings | {"verdict": time.perf_counter() - begun}
    told_in = {**solved.provenance, "told": told}
    pixel = scan.microscope.pixel_m * scan.data.N / solved.frame.width
    solved = replace(solved, trust=trust, timings=timings, provenance=told_in)
    return as_sample(solved, (scan.data.metadata or {})[KEY], pixel)


def _options(asked: IterationOptions) -> IterationOptions:
    """What is left open is decided as it is best here."""
    if asked.fly_points is not None:
        raise ConfigError(f"fly_points={asked.fly_points!r}: expected none, LEDs do not move; leave --fly out")
    modes = None if asked.modes == "auto" else asked.modes
    if modes not in (None, 1):
        raise ConfigError(f"modes={modes}: expected one pupil; leave --modes out")
    # LEDs far from the axis are darker by far: no change of the beam is to be seen in the order of the images
    return replace(asked, modes=None, refine_flux=False if asked.refine_flux == "auto" else asked.refine_flux)


def _region(region: Region | None, rows: int, columns: int) -> Region:
    if region is None:
        n = min(rows, columns)
        while n > 2 and not is_fast_side(n):
            n -= 1
        region = (columns - n) // 2, (rows - n) // 2, n
    x0, y0, n = region
    if not (is_fast_side(n) and 0 <= x0 <= columns - n and 0 <= y0 <= rows - n):
        raise ConfigError(
            f"region: expected X,Y,SIDE inside images of {columns} x {rows} pixels, SIDE even and without a prime "
            f"factor above 13, found {x0},{y0},{n}; correct it"
        )
    return region


def _start(spectrum: Array, pupil: Array, x: Array, y: Array) -> Reconstruction:
    """The spectrum as a result to go on from."""
    frame = ObjectFrame(spectrum.shape[0], spectrum.shape[1], 0, 0)
    return unmeasured(spectrum, pupil[None], x, y, frame, "numpy")


def _faults(patterns: Array, inside: NDArray[np.bool_]) -> tuple[str, ...]:
    """LEDs that do not go with the images: those within the aperture make them bright."""
    brightness = patterns.mean(axis=(1, 2))
    if inside.all() or np.median(brightness[inside]) > BRIGHTER * np.median(brightness[~inside]):
        return ()
    return (
        "images of LEDs within the aperture are no brighter than the others: check --led-order, --led-centre, "
        "--rotation and the order of the images",
    )


def _known(found: Refinement, microscope: Microscope) -> Refinement:
    """Without what edges of pupils alone see."""
    n, shape = found.probe.shape[-1], found.object.shape
    rows, cols, _, _ = places(found.xcoords, found.ycoords, n, shape)
    light = illumination(microscope.disk(n) ** 2, rows, cols, shape)
    return replace(found, object=np.where(light > SEEN, found.object, 0).astype(np.complex64))


def _foretold(scan: FourierScan, solved: Reconstruction, refine: Callable[..., Refinement]) -> Foretold | None:
    """What the other images foretell of some, from the same start, with the pupil and the places that were found."""
    data, count = scan.data, len(scan.data)
    if count < LEAST:
        return None
    away = np.hypot(data.xcoords - scan.start.frame.width // 2, data.ycoords - scan.start.frame.height // 2)
    nearest = np.argsort(away, kind="stable")[1 : max(KEPT_BACK + 1, int(INNER * count))]
    kept = np.sort(nearest[np.linspace(0, len(nearest) - 1, KEPT_BACK).round().astype(int)])
    start = replace(scan.start, xcoords=solved.xcoords, ycoords=solved.ycoords)
    again = refine(
        data,
        start,
        ITERATIONS,
        probe=solved.probe,
        likelihood="amplitude",
        refine_probe=False,
        holdout=kept.astype(np.int64),
        patience=ITERATIONS + 1,
        **solved.recording.known,
    )

    def compared(image: Array) -> Trust:
        where = solved.xcoords, solved.ycoords
        return scan_trust(image, solved.probe, *where, data, NOMINAL_PHOTONS, recording=solved.recording)

    before, after = compared(scan.start.object), compared(again.object)
    return Foretold(
        kept.astype(np.int64),
        misfit=after.misfit[kept],
        noise=after.noise[kept],
        blank=before.misfit[kept],
        deviation=after.deviation[kept] / 4,
    )


def _advice(
    scan: FourierScan, solved: Reconstruction, refine: Callable[..., Refinement], options: IterationOptions
) -> str:
    """The next step, a clause: what else may move is tried, and the images say which explains them best."""
    usual: dict[str, Any] = {"likelihood": "amplitude", "refine_probe": options.refine_probe is not False}
    usual |= {"patience": ITERATIONS + 1, **solved.recording.known}

    def error(data: RawData = scan.data, **moving: Any) -> float:
        x, y = (solved.xcoords, solved.ycoords) if data is scan.data else (data.xcoords, data.ycoords)
        found = refine(data, replace(scan.start, xcoords=x, ycoords=y), ITERATIONS, **{**usual, **moving})
        return found.error_history[found.kept]

    before = error()
    errors = {said: error(**moving) for said, moving in _trials(options).items()}
    mirrored = _mirrored(scan.data, scan.start.frame.width)
    errors["images are mirrored: --flip x, or the command without it"] = error(mirrored)
    best = min(errors, key=lambda said: errors[said])
    if before > BETTER * errors[best]:
        return f"{best} (the images are then explained {before / errors[best]:.2g} times better)"
    return "check --na, --magnification, the height of the LEDs, --flip and --rotation"


def _trials(options: IterationOptions) -> dict[str, dict[str, Any]]:
    """What may help, a clause each that names its flag, and how it is tried; the first of equals is named."""
    trials: dict[str, dict[str, Any]] = {}
    if options.refine_probe is False:
        trials["the objective has aberrations: leave out --refine-probe false"] = {"refine_probe": True}
    if not options.refine_positions:
        stage = "the board of LEDs is turned, sheared or at another height: --positions stage"
        trials[stage] = {"refine_positions": "stage"}
        trials["LEDs are not in their places: --positions"] = {"refine_positions": True}
    if options.background_family is None:
        trials["light comes to every image: --background constant"] = {"refine_background": "constant"}
    if not options.refine_flux:
        flux = "LEDs are not equally bright: --flux finds how, and leaves faint parts of the spectrum less certain"
        trials[flux] = {"refine_flux": True}
    return trials


def _mirrored(data: RawData, side: int) -> RawData:
    """The scan with the sign of x turned; that of both axes gives the conjugate of the sample, as well."""
    x = 2 * (side // 2) - data.xcoords
    return RawData(x, data.ycoords, None, None, data.diff3d, data.probeGuess, metadata=data.metadata, units=data.units)
