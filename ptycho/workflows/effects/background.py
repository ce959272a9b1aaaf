"""The background of a scan, in words: what was found, and whether one is there that nobody asked for."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from ptycho.raw_data import RawData
from ptycho.workflows.scan_part import telling_part
from ptycho.workflows.solver import Refine
from ptycho.workflows.trust import NOMINAL_PHOTONS, photon_scale

__all__ = ["background_advice", "background_notes"]

logger = logging.getLogger(__name__)

ITERATIONS = 14
"""Of a trial, a part of the scan begun anew."""
BETTER = 1.5
"""Ratio of the errors of unseen patterns beyond the noise from which on a background is believed: a mode that is
missing gains 1.06 by one, positions that are off 1.01."""
LEFT = 0.1
"""Share of the noise that is left beyond it at least: few patterns foretell others no better."""


def background_notes(background: NDArray[np.float64], data: RawData) -> list[str]:
    """A sentence each on what comes to patterns of which a background was subtracted, and on what was found beside.

    In counts per valid pixel; what was found also as a share of all light.

    Args:
        background: (N, N) of every pattern, squares of the scan's amplitudes.
        data: the scan.
    """
    added = data.added
    if added is None:
        return [_found(background, data)] if background.any() else []
    values = added[data.valid_mask.reshape(-1, *background.shape).any(axis=0)]
    note = (
        f"Patterns go below 0, as after a background is subtracted: {values.mean():.3g} per pixel, {values.min():.2g} "
        f"to {values.max():.2g}, come to them and to what object and probe make, so that nothing is cut off"
    )
    return [note] if np.array_equal(background, added) else [note, _found(background - added, data)]


def _found(background: NDArray[np.float64], data: RawData) -> str:
    """What was found in every pattern; below 0 where too much of it was subtracted."""
    scale, dose = photon_scale(data, NOMINAL_PHOTONS)
    scale, unit = (1.0, "squared amplitude") if dose == "nominal" else (scale, "counts")
    valid = data.valid_mask.reshape(-1, *background.shape).any(axis=0)
    values = scale * background[valid]
    share = 100 * float(values.sum()) / (scale * data.mean_energy)
    if values.mean() < 0:
        too_much = f"{-values.mean():.3g} {unit} per pixel, {-share:.2g} % of all light"
        return f"Too much was subtracted from every pattern: {too_much}"
    return (
        f"The background of every pattern is {values.mean():.3g} {unit} per pixel, {values.min():.2g} to "
        f"{values.max():.2g} of them, {share:.2g} % of all light"
    )


def background_advice(data: RawData, refine: Refine, noise: float) -> tuple[float, str]:
    """How many times better unseen patterns are foretold with a background, and the flag that finds it, a clause.

    The clause is empty where they are foretold as well without one.

    Args:
        data: the scan.
        refine: of a backend.
        noise: relative error of amplitudes that photon noise leaves.
    """
    part = telling_part(data)
    settings = {"likelihood": "amplitude", "holdout": part.unseen, "patience": ITERATIONS + 1}
    plain, lit = (
        refine(part.scan, None, ITERATIONS, probe=data.probeGuess, refine_background=family, **settings)
        for family in (None, "smooth")
    )
    before, after = (max(min(one.unseen_history) - noise, LEFT * noise, 1e-12) for one in (plain, lit))
    gain = before / after
    logger.debug("background: unseen patterns are foretold to %.3g, %.3g with one, beyond %.3g", before, after, noise)
    if gain < BETTER:
        return gain, ""
    counts = photon_scale(data, NOMINAL_PHOTONS)[0] * float((lit.background - plain.background).mean())
    better = f"unseen patterns are foretold {gain:.2g} times better with one"
    what = (
        "every pattern has a background, of some" if counts >= 0 else "too much was subtracted from every pattern, some"
    )
    return gain, f"{what} {abs(counts):.2g} counts per pixel, {better}: --background"
