"""Refinement of object, probe and positions: from a first object to the likelihood's own answer.

The order of things for every engine (`engine`), which brings its `Kernels`. The objective is a sum over valid pixels
(`passes` has both likelihoods), reported relative to `sum A^2`. Steps are conjugate gradients (`descent`) in the
metric of `preconditioner`; positions take a Gauss-Newton step of their own.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.fly_scan import FlyPath, check_fly_path
from ptycho.core.physics.multislice import MOST_SLICES, projected
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.recording import PLAIN, Recording
from ptycho.core.physics.variable_probe import ProbeVariation, check_variation
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.background import Family, first_background
from ptycho.core.refinement.descent import Descent, Limits, descend
from ptycho.core.refinement.engine import Engine, find_engine
from ptycho.core.refinement.gauge import UNCHANGED, Gauge, Scale, hold, scale_factor
from ptycho.core.refinement.kernels import Kernels, Point, ScanData
from ptycho.core.refinement.passes import Likelihood, Passes, intensity_floor, places
from ptycho.core.refinement.penalty import Penalty
from ptycho.core.refinement.placement import Placement, Positions, room
from ptycho.core.refinement.position_search import PositionSearch
from ptycho.core.refinement.priors import ObjectPrior
from ptycho.core.refinement.problem import ScanProblem
from ptycho.core.refinement.state_file import ScanKeeper, StateFile
from ptycho.core.refinement.thickness import in_slices
from ptycho.core.refinement.variable_probe import Variability, principal
from ptycho.core.result import ObjectResult, plural
from ptycho.errors import ConfigError, DataError

__all__ = ["Refinement", "Settings", "Start", "known_path", "refine_scan", "run"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class Refinement(ObjectResult):
    """What a refinement found: the best point it saw, the start included.

    Entry 0 of a history is the start, entry k comes after k iterations; `kept` is the entry of this result.
    """

    object: NDArray[np.complex64]
    """(H, W), in `frame`."""
    probe: NDArray[np.complex64]
    """(M, N, N)."""
    xcoords: NDArray[np.float64]
    ycoords: NDArray[np.float64]
    """(n,) centre of each patch in `object`, pixels; refined where that was asked for."""
    frame: ObjectFrame
    """Where `object` lies on the scan's own pixel grid."""
    flux: NDArray[np.float64]
    """(n,) of the beam at each pattern, relative to that of the probe; 1 where it was not refined."""
    background: NDArray[np.float64]
    """(N, N) of every pattern, in the unit of squared amplitudes, zero frequency in the middle; 0 where it was not
    refined."""
    error_history: tuple[float, ...]
    """Likelihood relative to `sum A^2`, over the patterns seen, with what the prior of the object adds."""
    unseen_history: tuple[float, ...]
    """Likelihood of the patterns held out, alone; empty where there are none."""
    kept: int
    restarts: int
    """Steps that were taken back."""
    iterations: int
    seconds: float
    stopped: str
    """Why it stopped, in words."""
    engine: str
    """Name of the engine."""
    gauge: Gauge = UNCHANGED
    """How object and probe were split anew on the way and at the end."""
    counts_from: int | None = None
    """The entry of the histories from which on the errors are of counts; None where all are of amplitudes."""
    fly_path: FlyPath | None = None
    """(n, S, 2) where the probe was while each pattern was counted, relative to its position; None: at rest."""
    slices: NDArray[np.complex64] | None = None
    """(K, H, W) of a thick object, whose product is `object`; None: it is thin."""
    gap: NearField | None = None
    """The free space between two slices; refined where that was asked for."""
    penalty: float = 0.0
    """What the prior of the object adds to the error of this result, in the histories as well."""
    variation: ProbeVariation | None = None
    """How the first mode of the probe differs from pattern to pattern; None: it is the same."""

    @property
    def recording(self) -> Recording:
        """How the patterns were recorded."""
        return Recording(self.flux, self.fly_path, self.background, gap=self.gap, variation=self.variation)

    def __repr__(self) -> str:
        modes, N, _ = self.probe.shape
        facts = [
            f"object {self.frame.height} x {self.frame.width}",
            plural(self.xcoords.size, "position"),
            f"N={N}",
            plural(modes, "probe mode"),
        ]
        change = f"{self.error_history[0]:.3g} -> {self.error_history[self.kept]:.3g}"
        done = f"{plural(self.iterations, 'iteration')} in {self.seconds:.3g} s ({self.stopped})"
        return f"Refinement({', '.join(facts)},\n  relative error {change}, {done})"


