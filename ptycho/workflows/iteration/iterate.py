"""The iterative reconstruction as a user asks for it: what is left open is decided by the patterns themselves."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.options import NETWORK, USUAL_ITERATIONS, IterationOptions
from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.progress import IterationReport, Watch
from ptycho.core.quality.trust import Trust
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.device.likelihood import Likelihood
from ptycho.core.refinement.first_point import known_path
from ptycho.core.refinement.priors.object_prior import ObjectPrior
from ptycho.core.refinement.refinement import Refinement, Start
from ptycho.core.refinement.steps.gauge import Scale
from ptycho.core.refinement.steps.placement import room
from ptycho.core.refinement.trust import TrustEngine
from ptycho.raw_data import RawData
from ptycho.workflows.effects.beam import beam_trend
from ptycho.workflows.effects.detector_blur import blurring
from ptycho.workflows.effects.network_prior import check_network_prior, held_by_network
from ptycho.workflows.effects.thick import slicing
from ptycho.workflows.iteration.changes import changes
from ptycho.workflows.iteration.iteration_plan import THIN, Plan, planned
from ptycho.workflows.solver import Solver
from ptycho.workflows.trust import NOMINAL_PHOTONS, noise_error, photon_scale, scan_trust

__all__ = ["Iterated", "first_flux", "iterate", "object_grid"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]

HELD = 0.75
"""Share of the iterations that a probe is held for at most, where it is held first."""
FINISH = 0.25
"""Share of the iterations that fit counts, at the end."""
ENOUGH = 2e-3
"""Before that, amplitudes are fitted while a few iterations gain more than this share of the error."""
EXPLAINED = 1.5
"""Amplitudes whose error is below so many times that of photon noise are explained; what is left is counting.

The noise is judged by an object that the amplitudes of few photons make too dark, and is too small by up to a half.
"""
GAINING, LAST = 0.02, 10
"""Where nobody said how many iterations, they go on while the last of them gain more than this share of the error..."""
MOST_ITERATIONS = 5 * USUAL_ITERATIONS
"""...up to so many."""
COUNTS_GAINING, COUNTS_ENOUGH = 2.5e-3, 1e-3
"""The same for counts, where the end is wanted: what is left above the error of their noise is a small share of it, but
with many photons the object is still a third of its own error away. A few iterations that gain less than the second end
them.
"""
HELD_ITERATIONS = 20
"""With a network's prior, from the object that it thinks of."""
HELD_PATIENCE, HELD_GAIN = 3, 0.02
"""It is held while so many iterations gain more than this share of the error."""


@dataclass(frozen=True)
class Iterated:
    """What an iteration found, and what was decided on the way."""

    refinement: Refinement
    notes: tuple[str, ...]
    """One sentence each, with the numbers behind it."""


