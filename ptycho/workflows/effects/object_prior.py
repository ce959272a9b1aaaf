"""What is known of an object, as a user says it, and how strongly to hold it: unseen patterns decide.

A prior that holds keeps noise out of the object, which then foretells patterns better that it was not made from; one
that does not hold, or is held too strongly, makes them worse.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np

from ptycho.config.options import SUPPORT, IterationOptions
from ptycho.core.files.damage import readable
from ptycho.core.files.npz import read_npy
from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.refinement.priors.object_prior import ObjectPrior, PriorName, Sample
from ptycho.core.refinement.refinement import Refinement
from ptycho.errors import DataError, MissingFileError
from ptycho.raw_data import RawData

__all__ = ["asked_prior", "best_strength", "first_strength", "prior_note"]

logger = logging.getLogger(__name__)

FIRST = 0.05
"""Share of the error of unseen patterns that a prior adds at the first strength tried, to an object made without it."""
STEP, FURTHEST = 4.0, 6
"""Ratio of two strengths, and how many are tried in one direction."""
GAIN = 0.002
"""Share of the unseen error that a prior has to save."""
ENOUGH = 0.9
"""Share of what the best strength saves with which a weaker one is taken: all patterns hold an object better than those
of a part that some are kept back from."""
WORDS: dict[PriorName, str] = {
    "tv": "The object is held to few edges",
    "l1": "The object is held to the empty beam but for few pixels",
    "absorbing": "The object is held to making no light",
    "phase": "The object is held to taking no light",
    "support": "The object is held to the empty beam outside the sample",
    "network": "The object is held to what a network makes of its noise",
}


def asked_prior(options: IterationOptions, data: RawData, strength: float) -> ObjectPrior | None:
    """The prior that is asked for, of this strength; None where none is.

    Raises:
        MissingFileError, DataError: no mask of the sample, or one that is not of this scan.
    """
    asked = options.object_prior
    if asked is None:
        return None
    if not asked.startswith(SUPPORT):
        return ObjectPrior(cast(PriorName, asked), strength)
    return ObjectPrior("support", strength, sample_of(Path(asked[len(SUPPORT) :]), data))


def sample_of(path: Path, data: RawData) -> Sample:
    """Where the sample is, of a .npy file: `(H, W)`, not 0 inside, on the pixels of a result of the scan.

    Those are the pixels of the scan's `objectGuess` where every patch lies in it, else the smallest that hold every
    patch.
    """
    if not path.is_file():
        raise MissingFileError(f"{SUPPORT}{path}: expected a .npy file, found none there; write the mask of the sample")
    with readable(path, "the mask of the sample, a .npy file", advice="name another one"):
        values = read_npy(path)
    frame = object_frame(data.xcoords, data.ycoords, data.N)
    guess = data.objectGuess
    whole = None if guess is None else ObjectFrame(guess.shape[-2], guess.shape[-1], 0, 0)
    for one in (frame, whole):
        if one is not None and values.shape == one.shape and values.dtype.kind in "biuf":
            return Sample(np.asarray(values != 0), one)
    raise DataError(
        f"{path}: expected numbers of the shape {frame.shape} of a result of this scan, found {values.dtype} "
        f"{values.shape}; make the mask on its pixels"
    )


def first_strength(plain: Refinement, options: IterationOptions, data: RawData) -> float:
    """The strength to try first, by what the prior says of an object that was made without it."""
    asked = asked_prior(options, data, 1.0)
    assert asked is not None
    value = float(asked.on(plain.frame).gradient(plain.object)[0].sum(dtype=np.float64))
    seen = len(plain.xcoords)
    return FIRST * plain.unseen_history[-1] * seen / max(value, 1e-6 * plain.object.size)


def best_strength(error: Callable[[float], float], plain: float, first: float) -> tuple[float, dict[float, float]]:
    """The least strength that saves nearly as much as the best, 0 where none does, and all that were tried.

    Args:
        error: of unseen patterns with a strength.
        plain: the same without.
        first: strength to try first; from there fourfold or a fourth, as long as it gets better, then between.

    Returns:
        The strength, and the error of every strength that was tried.
    """
    errors = {0.0: plain, first: error(first)}

    def walk(factor: float) -> None:
        at = first
        for _ in range(FURTHEST):
            errors[at * factor] = error(at * factor)
            if errors[at * factor] > errors[at]:
                return
            at *= factor

    walk(STEP)
    if errors[STEP * first] > errors[first]:
        walk(1 / STEP)
    best = min(errors, key=lambda each: errors[each])
    if errors[best] > (1 - GAIN) * plain:
        return 0.0, errors
    for near in (best / np.sqrt(STEP), best * np.sqrt(STEP)):
        errors[float(near)] = error(float(near))
    enough = plain - ENOUGH * (plain - min(errors.values()))
    return min(each for each, one in errors.items() if one <= enough), errors


def prior_note(prior: ObjectPrior, why: str) -> str:
    """One sentence: what is held, how strongly, and why."""
    return f"{WORDS[prior.name]} ({prior.name}), with the strength {prior.strength:.3g}: {why}"