Start = Reconstruction | Refinement | Array
"""What a refinement can begin with: a result, or an object (H, W) in the frame of the result."""


VARIES = "0 or more modes of variation, of a probe that is refined (refine_probe)"


@dataclass(frozen=True)
class Settings:
    """How to refine; `refine_scan` describes every field."""

    iterations: int
    likelihood: Likelihood
    refine_probe: bool
    refine_positions: Positions
    position_bound_px: float
    refine_flux: bool
    batch_size: int | None
    holdout: float | NDArray[np.int64]
    patience: int
    tolerance: float
    seed: int
    keep_bytes: int
    noise: float = 0.0
    scale: Scale = "probe"
    seconds: float | None = None
    refine_background: Family | None = None
    slices: int | None = None
    refine_thickness: bool = False
    object_prior: ObjectPrior | None = None
    pupil: NDArray[np.float64] | None = None
    variable_probe: int = 0
    variable_probe_smooth: float | None = None

    def __post_init__(self) -> None:
        checks = (
            ("iterations", self.iterations >= 1, "at least 1"),
            ("likelihood", self.likelihood in ("amplitude", "poisson"), "'amplitude' or 'poisson'"),
            (
                "refine_positions",
                self.refine_positions in (True, False, "stage", "search"),
                "True, False, 'stage' or 'search'",
            ),
            ("position_bound_px", 0 < self.position_bound_px < math.inf, "a number of pixels above 0"),
            ("batch_size", self.batch_size is None or self.batch_size >= 1, "at least 1, or None for all"),
            (
                "holdout",
                np.all(np.isfinite(self.holdout)) and np.all(np.asarray(self.holdout) >= 0),
                "a fraction below 1 or a number of patterns",
            ),
            ("patience", self.patience >= 1, "at least 1"),
            ("tolerance", 0 <= self.tolerance < 1, "a fraction from 0 to below 1"),
            ("keep_bytes", self.keep_bytes >= 0, "0 or more"),
            ("noise", 0 <= self.noise < math.inf, "0 or more"),
            ("scale", self.scale in ("probe", "object"), "'probe' or 'object'"),
            (
                "refine_background",
                self.refine_background in (None, *get_args(Family)),
                f"one of {', '.join(get_args(Family))}, or None",
            ),
            ("seconds", self.seconds is None or self.seconds > 0, "a number above 0, or None for no limit"),
            ("slices", self.slices is None or 1 <= self.slices <= MOST_SLICES, f"1 to {MOST_SLICES}, or None"),
            ("variable_probe", self.variable_probe >= 0 and (self.refine_probe or not self.variable_probe), VARIES),
            (
                "variable_probe_smooth",
                self.variable_probe_smooth is None or 0 < self.variable_probe_smooth < math.inf,
                "a number of patterns above 0, or None",
            ),
        )
        for name, good, expected in checks:
            if not good:
                raise ConfigError(f"{name}: expected {expected}, found {getattr(self, name)!r}; correct it")