def iterate(
    data: RawData,
    solver: Solver,
    options: IterationOptions,
    start: Start | None = None,
    watch: Watch | None = None,
    made_probe: bool = False,
    tell: Callable[[str], None] = logger.info,
    plan: Plan | None = None,
    to_the_end: bool = False,
) -> Iterated:
    """Find the object of a scan, and its probe, by iteration.

    What the options leave open is decided first, by short reconstructions of a part of the scan that are judged by
    patterns they did not see (`ptycho.workflows.iteration.iteration_plan`). It ends early where it gains nothing more;
    where the number of iterations is left open it goes on past the usual one while it gains much.

    With the likelihood 'auto' amplitudes are fitted, which finds an object soonest and from furthest away. Where they
    come down to the noise of a known dose, the last quarter of the iterations fits counts: an amplitude is on average
    smaller than the root of the mean count, so that its fit makes dim objects too dark, and weighs dim pixels wrongly.
    From there on the errors reported are those of counts (`ptycho.core.refinement.device.likelihood`).

    Args:
        data: the scan, with a probe.
        solver: of a backend; what photon noise leaves is asked of its trust.
        options: what is asked for.
        start: None begins flat, on the pixels of the scan's `objectGuess` where every patch lies in it; a result goes
            on where it ended. From a network's object, or an array, it stops where photon noise is all that is left, so
            that what the start knew is not given up for the noise.
        watch: told of every iteration (0 = start) and its relative error.
        made_probe: whether the probe of the scan was made here, so that its energy means nothing: the object's
            amplitude then says how bright it is (`ptycho.core.refinement.steps.gauge.hold`).
        tell: told of each note when it is known.
        plan: what was decided before, by more patterns than those of `data`; None decides now.
        to_the_end: also go on, where the number of iterations is left open, until counts gain hardly anything. From 1e7
            photons a pattern on that takes up to twice the time and brings the object nearer by 2 to 18 %, which error
            bars need; other than these nobody sees the difference.

    Raises:
        ConfigError: a setting that cannot work. DataError: a scan or a start that cannot be used.
    """
    if options.object_prior == NETWORK:
        check_network_prior(data)
    given = solver
    if options.background_family is not None:
        solver = solver.with_settings(refine_background=options.background_family)
    solver = solver.with_settings(**slicing(data, options, start), **blurring(options))
    probe = start.probe if isinstance(start, Reconstruction | Refinement) else np.asarray(data.probeGuess)
    scale: Scale = "object" if made_probe else "probe"
    if plan is None:
        known = start is None, known_path(start, len(data))
        plan = planned(data, solver.refine, options, as_modes(probe), *known, scale)
        for note in plan.notes:
            tell(note)
    if plan.thin:
        solver, options = solver.with_settings(**THIN), replace(options, refine_thickness=False)
    flux = first_flux(data, options, start)
    settings = {
        "refine_flux": flux is not None,
        "fly_path": plan.fly_path,
        "refine_positions": options.refine_positions,
        "position_bound_px": options.position_bound_px,
        "refine_thickness": options.refine_thickness,
        "holdout": options.holdout,
        "batch_size": options.batch_size,
        "seed": options.seed,
        "scale": scale,
        "object_prior": plan.prior,
    }
    bound = options.position_bound_px if options.refine_positions and start is None else None
    frame = start.frame if isinstance(start, Reconstruction | Refinement) else object_grid(data, bound)
    trust = _trust_of(start, data, plan, frame, options, solver.trust)
    legs = _Legs(data, solver.with_settings(**settings), options, plan, flux, trust, watch, options.planned, to_the_end)
    found, notes = legs.run(start, frame)
    if options.object_prior == NETWORK:
        plain = options.without_prior()

        def without(part: RawData) -> Refinement:
            quiet = None, made_probe, logger.debug
            return iterate(part, given, plain, start, *quiet, plan).refinement

        strength, taught = options.prior_strength, options.prior_seconds
        found, note = held_by_network(found, data, legs.held, without, solver.trust, strength, taught, tell)
        notes.append(note)
    notes = [*notes, *changes(found, data, options)]
    for note in notes:
        tell(note)
    return Iterated(found, (*plan.notes, *notes))


