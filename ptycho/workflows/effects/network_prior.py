"""The network prior of an iteration: what it makes of a result, as something that the refinement is pulled towards."""

from __future__ import annotations

import numpy as np

from ptycho.core.refinement.network_prior import Weights, posterior
from ptycho.core.refinement.noise_map import NoiseMap
from ptycho.core.refinement.priors import Belief
from ptycho.core.refinement.refinement import Refinement
from ptycho.raw_data import RawData
from ptycho.workflows.trust import NOMINAL_PHOTONS, photon_scale

__all__ = ["belief_of"]

LEAST_LIGHT = 0.02
"""Of the brightest pixel, below which nothing is thought of an object."""


def belief_of(found: Refinement, data: RawData, weights: Weights | None = None) -> Belief:
    """The posterior mean of a result by the network, and how sure that is.

    With the strength 1 the term of the error (`ptycho.core.refinement.penalty`) is that of a Gaussian of complex
    standard deviation s about it: `w = 1 / (2 n s^2)`, n the photons of a pattern.

    Args:
        found: in the scale of the result.
        data: the scan, which tells how many photons it has.
        weights: of the network; None: those of this library.
    """
    scale, _ = photon_scale(data, NOMINAL_PHOTONS)
    noise = NoiseMap.of(found.probe, found.xcoords, found.ycoords, found.object.shape)
    mean, spread = posterior(found.object, scale * noise.light, noise.sharing, weights)
    sure = 1 / (2 * scale * data.mean_energy * spread**2)
    return Belief(mean, np.where(noise.light > LEAST_LIGHT * noise.light.max(), sure, 0), found.frame)