def refine_scan(
    scan: ScanData,
    start: Start | None = None,
    iterations: int = 40,
    *,
    engine: str | Engine = "numpy",
    probe: NDArray[np.complexfloating[Any, Any]] | None = None,
    frame: ObjectFrame | None = None,
    likelihood: Likelihood = "amplitude",
    refine_probe: bool = True,
    refine_positions: Positions = False,
    position_bound_px: float = 2.0,
    flux: NDArray[np.float64] | None = None,
    refine_flux: bool = False,
    fly_path: FlyPath | None = None,
    background: NDArray[np.float64] | None = None,
    refine_background: Family | None = None,
    slices: int | None = None,
    gap: NearField | None = None,
    refine_thickness: bool = False,
    variation: ProbeVariation | None = None,
    variable_probe: int = 0,
    variable_probe_smooth: float | None = None,
    batch_size: int | None = None,
    holdout: float | NDArray[np.int64] = 0.0,
    patience: int = 5,
    tolerance: float = 1e-4,
    seed: int = 0,
    keep_bytes: int = 2 << 30,
    noise: float = 0.0,
    scale: Scale = "probe",
    object_prior: ObjectPrior | None = None,
    pupil: NDArray[np.float64] | None = None,
    seconds: float | None = None,
    report: Callable[[int, float], None] | None = None,
    state_file: StateFile | None = None,
    **options: Any,
) -> Refinement:
    """Refine object and, when asked for, probe and positions on the patterns of a scan.

    Minimises `sum (|F| - A)^2` or the Poisson deviance over valid pixels; `ptycho.core.refinement.passes` has the
    formulas, `ptycho.core.refinement.descent` the steps. Deterministic for a seed.

    Args:
        scan: patterns, positions, probe and mask, read batch by batch: a `ptycho.raw_data.RawData`.
        start: None begins flat; an object `(H, W)`, of K slices `(K, H, W)`, lies in `frame`; an earlier
            reconstruction or refinement brings its object, probe, positions and frame. An object of one slice is the
            middle one of several.
        iterations: at most so many.
        engine: 'numpy', 'tensorflow', 'pytorch', one that another package brings
            (`ptycho.core.refinement.engine.engine_names`), or an `Engine` itself.
        probe: `(M, N, N)` or `(N, N)` in the unit of the amplitudes; None takes the start's, else the scan's.
        frame: where the object lies on the scan's pixel grid; None takes the start's, else the smallest that holds
            every patch.
        likelihood: 'amplitude', or 'poisson' for few counts.
        refine_probe: whether all modes of the probe move too.
        refine_positions: whether positions move too: all of them alike as a stage moves them
            (`ptycho.core.physics.stage`), and then each by itself; 'stage' leaves out the latter; 'search' begins, from
            a flat object, with trying each elsewhere (`ptycho.core.refinement.position_search`), some 250 iterations'
            time, for positions that are off by more than 2 pixels.
        position_bound_px: how far from where the stage has it a position may go along each axis, pixels; the mean of
            all stays.
        flux: (n,) of the beam at each pattern, relative to that of the probe, above 0; None takes the start's, else 1.
        refine_flux: whether it moves, too; the mean of all stays.
        fly_path: (n, S, 2) where the probe is while each pattern is counted, relative to its position, pixels
            (`ptycho.core.physics.fly_scan`): an iteration takes about S times as long. None takes the start's, else the
            probe is at rest. All places of a pattern move with its position.
        background: (N, N) that every pattern has beside what the object makes, in the unit of squared amplitudes, not
            negative, zero frequency in the middle; None takes the start's, else 0, or what the darkest pixels have
            where it moves from a flat start.
        refine_background: how it may look if it moves, 'constant', 'smooth' or 'pixels'
            (`ptycho.core.refinement.background`); None: it stays.
        slices: K, of a thick object (`ptycho.core.refinement.slices`): an iteration takes about K times as long. None
            takes those of the start, else 1.
        gap: the free space between two of them (`ptycho.core.physics.multislice.gap_of`); None takes the start's.
        refine_thickness: whether it moves, too, the same between all slices.
        variation: how the first mode of the probe differs from pattern to pattern
            (`ptycho.core.physics.variable_probe`); None takes the start's, else it is the same in all.
        variable_probe: modes of variation that are found, with a coefficient in each pattern that is seen (orthogonal
            probe relaxation, OPR); 0: what is known of them stays.
        variable_probe_smooth: patterns that one piece of a smooth curve of coefficients along the scan is long, about
            which slower changes are followed; None: every pattern has its own coefficients.
        batch_size: patterns in a mini-batch; None takes all at once.
        holdout: patterns that stay unseen, a fraction below 1, a number, or an array of their indices: the result is
            then the point that explains *them* best, which keeps noise from being fitted.
        patience, tolerance: stops when `patience` iterations gain less than `tolerance` of the error.
        seed: of batches and held-out patterns.
        keep_bytes: what may be kept in memory beside a batch, patterns, far fields and probes; what does not fit is
            read or computed again.
        noise: relative error that photon noise alone leaves; where the error comes down to it, refinement stops, so
            that what a good start knew is not given up for the noise (the discrepancy principle: V. A. Morozov, Soviet
            Math. Dokl. 7, 414 (1966)). 0 goes on.
        scale: what holds the split between object and probe while the probe moves: 'probe', the energy of the scan's
            probe, or 'object', where that means nothing (`ptycho.core.refinement.gauge.hold`).
        object_prior: what is known of the object (`ptycho.core.refinement.priors`), which joins the error; it is of the
            object in the scale of the result.
        pupil: (K, N, N) orthonormal functions of Fourier ptychography (`ptycho.core.refinement.spectrum`): the probe
            is a pupil that moves in them, the object a spectrum, which moves with no position. None: both are in space.
        seconds: begins no iteration after so long; None has no limit.
        report: called with the iteration (0 = start) and its relative error.
        state_file: where the state of the search is written now and then; one that is there already, of the same
            search, is gone on from, on a CPU to the very same digits.
        options: of the engine: `dtype` ('numpy'), `use_xla` ('tensorflow'), `device` ('pytorch').

    Returns:
        The best point seen, the start included: never worse than the start, and finite.

    Raises:
        ConfigError: a setting that cannot work, or an engine that is not there.
        BackendError: an engine that cannot be imported.
        DataError: shapes that do not belong together, a patch outside the object, a scan without light, or a start or
            patterns that are not finite.
    """
    settings = Settings(
        iterations=iterations,
        likelihood=likelihood,
        refine_probe=refine_probe,
        refine_positions=refine_positions,
        position_bound_px=position_bound_px,
        refine_flux=refine_flux,
        batch_size=batch_size,
        holdout=holdout,
        patience=patience,
        tolerance=tolerance,
        seed=seed,
        keep_bytes=keep_bytes,
        noise=noise,
        scale=scale,
        seconds=seconds,
        refine_background=refine_background,
        slices=slices,
        refine_thickness=refine_thickness,
        object_prior=object_prior,
        pupil=_pupil(pupil, scan),
        variable_probe=variable_probe,
        variable_probe_smooth=variable_probe_smooth,
    )
    found = find_engine(engine) if isinstance(engine, str) else engine
    recording = Recording(flux, fly_path, background, gap=gap, variation=variation)
    return run(found, scan, start, probe, frame, settings, report, options, state_file, recording)