@dataclass(eq=False)
class _Legs:
    """The iterations of a plan, leg by leg."""

    data: RawData
    solver: Solver
    options: IterationOptions
    plan: Plan
    flux: NDArray[np.float64] | None
    """(n,) to begin with, where it moves."""
    start_trust: Trust | None
    """Of a start that is to be given up no further than the noise demands."""
    watch: Watch | None
    total: int
    """Iterations of all legs together, at most, as far as is known."""
    to_the_end: bool
    begun: float = field(default_factory=time.perf_counter)

    def run(self, start: Start | None, frame: ObjectFrame | None) -> tuple[Refinement, list[str]]:
        """The result of all legs, as one, and what was decided between them."""
        iterations, kind = self.options.planned, self.options.likelihood
        if kind != "auto":
            return self._gone_on(self._main(start, iterations, kind, frame), kind), []
        last = int(FINISH * iterations) if photon_scale(self.data, NOMINAL_PHOTONS)[1] != "nominal" else 0
        found = self._gone_on(self._main(start, iterations - last, "amplitude", frame), "amplitude", last)
        if not last:
            return found, []
        ratio = self._above_noise(found)
        likelihood: Likelihood = "poisson" if ratio < EXPLAINED else "amplitude"
        if likelihood == "amplitude" and found.iterations < self.total - last:
            return found, []
        found = self._after(found, last, likelihood=likelihood, refine_probe=self.plan.moves)
        if likelihood == "poisson" and self.to_the_end:
            found = self._counts_gone_on(found)
        note = f"Counts were fitted at the end: amplitudes came down to {ratio:.2f} times the error of photon noise"
        return found, [note] if likelihood == "poisson" else []

    def held(self, found: Refinement, prior: ObjectPrior, image: Array, data: RawData) -> Refinement:
        """A leg with a prior, of a scan like this one, from an object; both as one."""
        likelihood: Likelihood = "amplitude" if found.counts_from is None else "poisson"
        settings: dict[str, Any] = {"refine_probe": self.plan.moves, "object_prior": prior}
        self.total = max(self.total, found.iterations + HELD_ITERATIONS)
        legs = replace(self, data=data, watch=self.watch if data is self.data else None, start_trust=None)
        start = replace(found, object=image.astype(np.complex64))
        settings["likelihood"] = likelihood
        made = joined(found, legs._leg(start, HELD_ITERATIONS, before=found.iterations, **settings))
        while self.options.iterations is None and _gains(made, GAINING) and made.iterations < MOST_ITERATIONS:
            legs.total = min(made.iterations + USUAL_ITERATIONS, MOST_ITERATIONS)
            made = legs._after(made, legs.total - made.iterations, **settings)
        return made

    def _main(
        self, start: Start | None, iterations: int, likelihood: Likelihood, frame: ObjectFrame | None
    ) -> Refinement:
        """All iterations in one go, or with the probe held first."""
        common = self._settings(likelihood, iterations < self.options.planned)
        first = partial(self._leg, start, probe=self.plan.probe, frame=frame, flux=self.flux)
        if not self.plan.held_first:
            return first(iterations, refine_probe=self.plan.moves, **common)
        most = min(iterations, max(1, int(HELD * self.options.planned)))
        held = first(most, refine_probe=False, **{**common, "patience": HELD_PATIENCE, "tolerance": HELD_GAIN})
        return self._after(held, iterations - held.iterations, refine_probe=True, **common)

    def _gone_on(self, found: Refinement, likelihood: Likelihood, last: int = 0) -> Refinement:
        """Further iterations, where their number is left open and much is gained; `last` come after them."""
        while self.options.iterations is None and _gains(found, GAINING) and self.total < MOST_ITERATIONS:
            if found.iterations < self.total - last or (last and self._above_noise(found) < EXPLAINED):
                break
            self.total += USUAL_ITERATIONS
            settings = self._settings(likelihood, last > 0)
            found = self._after(found, USUAL_ITERATIONS, refine_probe=self.plan.moves, **settings)
        return found

    def _counts_gone_on(self, found: Refinement) -> Refinement:
        """Further iterations that fit counts, where their number is left open and the last ones still gained."""
        while self.options.iterations is None and _gains(found, COUNTS_GAINING) and self.total < MOST_ITERATIONS:
            self.total += USUAL_ITERATIONS
            settings = {"likelihood": "poisson", "tolerance": COUNTS_ENOUGH, "refine_probe": self.plan.moves}
            found = self._after(found, USUAL_ITERATIONS, **settings)
        return found

    def _settings(self, likelihood: Likelihood, before_others: bool) -> dict[str, Any]:
        """Of a leg; one that others come after ends sooner."""
        sooner: dict[str, Any] = {"share": 1 - FINISH, "tolerance": ENOUGH} if before_others else {}
        return {"likelihood": likelihood, **sooner}

    def _above_noise(self, found: Refinement) -> float:
        """The error of amplitudes in units of what photon noise leaves."""
        where, known = (found.xcoords, found.ycoords), found.recording
        trust = scan_trust(
            found.layers, found.probe, *where, self.data, NOMINAL_PHOTONS, self.solver.trust, recording=known
        )
        return (found.error_history[found.kept] - found.penalty) / noise_error(trust, "amplitude")

    def _after(self, found: Refinement, iterations: int, **settings: Any) -> Refinement:
        """A leg from where the last one ended, and both as one."""
        if iterations < 1:
            return found
        return joined(found, self._leg(found, iterations, before=found.iterations, gap=found.gap, **settings))

    def _leg(
        self, start: Start | None, iterations: int, before: int = 0, share: float = 1.0, **settings: Any
    ) -> Refinement:
        """Iterations within a share of the time."""
        if self.options.seconds is not None:
            settings["seconds"] = max(share * self.options.seconds - (time.perf_counter() - self.begun), 1e-3)
        if settings["refine_probe"]:
            settings["variable_probe"] = self.options.variable_probe
            settings["variable_probe_smooth"] = self.options.variable_probe_smooth
        if self.start_trust is not None:
            settings["noise"] = noise_error(self.start_trust, settings["likelihood"])
        report = None if self.watch is None else partial(_told, IterationReport(self.total, self.watch), before)
        return self.solver.refine(self.data, start, iterations, report=report, **settings)


