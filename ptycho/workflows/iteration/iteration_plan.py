"""What an iteration leaves open, decided by short reconstructions of a part of the scan.

A reconstruction explains the patterns it is made from the better the more it may change. What counts is how well it
foretells patterns that it did not see: a good probe is spoilt by moving before there is an object, a poor one spoils
the object by being held, and a mode that is not there fits noise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.options import NETWORK, IterationOptions
from ptycho.core.physics.fly_scan import FlyPath
from ptycho.core.physics.probes import with_modes
from ptycho.core.refinement.device.likelihood import Likelihood
from ptycho.core.refinement.priors.object_prior import ObjectPrior
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.steps.gauge import Scale
from ptycho.core.result import plural
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.effects.fly_plan import Flight, asked_to_fly, found_flight
from ptycho.workflows.effects.object_prior import asked_prior, best_strength, first_strength, prior_note
from ptycho.workflows.effects.thick import cuts
from ptycho.workflows.scan_part import ScanPart, telling_part
from ptycho.workflows.solver import Refine

__all__ = ["Plan", "flight_of", "planned"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]

ITERATIONS = 14
"""Of a short reconstruction: details are there, and modes have taken shape."""
THIN = {"slices": None, "gap": None}
"""An object of one slice, whatever was asked for."""
FEWEST = 12
"""Patterns of a part below which nothing is decided."""
GAIN = 0.05
"""Share of the unseen error that a further mode has to save: it costs a third of the time."""
MOST_MODES = 6
CLEARLY = 1.5
"""Ratio of unseen errors from which on further modes are none: positions that turn explain more, which they blur."""
PRIOR_ITERATIONS = 40
"""Before a prior is tried: what it keeps out is noise, which is fitted last."""
SLICED_ITERATIONS = 30
"""Of an object of one slice and one of several, which take shape more slowly."""


@dataclass(frozen=True, eq=False)
class Plan:
    """How a scan is iterated."""

    probe: Array
    """(M, N, N) to begin with."""
    moves: bool
    """Whether the probe moves at all."""
    held_first: bool
    """Whether it is held until the object has taken shape."""
    notes: tuple[str, ...] = ()
    """Why, one sentence each."""
    fly_path: FlyPath | None = None
    """(n, S, 2) where the probe is while each pattern is counted; None: at rest."""
    prior: ObjectPrior | None = None
    """What is known of the object, and how strongly it is held; None: nothing."""
    thin: bool = False
    """Whether several slices were asked for and the patterns know of one."""

    def part(self, places: NDArray[np.integer[Any]]) -> Plan:
        """The plan of some patterns of the scan."""
        return self if self.fly_path is None else replace(self, fly_path=self.fly_path[places])


def planned(
    data: RawData,
    refine: Refine,
    options: IterationOptions,
    probe: Array,
    flat: bool,
    fly_path: FlyPath | None = None,
    scale: Scale = "probe",
) -> Plan:
    """Decide what the options leave open.

    Args:
        data: the scan.
        refine: of a backend.
        options: what is asked for.
        probe: (M, N, N) to begin with.
        flat: whether the object begins flat; with a better one a probe is free at once, and a probe of several modes
            keeps their number.
        fly_path: (n, S, 2) where the probe is while each pattern is counted, where that is known.
        scale: what holds the split between object and probe (`ptycho.core.refinement.steps.gauge.hold`).

    Raises:
        ConfigError: another number of modes for a probe that is held.
        MissingFileError: no mask of the sample where one is named.
        DataError: a fly scan whose positions follow no lines, or a mask of another scan.
    """
    notes: tuple[str, ...] = ()
    thin = False
    if flat and options.slices > 1:
        thin, note = _thin(data, refine, options, probe)
        notes = (note,) if note else ()
        refine = partial(refine, **THIN) if thin else refine
    if fly_path is None and asked_to_fly(options):
        flight = flight_of(data, refine, options, probe)
        fly_path, notes = flight.path, (*notes, flight.note)
    plan = _of_probe(data, refine, options, probe, flat, fly_path)
    plan = replace(plan, fly_path=fly_path, thin=thin, notes=(*notes, *plan.notes))
    if options.object_prior in (None, NETWORK):  # a network has to see the whole object first
        return plan
    prior, note = _prior_of(data, refine, options, plan, scale)
    return replace(plan, prior=prior, notes=(*plan.notes, note))


def _thin(data: RawData, refine: Refine, options: IterationOptions, probe: Array) -> tuple[bool, str]:
    """Whether patterns that were not seen know of one slice where several are asked for, and why.

    Slices that are not there cost: their unknowns take up noise, and slow phases go astray between them for long. Many
    slices take long to take shape, so that few are tried first.
    """
    part = telling_part(data)
    if len(part.scan) < FEWEST:
        return False, ""
    moves = options.refine_probe is not False

    def error(**settings: Any) -> float:
        trials = _Trials(part, partial(refine, **settings), _fitted(options), None)
        return min(trials.found(probe, moves, SLICED_ITERATIONS, patience=SLICED_ITERATIONS + 1).unseen_history)

    one, told = error(**THIN), []
    which = f"{len(part.unseen)} unseen of {len(part.scan)} patterns are foretold to"
    for several in cuts(data, options):
        unseen = error(refine_thickness=options.refine_thickness, **several)
        told.append(f"{unseen:.3g} by {several['slices']}")
        if unseen <= (1 - GAIN) * one:
            return False, f"Slices are needed: {which} {', '.join(told)}, {one:.3g} by one"
    said = ", ".join([f"{one:.3g} by one slice", *told])
    return True, f"The object is taken to be thin, --slices left out: {which} {said}"


def flight_of(data: RawData, refine: Refine, options: IterationOptions, probe: Array) -> Flight:
    """How far the stage goes during a pattern (`ptycho.workflows.effects.fly_plan`), by a part of the scan."""
    trials = _Trials(telling_part(data), refine, _fitted(options), None)
    return found_flight(data, options, probe, trials.of_path(options, probe), trials.patterns)


def _prior_of(
    data: RawData, refine: Refine, options: IterationOptions, plan: Plan, scale: Scale
) -> tuple[ObjectPrior | None, str]:
    """What is known of the object, as strongly as is asked for or as unseen patterns prefer, and why."""
    name, asked = options.object_prior, partial(asked_prior, options, data)
    if options.prior_strength != "auto":
        prior = asked(options.prior_strength)
        assert prior is not None
        return prior, prior_note(prior, "as asked for")
    part = telling_part(data)
    if len(part.scan) < FEWEST:
        few = f"{plural(len(part.scan), 'pattern')}: too few to try anything on"
        return None, f"{few}; nothing is held of the object (--prior-strength X holds {name})"
    trials = _Trials(part, partial(refine, scale=scale), _fitted(options), plan.fly_path)
    moves = plan.moves and not plan.held_first
    begun = trials.found(plan.probe, moves, PRIOR_ITERATIONS)

    def gone_on(strength: float) -> float:
        """The error at the end, by which noise is fitted where nothing keeps it out."""
        prior = asked(strength) if strength else None
        return trials.found(begun.probe, moves, start=begun, object_prior=prior).unseen_history[-1]

    unseen = gone_on(0.0)
    best, errors = best_strength(gone_on, unseen, first_strength(begun, options, data))
    least = min(errors.values())
    if not best:
        why = f"{trials.patterns} are foretold to {unseen:.3g} without, to {least:.3g} at best with {name}"
        return None, f"Nothing is held of the object: {why}"
    prior = asked(best)
    assert prior is not None
    return prior, prior_note(prior, f"{trials.patterns} are foretold to {errors[best]:.3g}, {unseen:.3g} without")


def _of_probe(
    data: RawData, refine: Refine, options: IterationOptions, probe: Array, flat: bool, fly_path: FlyPath | None
) -> Plan:
    """What is decided about the probe."""
    moves, modes = options.refine_probe is not False, options.modes
    if isinstance(modes, int) and modes != len(probe):
        if not moves:
            raise ConfigError(
                f"modes={modes}: expected a probe that moves, or its {len(probe)} modes, found refine_probe=False; "
                "leave one of them out"
            )
        return Plan(with_modes(probe, modes), True, False)
    # a probe that changes looks like one of several modes
    asks = _Questions(
        modes=modes == "auto" and moves and (flat or len(probe) == 1) and not options.variable_probe,
        held=options.refine_probe == "auto" and flat,
    )
    if not (asks.modes or asks.held):
        return Plan(probe, moves, False)
    part = telling_part(data)
    if len(part.scan) < FEWEST:
        note = f"{plural(len(part.scan), 'pattern')}: too few to try anything on; the probe moves, its modes are kept"
        return Plan(probe, moves, False, (note,))
    return _Trials(part, refine, _fitted(options), fly_path).answered(asks, probe)


def _fitted(options: IterationOptions) -> Likelihood:
    return "poisson" if options.likelihood == "poisson" else "amplitude"


@dataclass(frozen=True)
class _Questions:
    """What is to be decided."""

    modes: bool
    held: bool


@dataclass(frozen=True, eq=False)
class _Trials:
    """Short reconstructions of a part of a scan."""

    part: ScanPart
    refine: Refine
    likelihood: Likelihood
    fly_path: FlyPath | None
    """Of the whole scan."""

    def of_path(self, options: IterationOptions, probe: Array) -> Callable[[FlyPath | None], float] | None:
        """The least error of the unseen patterns by a path of the whole scan; None for too few patterns."""
        if len(self.part.scan) < FEWEST:
            return None
        moves = options.refine_probe is not False
        begun = with_modes(probe, options.modes) if moves and isinstance(options.modes, int) else probe
        return lambda path: replace(self, fly_path=path)._unseen(begun, moves)

    def answered(self, asks: _Questions, probe: Array) -> Plan:
        """The plan that the unseen patterns prefer."""
        free = self._unseen(probe, moves=True)
        held = self._unseen(probe, moves=False) if asks.held else np.inf
        notes = [self._of_holding(held, free)] if asks.held else []
        if not asks.modes:
            return Plan(probe, True, held < free, tuple(notes))
        best, errors = len(probe), {len(probe): min(free, held)}
        for count in range(best + 1, MOST_MODES + 1):
            errors[count] = self._unseen(with_modes(probe, count), moves=True)
            if errors[count] > (1 - GAIN) * errors[best]:
                break
            best = count
        if best > len(probe):
            staged = self._unseen(probe, held >= free, refine_positions="stage")
            if CLEARLY * staged < errors[best]:
                note = f"{self._of_modes(len(probe), errors)}; {staged:.3g} where the stage turns or stretches the scan"
                return Plan(probe, True, held < free, (*notes, note))
        # with a mode more the probe is no longer the one that was good enough to be held
        first = best == len(probe) and held < free
        return Plan(with_modes(probe, best), True, first, (*notes, self._of_modes(best, errors)))

    def _unseen(self, probe: Array, moves: bool, **settings: Any) -> float:
        """Least error of the unseen patterns."""
        error = min(self.found(probe, moves, patience=ITERATIONS + 1, **settings).unseen_history)
        logger.debug("trial: %d modes, probe %s: unseen error %.4g", len(probe), "free" if moves else "held", error)
        return error

    def found(
        self, probe: Array, moves: bool, iterations: int = ITERATIONS, start: Refinement | None = None, **settings: Any
    ) -> Refinement:
        """A short reconstruction."""
        return self.refine(
            self.part.scan,
            start,
            iterations,
            probe=probe,
            likelihood=self.likelihood,
            refine_probe=moves,
            holdout=self.part.unseen,
            fly_path=None if self.fly_path is None else self.fly_path[self.part.places],
            **settings,
        )

    @property
    def patterns(self) -> str:
        """How many there are."""
        return f"{len(self.part.unseen)} unseen of {len(self.part.scan)} patterns"

    def _of_holding(self, held: float, free: float) -> str:
        decision = "held until the object has taken shape" if held < free else "free from the start"
        return f"The probe is {decision}: {self.patterns} are foretold to {held:.3g} with it held, {free:.3g} free"

    def _of_modes(self, best: int, errors: dict[int, float]) -> str:
        tried = ", ".join(f"{error:.3g} with {count}" for count, error in errors.items())
        return f"The probe has {plural(best, 'mode')}: {self.patterns} are foretold to {tried}"