def run(
    engine: Engine,
    scan: ScanData,
    start: Start | None,
    probe: Array | None,
    frame: ObjectFrame | None,
    settings: Settings,
    report: Callable[[int, float], None] | None = None,
    options: Mapping[str, Any] | None = None,
    state_file: StateFile | None = None,
    recording: Recording = PLAIN,
) -> Refinement:
    """Refine with an engine; `refine_scan` describes the arguments, those of the recording among them."""
    begun = time.perf_counter()
    recording = replace(recording, gap=_gap(scan, start, recording.gap))
    point, frame = _first_point(scan, start, probe, frame, recording, settings)
    fly_path = _fly_path(scan, start, recording.fly_path)
    rng = np.random.default_rng(settings.seed)
    unseen = _held_out(settings.holdout, len(scan), rng)
    groups = _batches(np.setdiff1d(np.arange(len(scan)), unseen), settings.batch_size, rng)
    kernels = engine.kernels(settings.likelihood, intensity_floor(scan, settings.likelihood), options or {})
    point = point.in_precision(kernels.complex_bytes)
    gap = recording.gap
    passes = _passes(kernels, scan, point, settings, engine, fly_path, gap, groups, unseen)
    home = frame.local(np.asarray(scan.xcoords, np.float64), np.asarray(scan.ycoords, np.float64))
    singles = settings.position_bound_px if settings.refine_positions in (True, "search") else None
    pupil = settings.pupil
    placement = Placement(passes, home, singles, pupil is None) if settings.refine_positions else None
    moves_gap = settings.refine_thickness and gap is not None
    penalty = _penalty(settings, passes, scan.probeGuess, frame)
    varies = Variability(passes, settings.variable_probe_smooth) if settings.variable_probe else None
    freedom = settings.refine_probe, settings.refine_flux, settings.refine_background, varies
    problem = ScanProblem(
        *(passes, placement, *freedom, scan.probeGuess), refine_thickness=moves_gap, penalty=penalty, pupil=pupil
    )
    if len(point.variation) and (gap is not None or pupil is not None):
        raise ConfigError("variable_probe: expected one slice, in space, found others; leave it out")
    if settings.refine_positions == "search" and (gap is not None or pupil is not None):
        raise ConfigError("refine_positions='search': expected one slice, in space, found others; take True")
    resumes = state_file is not None and state_file.path is not None and state_file.path.exists()
    if settings.refine_positions == "search" and start is None and not resumes:
        made_passes = partial(_passes, kernels, scan, point, settings, engine, fly_path, gap)
        point = PositionSearch(made_passes, home, settings.position_bound_px, settings.seed, settings.seconds).found(
            point
        )
    seconds = settings.seconds
    if seconds is not None:
        seconds = max(seconds - (time.perf_counter() - begun), 1e-3)
    limits = Limits(settings.iterations, settings.patience, settings.tolerance, settings.noise, seconds)
    kept = replace(recording, fly_path=fly_path)
    made = partial(_result, frame, engine.name, begun, 0 if settings.likelihood == "poisson" else None, kept)
    keeper = None if state_file is None else ScanKeeper(state_file, problem, made)
    found = descend(problem, point, limits, rng, report, keeper)
    if not math.isfinite(found.errors[0]):
        raise DataError(
            f"start: expected a finite error of the first object and probe, found {found.errors[0]}; check their scale"
        )
    logger.debug("refinement: %s, %d restarts", found.stopped, found.restarts)
    best, gauge = hold(
        *(principal(found.point) if varies else found.point, scan.probeGuess, settings.scale),
        *(settings.refine_probe, problem.error),
        held=scan.near_field is not None or pupil is not None,
    )
    gauge = problem.gauge_at(found.point).then(gauge)
    return replace(made(replace(found, point=best), gauge), penalty=problem.penalty(best))


