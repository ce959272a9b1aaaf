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
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.fly_scan import FlyPath
from ptycho.core.physics.multislice import projected
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.recording import PLAIN, Recording
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.physics.variable_probe import ProbeVariation
from ptycho.core.refinement.descent import Descent, descend
from ptycho.core.refinement.device.engine import Engine, find_engine
from ptycho.core.refinement.device.kernels import Kernels, Point, ScanData
from ptycho.core.refinement.device.likelihood import Likelihood, intensity_floor
from ptycho.core.refinement.first_point import checked_pupil, first_point, first_recording
from ptycho.core.refinement.position_search import PositionSearch
from ptycho.core.refinement.priors.object_prior import ObjectPrior
from ptycho.core.refinement.problem import scan_problem
from ptycho.core.refinement.refinement import Refinement, Start
from ptycho.core.refinement.settings import Settings
from ptycho.core.refinement.shared_start import Begun, shared_start
from ptycho.core.refinement.state_file import ScanKeeper, StateFile
from ptycho.core.refinement.steps.background import Family
from ptycho.core.refinement.steps.gauge import UNCHANGED, Gauge, Scale, hold
from ptycho.core.refinement.steps.placement import Positions
from ptycho.core.refinement.sums.object_share import ObjectShare
from ptycho.core.refinement.sums.passes import Passes
from ptycho.core.refinement.sums.processes import ALONE, Processes
from ptycho.errors import ConfigError, DataError

