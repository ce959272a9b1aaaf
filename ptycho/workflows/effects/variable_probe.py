"""A probe that changes during the scan, in words: what was found, and whether one is there that nobody asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ptycho.core.physics.variable_probe import ProbeVariation, likeness
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.result import plural
from ptycho.workflows.trust import beyond_noise

__all__ = ["RIVALLED", "variation_advice", "variation_note"]

logger = logging.getLogger(__name__)

SLOW = 0.5
"""Likeness of patterns that follow each other from which on a change is slow."""
MODES = 2
"""Of variation, in a trial and where nobody says how many."""
MOST = 100.0
"""Ratio that is told at most."""
BETTER = 4.0
"""Ratio of errors beyond the noise from which on a probe that changes is believed. It also takes up what other faults
leave: at 1e5 and 1e6 photons it gains 1 on clean scans and 1.4 to 3.0 on those with wrong positions, further modes, a
background or a stage that moves (two objects, 16 pixels); a focus that drifts by a quarter or half a wave 7.5 and more
under a star, 2 under an object that hides it.
"""
RIVALLED = 2.0
"""The same where what else may be, positions or the beam, has to leave more yet: a wave of drift gains 4."""


def variation_note(variation: ProbeVariation | None) -> str:
    """One sentence: how much of the light is in the modes of variation, and whether it drifts or trembles."""
    if variation is None:
        return "No change of the probe during the scan explains more than noise would"
    shares = variation.shares[variation.coefficients.any(axis=0)]
    told = ", ".join(f"{100 * share:.2g} %" for share in shares)
    slow = "slowly" if likeness(variation.coefficients[:, :1])[0] > SLOW else "from pattern to pattern"
    modes = plural(len(shares), "mode")
    return f"The probe changes {slow} during the scan: {told} of its light lies in {modes} of variation"


def variation_advice(moved: Callable[..., Refinement], floor: float, least: float = BETTER) -> tuple[float, str]:
    """The error beyond noise that a probe which changes during the scan leaves, and the flag that lets it, a clause.

    The clause is empty where that explains little more.

    Args:
        moved: refines some patterns of a result further, all else held, given what moves.
        floor: relative error that photon noise leaves.
        least: ratio of errors from which on it is believed; less than usual where what else may be is compared with it.
    """
    same, varied = (moved(refine_probe=True, variable_probe=modes) for modes in (0, MODES))
    before, after = beyond_noise(same, floor), beyond_noise(varied, floor)
    logger.debug("probe that changes: %.3g times better beyond the noise", before / after)
    if before < least * after:
        return after, ""
    better = f"which explains the patterns {min(before / after, MOST):.2g} times better"
    return after, f"the probe changes during the scan, {better}: --variable-probe"