def _penalty(settings: Settings, passes: Passes, given: Array, frame: ObjectFrame) -> Penalty | None:
    """What is known of the object, as a term of the error; None: nothing."""
    prior = settings.object_prior
    if prior is None or not prior.strength:
        return None
    if passes.gap is not None:
        raise ConfigError("object_prior: expected an object of one slice, found several; leave one of both out")
    factor = partial(scale_factor, given=given, scale=settings.scale, moves_probe=settings.refine_probe)
    return Penalty(prior.on(frame), prior.strength, passes, factor)


def _passes(
    kernels: Kernels,
    scan: ScanData,
    point: Point,
    settings: Settings,
    engine: Engine,
    fly_path: FlyPath | None,
    gap: NearField | None,
    groups: Sequence[NDArray[np.int64]],
    unseen: NDArray[np.int64],
) -> Passes:
    """Over some of the patterns, within the memory of the settings."""
    modes, slices = len(point.vectors), 1 if point.object.ndim == 2 else len(point.object)
    keep, pixels = settings.keep_bytes, engine.batch_pixels
    return Passes(kernels, scan, groups, unseen, modes, keep, pixels, fly_path, gap=gap, slices=slices)


def _result(
    frame: ObjectFrame,
    engine: str,
    begun: float,
    counts_from: int | None,
    recording: Recording,
    found: Descent[Point],
    gauge: Gauge = UNCHANGED,
) -> Refinement:
    """What a search has found, so far or in the end, when alone its gauge is known."""
    image, gap = found.point.object.astype(np.complex64), recording.gap
    return Refinement(
        object=projected(image),
        probe=found.point.probe.astype(np.complex64),
        xcoords=found.point.x,
        ycoords=found.point.y,
        frame=frame,
        flux=found.point.flux,
        background=found.point.background,
        error_history=tuple(found.errors),
        unseen_history=tuple(found.unseen),
        kept=found.kept,
        restarts=found.restarts,
        iterations=len(found.errors) - 1,
        seconds=time.perf_counter() - begun,
        stopped=found.stopped or "cut off",
        engine=engine,
        gauge=gauge,
        counts_from=counts_from,
        fly_path=recording.fly_path,
        slices=None if gap is None else image,
        gap=None if gap is None else gap.stretched(float(found.point.stretch)),
        variation=_variation_of(found.point),
    )


def _variation_of(point: Point) -> ProbeVariation | None:
    """That of a point; None where there is none."""
    if not point.coefficients.any():
        return None
    return ProbeVariation(point.variation.astype(np.complex64), point.coefficients)


