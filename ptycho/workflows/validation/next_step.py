"""What to do about a result that does not hold: every remedy is tried, briefly, and the patterns say which helps.

Only results that are not green come here. What is tried depends on how bad they are: an object that means something is
gone on from, around the patterns that were kept back (`ptycho.workflows.validation.foretell`); else a compact part of
the scan is begun anew. The time is bounded either way, whatever the size of the scan.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.options import IterationOptions
from ptycho.core.doctor.reconstructions import displaced
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.fly_scan import FlyPath
from ptycho.core.physics.stage import stage_of
from ptycho.core.quality.orientation import ORIENTATIONS, Orientation
from ptycho.core.quality.trust import Trust
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.scan.stream import ScanStream
from ptycho.raw_data import RawData
from ptycho.workflows.effects.background import background_advice
from ptycho.workflows.effects.detector_blur import blur_advice
from ptycho.workflows.effects.fly_plan import asked_to_fly, runs_in_lines
from ptycho.workflows.effects.thick import thickness_advice
from ptycho.workflows.effects.variable_probe import RIVALLED, variation_advice
from ptycho.workflows.iteration.find_probe import find_probe
from ptycho.workflows.iteration.iteration_plan import flight_of, planned
from ptycho.workflows.scan_part import ScanPart, like, telling_part
from ptycho.workflows.solver import Solver
from ptycho.workflows.trust import beyond_noise, noise_error
from ptycho.workflows.validation.foretell import Clusters
from ptycho.workflows.validation.units_doubt import noise_factor, other_units

__all__ = ["Finished", "fixed_modes", "remedy"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]

ANEW, TURNED, MOVED, FURTHER = 14, 8, 40, 20
"""Iterations of a trial: a part begun anew, in another orientation, with positions that move, and from the result."""
BETTER = 1.5
"""Ratio of errors from which on a remedy is believed: of unseen patterns, or beyond the noise of those seen."""
FLICKERS = 2.0
"""The same of a factor for each pattern: patterns in a wrong order gain 1.7 by it, wrong positions 1.4."""
MOST = 100.0
"""Ratio that is told at most: beyond the noise little may be left."""
HINT = 1.2
"""The same where nothing else helped: positions far off are not found in some iterations."""
FAR_PX = 6.0
"""How far positions may go in a trial."""
LAST = 10
"""Iterations at the end that are looked at."""
GAIN, MUCH = 0.03, 0.3
"""Share of the error that they gain where more of them would help, and where nothing else need be tried before."""
FAINT = 0.5
"""Noise, relative to the amplitude, from which on photons are too few for amplitudes to be fitted."""
ALONE = 2
"""Patterns that are far worse than all others and bad frames for it; more are a part of the object gone astray."""
ANOTHER = "the probe is another: --probe patterns finds it"
WHITE = 0.1
"""Correlation of neighbouring pixels below which what is left is noise: a wrong model leaves speckles."""
QUIET = 0.8
"""Misfit of unseen patterns, over that of photon noise, below which their values are no photons."""


@dataclass(frozen=True, eq=False)
class Finished:
    """A result whose trust was measured, and what it was made with."""

    found: Reconstruction
    data: RawData
    solver: Solver
    options: IterationOptions
    made_probe: bool
    """Whether the probe was found in the patterns."""

    @property
    def gaining(self) -> float:
        """Share of the error that the last iterations gained; 0 where not all were used."""
        errors = self.found.error_history
        used = len(errors) > self.options.planned
        return 1 - errors[-1] / errors[-1 - min(LAST, len(errors) - 1)] if used else 0.0


def remedy(finished: Finished, clusters: Clusters) -> str:
    """The next step, a clause; where nothing helps it says what is left to look at."""
    trust = finished.found.trust
    assert trust is not None
    if trust.dose == "nominal" and trust.grade != "fails":
        return "state the dose (counts, or nphotons in the metadata) to tell noise from error"
    if finished.options.shared_probe and finished.data.scans and trust.grade == "fails":
        return "the scans may have different probes: leave --shared-probe out, and each has its own"
    bad = _bad_frames(trust)
    if bad:
        return bad
    faint = _few_photons(finished)
    if faint:
        return faint
    go_on = f"it was still gaining: go on with --start RESULT --iterations {2 * finished.options.planned}"
    if finished.gaining > MUCH and not trust.explained:
        return go_on
    logger.info("Looking for what would explain the rest, by short reconstructions")
    found = (
        other_units(finished.data, finished.solver.refine)
        or _of_light(finished)
        or _of_values(finished)
        or (_anew if trust.grade == "fails" else _further)(finished, clusters)
    )
    if found:
        return found
    if not trust.explained and (last := _of_thickness(finished) or _of_the_stage(finished.data)):
        return last
    if trust.grade == "fails":
        tried = "axes, probe, background, positions and modes were tried and are not it"
        if finished.data.near_field is not None:
            return f"{tried}: check pixel size, distance and magnification (--near-field)"
        return f"{tried}: check pixel size and distance, and that the patterns are of the far field"
    if finished.gaining > GAIN and not trust.explained:
        return go_on
    return "" if trust.explained else "background, modes, positions and the beam were tried, none explains the rest"


def _few_photons(finished: Finished) -> str:
    """What few photons ask for, whose amplitudes are no measure of anything: all else would be taken for a fault."""
    trust = finished.found.trust
    assert trust is not None
    fitted = finished.options.likelihood == "poisson" or finished.found.counts_from is not None
    if fitted or trust.dose == "nominal" or trust.noise_level < FAINT:
        return ""
    photons = float(trust.counts.mean())
    asked = "" if finished.options.object_prior else ", and take off some of their noise: --object-prior network"
    return f"photons are few, {photons:.2g} a pattern: fit their counts, --likelihood poisson{asked}"


def _bad_frames(trust: Trust) -> str:
    """One or two that stand out by far, where they are most of the error or the others are explained without them."""
    standing, ratio = trust.outliers, trust.ratio
    worst = standing[2 * ratio[standing] > ratio.max()]
    if trust.explained or not 0 < len(worst) <= ALONE:
        return ""
    rest = trust.only(~np.isin(np.arange(len(ratio)), standing))
    if np.median(ratio) * BETTER >= trust.overall_ratio and not rest.explained:
        return ""
    return f"leave them out: ptycho dataset subsample SCAN -o WITHOUT --drop {','.join(map(str, worst))}"


def _of_the_stage(data: RawData) -> str:
    """Patterns that belong to other positions, or positions that are off by a factor, as the doctor finds them."""
    if data.near_field is not None:
        return ""
    found = (displaced(ScanStream.of(scan.scan_file())) for scan in data.scans or (data,))
    return next((f"{one.name}: {one.sentence.rstrip('.')}" for one in found if one is not None), "")


def _of_thickness(finished: Finished) -> str:
    """Slices of a thick sample, where nobody asked for any."""
    known = finished.options.slices > 1 or finished.found.gap is not None or finished.options.refine_probe is False
    return "" if known else thickness_advice(finished.data, finished.solver.refine, len(finished.found.probe))


def fixed_modes(finished: Finished) -> str:
    """What is wrong with a number of modes that was asked for, by patterns that a short reconstruction did not see."""
    asked = finished.options.modes
    if not isinstance(asked, int) or finished.options.refine_probe is False or finished.options.variable_probe:
        return ""  # short reconstructions take a probe that changes for further modes
    free = replace(finished.options.without_prior(), modes="auto")
    data, free = finished.data, replace(free, slices=1, thickness=None, refine_thickness=False)  # that is decided
    probe, path = as_modes(np.asarray(data.probeGuess))[:1], finished.found.fly_path
    plan = planned(data, finished.solver.refine, free, probe, flat=True, fly_path=path)
    best = len(plan.probe)
    if best == asked:
        return ""
    logger.debug("modes: %s", plan.notes)
    return (
        f"{'too many' if best < asked else 'too few'} modes, unseen patterns prefer {best} to {asked}: --modes {best}"
    )


def _of_values(finished: Finished) -> str:
    """The gain of the detector, where what is left is noise but not that of photons; or that noise was fitted."""
    trust = finished.found.trust
    assert trust is not None
    factor, alike = noise_factor(finished.found, finished.data)
    unseen = trust.foretold
    less = unseen is not None and float(unseen.misfit.sum()) < QUIET * float(unseen.noise.sum())
    if trust.too_well and not less:
        held = "" if finished.options.object_prior else ", or say what is known of the sample (--object-prior tv)"
        return fixed_modes(finished) or f"noise was fitted: fewer modes, more overlap or more photons{held}"
    if trust.dose == "measured" and alike < WHITE and (less or (factor > BETTER and not trust.explained)):
        return f"the values are not photons, their noise says {factor:.2g} units for each: divide them by the gain"
    return ""


def _of_light(finished: Finished) -> str:
    """Light that every pattern has beside the object's, or a detector that blurs it, whichever foretells more; asked
    before modes, which take both for their own.

    A stage that moves, or another probe, blurs patterns as well: where one of them explains more, it is named instead.
    """
    trust, data, gain, said = finished.found.trust, finished.data, 0.0, ""
    assert trust is not None
    noise = noise_error(trust, "amplitude")
    if finished.options.background is False:
        gain, said = background_advice(data, finished.solver.refine, noise)
    if not finished.options.detector_blur and finished.found.blur is None:
        blurred, told = blur_advice(data, finished.solver.refine, len(finished.found.probe), noise)
        gain, said = (blurred, told) if told and blurred > gain else (gain, said)
    if not said:
        return ""
    if trust.grade == "fails":
        error, advice = _anew_tried(finished, part := telling_part(data))
        if _unseen(finished, part, data.probeGuess, ANEW) > gain * error:
            return advice
    motion, instead = _motion(finished)
    return instead if motion > gain else said


def _further(finished: Finished, clusters: Clusters) -> str:
    """From the result on: modes, the probe, the beam, positions, a probe that changes."""
    modes = fixed_modes(finished)
    if modes:
        return modes
    found, trust = finished.found, finished.found.trust
    assert trust is not None

    def gone_on(**moving: Any) -> Refinement:
        return finished.solver.refine(
            clusters.scan,
            clusters.found,
            FURTHER,
            probe=found.probe,
            frame=clusters.frame,
            likelihood="amplitude",
            position_bound_px=FAR_PX,
            patience=FURTHER + 1,
            **clusters.recording.known,
            **{"refine_probe": False, **moving},
        )

    floor, fixed = float(trust.noise.sum() / trust.counts.sum()), gone_on()
    if finished.options.refine_probe is False:
        gain = _gain(fixed, gone_on(refine_probe=True), floor)
        if gain > BETTER:
            return f"let the probe move: the patterns are then explained {gain:.2g} times better"
    said = _of_places_or_flux(finished, fixed, gone_on, floor, BETTER)
    instead = "" if said else _motion(finished)[1]
    if instead or finished.options.variable_probe or finished.options.refine_probe is False:
        return said or instead
    left, changes = variation_advice(gone_on, floor, RIVALLED) if said else variation_advice(gone_on, floor)
    if not (said and changes):
        return said or changes
    # a probe that drifts looks like positions, or a beam, that are a little off
    moved = gone_on(refine_probe=True, refine_positions=True, refine_flux=found.flux is None)
    return changes if left < beyond_noise(moved, floor) else said


def _gain(before: Refinement, after: Refinement, floor: float) -> float:
    """Ratio of errors beyond that of noise."""
    return beyond_noise(before, floor) / beyond_noise(after, floor)


def _of_places_or_flux(
    finished: Finished, fixed: Refinement, moved: Callable[..., Refinement], floor: float, least: float
) -> str:
    """Positions that are off, or a beam that flickers, whichever explains more; what moves already is not tried."""
    places = None if finished.options.refine_positions else moved(refine_positions=True)
    gain = 0.0
    if finished.found.flux is None and finished.options.refine_flux is not False:
        gain = _gain(fixed, moved(refine_flux=True), floor)
    logger.debug("flux: %.3g times better beyond the noise", gain)
    if gain > FLICKERS and (places is None or gain > _gain(fixed, places, floor)):
        better = f"a factor for each explains them {min(gain, MOST):.2g} times better"
        return f"the beam changes from pattern to pattern, {better}: --flux"
    gain = 0.0 if places is None else _gain(fixed, places, floor)
    logger.debug("positions: %.3g times better beyond the noise", gain)
    return "" if gain < least else _of_the_stage(finished.data) or _of_positions(finished, gain)


def _of_positions(finished: Finished, gain: float) -> str:
    """How far positions go in a part of the scan, which lies as the stage has it, and what finds them."""
    part = telling_part(finished.data)
    moved, x, y = _begun(finished, part, refine_positions=True), part.scan.xcoords, part.scan.ycoords
    shift = np.stack([moved.xcoords + moved.frame.x0 - x, moved.ycoords + moved.frame.y0 - y], axis=1)
    far, own = (float(np.abs(one).max()) for one in (shift, shift - stage_of(x, y, shift).displacement(x, y)))
    logger.debug("positions: %.3g px at most, %.3g by themselves", far, own)
    far_off = own > IterationOptions.position_bound_px
    bound = f" search --position-bound {np.ceil(own):.0f}" if far_off else ""
    return f"positions {'are' if gain > BETTER else 'may be'} off by up to {far:.2g} px: --positions{bound}"


def _begun(finished: Finished, part: ScanPart, **moving: bool) -> Refinement:
    """A part of the scan from a flat object."""
    return finished.solver.refine(
        part.scan,
        None,
        MOVED,
        probe=finished.data.probeGuess,
        likelihood="amplitude",
        position_bound_px=FAR_PX,
        patience=MOVED + 1,
        frame=None,
        fly_path=_path_of(finished, part),
        **moving,
    )


def _anew(finished: Finished, clusters: Clusters) -> str:
    """A part of the scan from a flat object: axes, the probe, modes, the beam, positions."""
    data, part = finished.data, telling_part(finished.data)
    given = _unseen(finished, part, data.probeGuess, ANEW)
    error, advice = _anew_tried(finished, part)
    if given > BETTER * error:
        apart = _of_the_stage(data) if advice == ANOTHER else ""  # to which another probe is next best
        return apart or f"{advice}, which foretells unseen patterns {given / max(error, 1e-30):.2g} times better"
    modes = fixed_modes(finished)
    if modes:
        return modes
    begun = partial(_begun, finished, part)
    return _of_places_or_flux(finished, begun(), begun, 0.0, HINT) or _motion(finished)[1]


def _anew_tried(finished: Finished, part: ScanPart) -> tuple[float, str]:
    """(error of unseen patterns, advice) of the best of the other orientations, or of a probe from the patterns.

    A half turn of the patterns and the conjugate of a probe are the same: where the given probe fits it is believed.
    """
    data = finished.data
    turned = {one: _turned(part, one) for one in ORIENTATIONS[1:]}
    best = min(turned, key=lambda one: _unseen(finished, turned[one], data.probeGuess, TURNED))
    error = _unseen(finished, turned[best], data.probeGuess, ANEW)
    if not finished.made_probe and finished.found.gap is None and not data.scans:
        other = _unseen(finished, part, find_probe(data, finished.solver.refine).probe, ANEW)
        if error > BETTER * other:
            return other, ANOTHER
    flags = " ".join(f"--{word}" for word in best.name.split("+"))
    return error, f"the axes do not go with the positions: ptycho dataset turn SCAN -o TURNED {flags}"


def _unseen(finished: Finished, part: ScanPart, probe: Array, iterations: int) -> float:
    """Least error of the unseen patterns of a part that is begun anew."""
    found = finished.solver.refine(
        part.scan,
        None,
        iterations,
        probe=as_modes(np.asarray(probe)),
        likelihood="amplitude",
        refine_probe=True,
        holdout=part.unseen,
        patience=iterations + 1,
        fly_path=_path_of(finished, part),
    )
    return min(found.unseen_history)


def _path_of(finished: Finished, part: ScanPart) -> FlyPath | None:
    """Of the patterns of a part."""
    path = finished.found.fly_path
    return None if path is None else path[part.places]


def _motion(finished: Finished) -> tuple[float, str]:
    """A stage that moves while a pattern is counted, where nobody said anything of that: the gain, and the clause."""
    if finished.found.fly_path is not None or asked_to_fly(finished.options):
        return 0.0, ""
    data, modes = finished.data, len(finished.found.probe)
    asked = replace(finished.options, fly_points="auto", modes=modes if finished.options.refine_probe else None)
    if not runs_in_lines(data):
        return 0.0, ""
    flight = flight_of(data, finished.solver.refine, asked, as_modes(np.asarray(data.probeGuess)))
    if flight.gain < HINT:
        return 0.0, ""
    return (
        flight.gain,
        f"the stage moves during a pattern, which foretells unseen patterns {flight.gain:.2g} times better: --fly",
    )


def _turned(part: ScanPart, orientation: Orientation) -> ScanPart:
    scan = part.scan
    mask = None if scan.mask is None else np.ascontiguousarray(orientation.patterns(scan.mask))
    patterns = np.ascontiguousarray(orientation.patterns(scan.amplitude(np.arange(len(scan)))))
    turned = like(scan, scan.xcoords, scan.ycoords, patterns, scan.probeGuess, mask)
    turned.scan_probes = scan.scan_probes
    return ScanPart(turned, part.unseen, part.places)