def _trust_of(
    start: Start | None,
    data: RawData,
    plan: Plan,
    frame: ObjectFrame | None,
    options: IterationOptions,
    engine: TrustEngine,
) -> Trust | None:
    """What the patterns say of a start that knows more than they do, a network's; None for others.

    What iteration has found knows nothing that further iterations could lose, and nor does a flat object.
    """
    if (
        start is None
        or isinstance(start, Refinement)
        or (isinstance(start, Reconstruction) and start.method == "refined")
    ):
        return None
    image = start.object if isinstance(start, Reconstruction) else start
    x, y = (frame or object_frame(data.xcoords, data.ycoords, data.N)).local(data.xcoords, data.ycoords)
    known = start.recording if isinstance(start, Reconstruction) else data.recording
    recording = replace(known, fly_path=plan.fly_path, blur=blurring(options).get("blur", known.blur))
    return scan_trust(image, plan.probe, x, y, data, NOMINAL_PHOTONS, engine, recording=recording)


def _gains(found: Refinement, share: float) -> bool:
    """Whether the last iterations brought the error down by more than a share of it."""
    errors = found.error_history
    return len(errors) > LAST and errors[-1] < (1 - share) * errors[-1 - LAST]


def _told(report: IterationReport, before: int, iteration: int, error: float) -> None:
    """Report an iteration of a later leg, whose start was reported as the end of the one before."""
    if iteration or not before:
        report(before + iteration, error)


def joined(first: Refinement, second: Refinement) -> Refinement:
    """Two refinements, the second from where the first ended, as one."""
    length = len(first.error_history) - 1
    counts_from = first.counts_from
    if counts_from is None and second.counts_from is not None:
        counts_from = length + second.counts_from
    return replace(
        second,
        error_history=(*first.error_history[:-1], *second.error_history),
        unseen_history=(*first.unseen_history[:-1], *second.unseen_history),
        kept=length + second.kept,
        restarts=first.restarts + second.restarts,
        iterations=first.iterations + second.iterations,
        seconds=first.seconds + second.seconds,
        gauge=first.gauge.then(second.gauge),
        counts_from=counts_from,
    )


def first_flux(data: RawData, options: IterationOptions, start: Start | None) -> NDArray[np.float64] | None:
    """(n,) of the beam at each pattern, to begin with; None where it is 1 and stays."""
    if options.refine_flux is False:
        return None
    known = start.flux if isinstance(start, Reconstruction | Refinement) else None
    known = data.flux if known is None else known
    if known is not None and len(known) == len(data) and (known != 1).any():
        return known
    trend = beam_trend(data)
    return np.ones(len(data)) if trend is None and options.refine_flux is True else trend


def object_grid(data: RawData, bound: float | None = None) -> ObjectFrame | None:
    """The pixels of `objectGuess`, where every patch lies in it; None leaves the choice to the refinement.


    With a bound of positions that move, pixels, they are joined by what these may need.
    """
    if data.objectGuess is None:
        return None
    height, width = data.objectGuess.shape[-2:]
    needed = object_frame(data.xcoords, data.ycoords, data.N)
    inside = needed.x0 >= 0 and needed.y0 >= 0
    inside = inside and needed.x0 + needed.width <= width and needed.y0 + needed.height <= height
    if not inside:
        return None
    grid = ObjectFrame(height, width, 0, 0)
    return grid if bound is None else grid.joined(needed.widened(room(data.xcoords, data.ycoords, bound)))