def _first_point(
    scan: ScanData,
    start: Start | None,
    probe: Array | None,
    frame: ObjectFrame | None,
    recording: Recording,
    settings: Settings,
) -> tuple[Point, ObjectFrame]:
    """Object, probe, positions, flux and background to begin with, and the frame they lie in."""
    x, y = np.asarray(scan.xcoords, np.float64), np.asarray(scan.ycoords, np.float64)
    flux, background, variation = recording.flux, recording.background, recording.variation
    image: Array | None
    if isinstance(start, Reconstruction | Refinement):
        image, frame = start.layers, start.frame if frame is None else frame
        probe = start.probe if probe is None else probe
        if len(start.xcoords) == len(scan):
            x, y = start.xcoords + start.frame.x0, start.ycoords + start.frame.y0
            flux = start.flux if flux is None else flux
            variation = start.variation if variation is None else variation
        if start.background is not None and start.background.shape == scan.probeGuess.shape[-2:]:
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
    image = in_slices(image, settings.slices, recording.gap, frame.shape)
    if background is None and start is None and settings.refine_background is not None:
        background = first_background(scan)
    begun = Point(image, modes, x, y, _flux(flux, len(scan)), _background(background, n))
    changes, coefficients = _variation(variation, len(scan), n, settings.variable_probe)
    return begun._replace(variation=changes, coefficients=coefficients), frame


def _variation(given: ProbeVariation | None, count: int, n: int, wanted: int) -> tuple[Array, Array]:
    """Modes and coefficients to begin with, at least so many; further ones are 0."""
    if given is None:
        return np.zeros((wanted, n, n), complex), np.zeros((count, wanted), complex)
    known = check_variation(given, count, n)
    more = max(0, wanted - len(known.modes))
    return np.pad(known.modes, ((0, more), (0, 0), (0, 0))), np.pad(known.coefficients, ((0, 0), (0, more)))


def _background(given: NDArray[np.float64] | None, n: int) -> NDArray[np.float64]:
    if given is None:
        return np.zeros((n, n))
    background = np.asarray(given, np.float64)
    if background.shape != (n, n) or not (np.isfinite(background) & (background >= 0)).all():
        found = background.shape
        raise DataError(
            f"background: expected ({n}, {n}) finite numbers, none below 0, found shape {found}; correct it"
        )
    return background


def _flux(given: NDArray[np.float64] | None, count: int) -> NDArray[np.float64]:
    if given is None:
        return np.ones(count)
    flux = np.asarray(given, np.float64)
    if flux.shape != (count,) or not (np.isfinite(flux) & (flux > 0)).all():
        raise DataError(f"flux: expected {count} finite numbers above 0, one per pattern, found shape {flux.shape}")
    return flux


def _gap(scan: ScanData, start: Start | None, given: NearField | None) -> NearField | None:
    """That given, else that of a start."""
    gap = start.gap if given is None and isinstance(start, Reconstruction | Refinement) else given
    if gap is not None and scan.near_field is not None:
        raise ConfigError("slices: expected a far field, found a scan of the near field; leave them out")
    return gap


def _pupil(given: NDArray[np.float64] | None, scan: ScanData) -> NDArray[np.float64] | None:
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
    if scan.near_field is not None:
        raise ConfigError("fly_path: expected a far field, found a scan of the near field; leave --fly out")
    return check_fly_path(given, len(scan))


def _held_out(holdout: float | NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Patterns that stay unseen: these indices, a fraction of the scan below 1, or a number from 1 on."""
    if isinstance(holdout, np.ndarray):
        unseen = np.unique(holdout)
        if not 0 < len(unseen) < count or unseen[0] < 0 or unseen[-1] >= count:
            raise ConfigError(f"holdout: expected some indices of {count} patterns, found {holdout}; change them")
        return unseen
    number = round(holdout * count) if holdout < 1 else int(holdout)
    if holdout and not 0 < number < count:
        raise ConfigError(f"holdout={holdout:g}: expected 1 to {count - 1} of {count} patterns; change it")
    return np.sort(rng.choice(count, number, replace=False))


def _batches(seen: NDArray[np.int64], size: int | None, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Batches of about `size` patterns each, drawn at random so that each spreads over the object."""
    if size is None or size >= len(seen):
        return [seen]
    return [np.sort(batch) for batch in np.array_split(rng.permutation(seen), math.ceil(len(seen) / size))]
