"""The blur of the detector: what is asked for, what was found, and whether one is there that nobody asked for."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from ptycho.config.options import IterationOptions
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.probes import with_modes
from ptycho.core.refinement.refinement import Refinement
from ptycho.raw_data import RawData
from ptycho.workflows.scan_part import telling_part
from ptycho.workflows.solver import Refine

__all__ = ["blur_advice", "blur_note", "blurring"]

logger = logging.getLogger(__name__)

ITERATIONS = 20
"""Of a trial, a part of the scan begun anew."""
BETTER = 1.5
"""Ratio of the errors of unseen patterns beyond the noise from which on a blur is believed."""
LIKE_MODES = 1.2
"""The same ratio over further modes of the probe, which are another kind of partial coherence."""
LEFT = 0.1
"""Share of the noise that is left beyond it at least: few patterns foretell others no better."""


def blurring(options: IterationOptions) -> dict[str, Any]:
    """`blur` or `refine_blur` of every refinement of a scan; that of a start need not be said again."""
    if options.detector_blur == "find":
        return {"refine_blur": True}
    return {"blur": options.detector_blur} if options.detector_blur else {}


def blur_note(blur: float | None, options: IterationOptions) -> str:
    """One sentence on the blur of a result."""
    if blur is None:
        return "The detector is sharp: no blur of it explains the patterns better"
    how = "found in the patterns" if options.detector_blur == "find" else "as it was given"
    return f"The detector blurs by {blur:.3g} pixels (standard deviation), {how}"


def blur_advice(data: RawData, refine: Refine, modes: int, noise: float) -> tuple[float, str]:
    """How many times better unseen patterns are foretold with a blur, and the flag that finds it, a clause.

    The clause is empty where they are foretold as well without one, or by as many modes of the probe.

    Args:
        data: the scan.
        refine: of a backend.
        modes: of the probe that is to be better than a blur, two at least.
        noise: relative error of amplitudes that photon noise leaves.
    """
    part, probe = telling_part(data), as_modes(data.probeGuess)
    settings = {"likelihood": "amplitude", "holdout": part.unseen, "patience": ITERATIONS + 1}
    tried = partial(refine, part.scan, None, ITERATIONS, **settings)

    def left(found: Refinement) -> float:
        return max(min(found.unseen_history) - noise, LEFT * noise, 1e-12)

    sharp = tried(probe=probe, refine_blur=True)
    if sharp.blur is None:
        return 1.0, ""
    gain = left(tried(probe=probe)) / left(sharp)
    logger.debug("blur: unseen patterns are foretold %.3g times better with %.3g pixels", gain, sharp.blur)
    if gain < BETTER or left(tried(probe=with_modes(probe[:1], max(2, modes)))) < LIKE_MODES * left(sharp):
        return gain, ""
    better = f"which foretells unseen patterns {gain:.2g} times better"
    return gain, f"patterns are blurred, by some {sharp.blur:.2g} pixels, {better}: --detector-blur"
