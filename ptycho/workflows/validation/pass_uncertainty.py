"""The error bars of a network's pass: refined to the end, and passed again with counts drawn from objects near it.

`ptycho.core.quality.pass_errors` has the formulas. The refinement that the pass is held against is the better picture;
bars on the pass itself are for where the pass is what is kept, compared or streamed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.options import IterationOptions
from ptycho.core.quality.pass_errors import Drawn, PassErrors
from ptycho.core.quality.trust import Trust
from ptycho.core.quality.uncertainty import Uncertainty
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.result import reconstruction_of
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.solver import Refine
from ptycho.workflows.validation.uncertainty import (
    ITERATIONS,
    NARROW,
    UNFINISHED,
    check_uncertainty,
    expected_photons,
    redrawn,
    scanned_field,
)

__all__ = ["check_pass_uncertainty", "measure_pass_uncertainty"]

MOST, ENOUGH = 160, 1e-3
"""Iterations of counts from the pass on, at most, and the gain of a few at which they end."""
PATTERNS = 100
"""In the middle of the scan, that are drawn and passed again: of so many errors the shares are known to 1 %."""
EXCESS = 0.1
"""Error of the reference above that of noise, in units of what makes it as far from the truth as one bar, from which on
bars do not hold. A model that is right has up to 0.04, and 0.1 where 1e8 photons were not fitted to the end; one whose
probe is off by a curvature of 0.3 rad at the edge of its window has 0.1 to 0.3 at 1e6 photons, where 51 to 59 % of the
errors lie within bars."""

Passed = Callable[[RawData], NDArray[np.complexfloating[Any, Any]]]


def check_pass_uncertainty(data: RawData, run: RunOptions) -> None:
    """What can be known to have no error bars of a pass, before anything is passed.

    Raises:
        ConfigError: what is asked for beside it. DataError: a scan that does not tell how many photons it has.
    """
    for expected, given, known in (
        ("one pass of the network", run.refine_iterations > 0, f"{run.refine_iterations} iterations of refinement"),
        ("no statistics of patches", run.diagnostics is not None, "some"),
    ):
        if given:
            raise ConfigError(
                f"--uncertainty: expected {expected}, found {known}; give --no-refine, or take ptycho reconstruct "
                "--uncertainty, whose bars are of an iteration"
            )
    check_uncertainty(data, IterationOptions(), network=False)


def measure_pass_uncertainty(
    found: Reconstruction,
    data: RawData,
    refine: Refine,
    passed: Passed,
    seed: int = 0,
) -> Uncertainty:
    """Bars of a pass that 68 % of its errors lie within, and how many of them hold 95 %.

    Args:
        found: the pass, with its trust.
        data: the scan as the network takes it, which `check_pass_uncertainty` lets through.
        refine: `refine(scan, start, iterations, *, likelihood, refine_probe, tolerance)` of a backend.
        passed: the pass of a scan like this one, (H, W) in the frame of `found`.
        seed: of the draws.
    """
    counts: dict[str, Any] = {"likelihood": "poisson", "refine_probe": False}
    reference = reconstruction_of(refine(data, found, MOST, tolerance=ENOUGH, **counts))
    further = partial(refine, iterations=ITERATIONS, tolerance=0.0, **counts)
    errors = PassErrors(found.object, reference.object, reference.coverage, scanned_field(reference)[0])
    streams = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(2))
    again = further(redrawn(data, expected_photons(reference, data), next(streams)), start=reference)
    nearest = errors.nearest(again.object).astype(np.complex64)
    near = replace(reference, object=np.where(errors.known, nearest, reference.object))
    chosen = _middle(data)
    scan = redrawn(data.part(chosen), expected_photons(near, data)[chosen], next(streams))
    refined = further(scan, start=near.object, probe=near.probe, frame=near.frame)
    there = reconstruction_of(refined)
    bars = errors.bars(
        again.object, Drawn(near.object, passed(scan), refined.object, there.coverage, scanned_field(there)[0])
    )
    gone_on = further(data, start=reference)
    unfinished = errors.moved(gone_on.object, bars)
    misfit = gone_on.error_history[0] / again.error_history[again.kept]
    holds, remarks = _worth(found.trust, unfinished, misfit, bars.noise)
    return Uncertainty(
        bars.amplitude.astype(np.float32),
        bars.phase.astype(np.float32),
        draws=1,
        iterations=ITERATIONS,
        unfinished=unfinished,
        misfit=misfit,
        holds=holds,
        remarks=remarks,
        wide_amplitude=bars.wide_amplitude,
        wide_phase=bars.wide_phase,
        of="pass",
    )


def _middle(data: RawData) -> NDArray[np.intp]:
    """Indices of the patterns in the middle of a scan, as many as are passed again."""
    x, y = (each - np.median(each) for each in (data.xcoords, data.ycoords))
    return np.sort(np.argsort(np.hypot(x, y), kind="stable")[:PATTERNS])


def _worth(trust: Trust | None, unfinished: float, misfit: float, noise: float) -> tuple[bool, tuple[str, ...]]:
    """Whether the bars hold, and what makes them too small, a clause each; `noise` is that of the reference in bars."""
    against, beside = [], []
    told = f"refined, the patterns are explained to {misfit:.3g} times what noise leaves"
    excess = (misfit - 1) * noise**2
    if excess > EXCESS:
        against.append(f"{told}: the model is wrong, or the refinement not at its end, by more than the bars can tell")
    elif excess > NARROW - 1:
        beside.append(f"{told}: the bars are too small by a tenth or so")
    if trust is not None and trust.grade == "fails":
        against.append("the trust in the object is 'fails'")
    if unfinished > UNFINISHED:
        against.append(
            f"the refinement that it is held against is not at its end: further iterations move it by {unfinished:.2g} "
            "bars (ptycho reconstruct --uncertainty finds a better picture, with bars of its own)"
        )
    return not against, (*against, *beside)