__all__ = ["refine_scan", "run"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]


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
    blur: float | None = None,
    refine_blur: bool = False,
    slices: int | None = None,
    gap: NearField | None = None,
    refine_thickness: bool = False,
    variation: ProbeVariation | ScanProbes | None = None,
    variable_probe: int = 0,
    variable_probe_smooth: float | None = None,
    batch_size: int | None = None,
    holdout: float | NDArray[np.int64] = 0.0,
    patience: int = 5,
    tolerance: float = 1e-4,
    seed: int = 0,
    device_memory: int | None = None,
    noise: float = 0.0,
    scale: Scale = "probe",
    object_prior: ObjectPrior | None = None,
    pupil: NDArray[np.float64] | None = None,
    seconds: float | None = None,
    report: Callable[[int, float], None] | None = None,
    state_file: StateFile | None = None,
    processes: Processes = ALONE,
    strips: bool | None = None,
    **options: Any,
) -> Refinement:
    """Refine object and, when asked for, probe and positions on the patterns of a scan.

    Minimises `sum (|F| - A)^2` or the Poisson deviance over valid pixels; `ptycho.core.refinement.device.likelihood`
    has the formulas, `ptycho.core.refinement.descent` the steps. Deterministic for a seed.

    Args:
        scan: patterns, positions, probe and mask, read batch by batch: a `ptycho.raw_data.RawData`.
        start: None begins flat; an object `(H, W)`, of K slices `(K, H, W)`, lies in `frame`; an earlier
            reconstruction or refinement brings its object, probe, positions and frame. An object of one slice is the
            middle one of several.
        iterations: at most so many.
        engine: 'numpy', 'tensorflow', 'pytorch', one that another package brings
            (`ptycho.core.refinement.device.engine.engine_names`), or an `Engine` itself.
        probe: `(M, N, N)` or `(N, N)` in the unit of the amplitudes; None takes the start's, else the scan's.
        frame: where the object lies on the scan's pixel grid; None takes the start's, else the smallest that holds
            every patch.
        likelihood: 'amplitude', or 'poisson' for few counts.
        refine_probe: whether all modes of the probe move too.
        refine_positions: whether positions move too: all of them alike as a stage moves them
            (`ptycho.core.physics.stage`), and then each by itself; 'stage' leaves out the latter; 'search' begins, from
            a flat object, with trying each elsewhere (`ptycho.core.refinement.position_search`), some 500 iterations'
            time, for positions that are off by more than 2 pixels.
        position_bound_px: how far from where the stage has it a position may go along each axis, pixels; the mean of
            all stays.
        flux: (n,) of the beam at each pattern, relative to that of the probe, above 0; None takes the start's, else
            that of the scan, else 1.
        refine_flux: whether it moves, too; the mean of all stays.
        fly_path: (n, S, 2) where the probe is while each pattern is counted, relative to its position, pixels
            (`ptycho.core.physics.fly_scan`): an iteration takes about S times as long. None takes the start's, else the
            probe is at rest. All places of a pattern move with its position.
        background: (N, N) that every pattern has beside what the object makes, in the unit of squared amplitudes, not
            negative, zero frequency in the middle; None takes the start's, else that of the scan, else 0, or what the
            darkest pixels have where it moves from a flat start.
        refine_background: how it may look if it moves, 'constant', 'smooth' or 'pixels'
            (`ptycho.core.refinement.steps.background`); None: it stays.
        blur: standard deviation of the blur of the detector, pixels (`ptycho.core.physics.detector_blur`), 0 where it
            is sharp; None takes the start's, else that of the scan, else 0.
        refine_blur: whether it moves, too.
        slices: K, of a thick object (`ptycho.core.refinement.device.slices`): an iteration takes about K times as long.
            None takes those of the start, else 1.
        gap: the free space between two of them (`ptycho.core.physics.multislice.gap_of`); None takes the start's.
        refine_thickness: whether it moves, too, the same between all slices.
        variation: how the first mode of the probe differs from pattern to pattern
            (`ptycho.core.physics.variable_probe`), or the probes of several scans of one object
            (`ptycho.core.physics.scan_probes`), which move as `probe`, that of the first, does; None takes the start's,
            else the scan's, else it is the same in all.
        variable_probe: modes of variation that are found, with a coefficient in each pattern that is seen (orthogonal
            probe relaxation, OPR); 0: what is known of them stays.
        variable_probe_smooth: patterns that one piece of a smooth curve of coefficients along the scan is long, about
            which slower changes are followed; None: every pattern has its own coefficients.
        batch_size: patterns in a mini-batch; None takes all at once.
        holdout: patterns that stay unseen, a fraction below 1, a number, or an array of their indices: the result is
            then the point that explains *them* best, which keeps noise from being fitted.
        patience, tolerance: stops when `patience` iterations gain less than `tolerance` of the error.
        seed: of batches and held-out patterns.
        device_memory: bytes on the device for patterns, far fields and probes (`ptycho.core.refinement.device.memory`);
            what does not fit is read or computed again. None: 2 GiB, of a GPU three quarters of what is free.
        noise: relative error that photon noise alone leaves; where the error comes down to it, refinement stops, so
            that what a good start knew is not given up for the noise (the discrepancy principle: V. A. Morozov, Soviet
            Math. Dokl. 7, 414 (1966)). 0 goes on.
        scale: what holds the split between object and probe while the probe moves: 'probe', the energy of the scan's
            probe, or 'object', where that means nothing (`ptycho.core.refinement.steps.gauge.hold`).
        object_prior: what is known of the object (`ptycho.core.refinement.priors.object_prior`), which joins the error;
            it is of the object in the scale of the result.
        pupil: (K, N, N) orthonormal functions of Fourier ptychography (`ptycho.core.refinement.steps.spectrum`): the
            probe is a pupil that moves in them, the object a spectrum, which moves with no position. None: both are in
            space.
        seconds: begins no iteration after so long; None has no limit.
        report: called with the iteration (0 = start) and its relative error.
        state_file: where the state of the search is written now and then; one that is there already, of the same
            search, is gone on from, on a CPU to the very same digits.
        processes: that share the patterns (`ptycho.core.refinement.sums.processes`), each of which calls this function
            with the same arguments; `start`, `probe`, `frame`, `report` and the path of `state_file` are those of the
            first. Each reads its own patterns alone, and all have the result, that of one process but for rounding.
            They are to be machines of one kind: what follows from the sums each works out by itself.
        strips: whether each process has only the rows of the object, of all its slices, that its patterns lie on
            (`ptycho.core.refinement.sums.object_strips`): the others than the first then have these rows as their
            result. None: where that can be, and spares them a quarter. It cannot for a spectrum and for positions that
            are searched, where True is refused.
        options: of the engine: `dtype` ('numpy'), `use_xla` ('tensorflow'), `device`, `deterministic` ('pytorch').

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
        device_memory=device_memory,
        noise=noise,
        scale=scale,
        seconds=seconds,
        refine_background=refine_background,
        slices=slices,
        refine_thickness=refine_thickness,
        object_prior=object_prior,
        pupil=checked_pupil(pupil, scan),
        variable_probe=variable_probe,
        variable_probe_smooth=variable_probe_smooth,
        refine_blur=refine_blur,
        strips=strips,
    )
    found = find_engine(engine) if isinstance(engine, str) else engine
    recording = Recording(flux, fly_path, background, gap=gap, variation=variation, blur=blur)
    return run(found, scan, start, probe, frame, settings, report, options, state_file, recording, processes)


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
    processes: Processes = ALONE,
) -> Refinement:
    """Refine with an engine; `refine_scan` describes the arguments, those of the recording among them."""
    begun = time.perf_counter()
    first = partial(_begun, scan, start, probe, frame, settings, recording)
    flat, recording, point, frame, share = shared_start(first, scan, settings, processes)
    scans = recording.variation.scan if isinstance(recording.variation, ScanProbes) else None
    settings.check(recording.gap, varies=len(point.variation) > 0, shared=scans is not None)
    rng = np.random.default_rng(settings.seed)
    unseen = _held_out(settings.holdout, len(scan), rng)
    groups = _batches(np.setdiff1d(np.arange(len(scan)), unseen), settings.batch_size, rng)
    floor = processes.first(partial(intensity_floor, scan, settings.likelihood))
    with closing(engine.kernels(settings.likelihood, floor, options or {})) as kernels:
        point = point.in_precision(kernels.complex_bytes)
        passes_over = partial(_passes, kernels, scan, point, recording, settings, share)
        passes = passes_over(groups, unseen)
        logger.log(logging.DEBUG if settings.device_memory is None else logging.INFO, "memory: %s", passes.plan)
        home = frame.local(np.asarray(scan.xcoords, np.float64), np.asarray(scan.ycoords, np.float64))
        given = _given(scan, recording, point)
        problem = scan_problem(passes, settings, home, frame, given)
        clock = partial(processes.first, time.perf_counter)
        made = partial(_result, frame, engine.name, begun, 0 if settings.likelihood == "poisson" else None, recording)
        keeper = None if state_file is None else ScanKeeper(state_file, problem, made, share)
        resumes = keeper is not None and keeper.resumes
        if settings.refine_positions == "search" and flat and not resumes:
            reach = settings.position_bound_px
            search = PositionSearch(passes_over, home, reach, settings.seed, settings.seconds, clock)
            point = search.found(point)
        limits = replace(settings.limits(processes.first(lambda: time.perf_counter() - begun)), clock=clock)
        found = descend(problem, point, limits, rng, report, keeper)
        if not math.isfinite(found.errors[0]):
            error = found.errors[0]
            raise DataError(f"start: expected a finite error of the first point, found {error}; check its scale")
        logger.debug("refinement: %s, %d restarts", found.stopped, found.restarts)
        best, gauge = hold(
            problem.settled(found.point),
            *(given, settings.scale, settings.refine_probe, problem.error),
            held=scan.near_field is not None or settings.pupil is not None,
            share=share,
        )
        gauge, penalty = problem.gauge_at(found.point).then(gauge), problem.penalty(best)
        whole = share.gathered(best.object)
        best = best if whole is None else best._replace(object=whole)
        return replace(made(replace(found, point=best), gauge), penalty=penalty)


def _begun(
    scan: ScanData,
    start: Start | None,
    probe: Array | None,
    frame: ObjectFrame | None,
    settings: Settings,
    recording: Recording,
) -> Begun:
    """Where a search begins, as the first process finds it."""
    recording = first_recording(scan, start, recording)
    return Begun(start is None, recording, *first_point(scan, start, probe, frame, recording, settings))


def _given(scan: ScanData, recording: Recording, point: Point) -> Array:
    """The probe that says where one that moves is to lie; of several scans the modes of all."""
    if not isinstance(recording.variation, ScanProbes):
        return scan.probeGuess
    known, modes = scan.scan_probes, as_modes(np.asarray(scan.probeGuess))
    return point.probe if known is None else np.concatenate([modes, *known.others])


def _passes(
    kernels: Kernels,
    scan: ScanData,
    point: Point,
    recording: Recording,
    settings: Settings,
    share: ObjectShare,
    groups: Sequence[NDArray[np.int64]],
    unseen: NDArray[np.int64],
) -> Passes:
    """Over some of the patterns, within the memory of the settings."""
    memory, path = settings.device_memory, recording.fly_path
    memory = kernels.memory if memory is None else memory
    modes, slices = len(point.vectors), 1 if point.object.ndim == 2 else len(point.object)
    gap, scans = recording.gap, None
    if isinstance(recording.variation, ScanProbes):
        modes, scans = modes // recording.variation.count, recording.variation.scan
    return Passes(
        *(kernels, scan, groups, unseen, modes, memory, path),
        gap=gap,
        slices=slices,
        scans=scans,
        share=share,
    )


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
    image, gap = np.asarray(found.point.object, np.complex64), recording.gap
    probe, variation = _probes_of(found.point, recording)
    return Refinement(
        object=projected(image),
        probe=probe,
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
        variation=variation,
        blur=float(found.point.blur) or None,
    )


def _probes_of(point: Point, recording: Recording) -> tuple[NDArray[np.complex64], ProbeVariation | ScanProbes | None]:
    """The probe of a point (M, N, N), and how it differs from pattern to pattern; None where it does not."""
    probe, known = point.probe.astype(np.complex64), recording.variation
    if isinstance(known, ScanProbes):
        own = probe.reshape(known.count, -1, *probe.shape[1:])
        return own[0], replace(known, others=own[1:])
    if not point.coefficients.any():
        return probe, None
    return probe, ProbeVariation(point.variation.astype(np.complex64), point.coefficients)


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
