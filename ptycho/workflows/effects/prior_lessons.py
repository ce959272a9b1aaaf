"""What a scan teaches the network prior by itself: its photons in two halves, an object of each, tile by tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.variable_probe import ProbeVariation
from ptycho.core.refinement.device.kernels import Point
from ptycho.core.refinement.device.kernels_numpy import NumpyKernels
from ptycho.core.refinement.device.likelihood import intensity_floor
from ptycho.core.refinement.priors.network_prior import SHIPPED, TILE, expected_noise, read_weights
from ptycho.core.refinement.priors.noise_map import NoiseMap
from ptycho.core.refinement.priors.prior_training import Lesson, taught
from ptycho.core.refinement.priors.prior_unet import Weights
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.sums.passes import Passes
from ptycho.raw_data import RawData
from ptycho.workflows.photon_parts import photon_parts
from ptycho.workflows.trust import NOMINAL_PHOTONS, photon_scale

__all__ = ["Half", "lesson_of", "network_of_scan"]

Array = NDArray[Any]

WIDER = 1.5
"""Side of a tile in sides of a pattern, where patterns are large."""
PATTERNS = 64
"""Of a lesson, at most."""


def network_of_scan(
    data: RawData, without: Callable[[RawData], Refinement], seconds: float, seed: int = 1
) -> tuple[Weights, int]:
    """The network after so long with the halves of a scan, and how many steps that was.

    Args:
        data: the scan, which tells how many photons it has.
        without: what an iteration without a prior makes of a scan.
        seconds: of training; the two iterations come before.
        seed: of the halves and of the training; another one than that by which the scan itself was drawn from a larger
            one, so that the draws are independent.
    """
    halves = [Half(part, without(part)) for part in photon_parts(data, seed=seed)]

    def lesson(rng: np.random.Generator) -> Lesson:
        one = int(rng.integers(2))
        return lesson_of(halves[one], halves[1 - one].data, rng)

    return taught(read_weights(SHIPPED), lesson, seconds, seed)


class Half:
    """A part of a scan's photons and what is made of it.

    Args:
        data: the part.
        found: of it alone.
    """

    def __init__(self, data: RawData, found: Refinement) -> None:
        self.data, self.found = data, found
        noise = NoiseMap.of(found.probe, found.xcoords, found.ycoords, found.object.shape)
        self.sharing = noise.sharing
        self.sigma = expected_noise(photon_scale(data, NOMINAL_PHOTONS)[0] * noise.light, noise.sharing)
        self.lit = noise.lit
        self.floor = intensity_floor(data, "poisson")


def lesson_of(half: Half, other: RawData, rng: np.random.Generator) -> Lesson:
    """A tile of an object drawn at random, and what the patterns of the other part say that lie in it wholly.

    Args:
        half: whose object the network sees.
        other: the other part of the photons of the same patterns.
        rng: of the draw.
    """
    found, n = half.found, half.data.N
    centres = np.stack([found.ycoords, found.xcoords], axis=1)
    side = max(TILE, int(WIDER * n) // 8 * 8)
    moved = rng.integers(-(side - n) // 2 + 2, (side - n) // 2 - 1, 2)
    first = np.rint(centres[rng.integers(len(centres))]).astype(int) - side // 2 + moved
    first = np.clip(first, 0, np.maximum(np.array(found.object.shape) - side + 1, 0))
    first -= first % 2  # so that places in the middle between two pixels are rounded in the tile as in the object
    last = np.minimum(first + side, found.object.shape)
    corners = np.rint(centres).astype(int) - n // 2
    inside = np.flatnonzero(((corners >= first) & (corners + n <= last)).all(axis=1))
    chosen = np.sort(rng.choice(inside, min(PATTERNS, len(inside)), replace=False))
    box = tuple(slice(int(begin), int(end)) for begin, end in zip(first, last, strict=True))
    return Lesson(
        found.object[box],
        half.sigma[box],
        half.sharing[box],
        half.lit[box],
        _pull(half, other, chosen, first),
    )


def _pull(half: Half, other: RawData, chosen: NDArray[np.int64], first: Array) -> Callable[[Array], Array]:
    """Of the likelihood of these patterns, the sum over them, with all that the result knows of them."""
    found = half.found
    kernels = NumpyKernels("poisson", half.floor, dtype=np.float32)
    path = None if found.fly_path is None else found.fly_path[chosen]
    varied = found.variation if isinstance(found.variation, ProbeVariation) else None
    point = Point(
        found.object,
        found.probe,
        found.xcoords[chosen] - first[1],
        found.ycoords[chosen] - first[0],
        found.flux[chosen],
        found.background,
        blur=np.array(found.blur or 0.0),
    )
    if varied is not None:
        point = point._replace(variation=varied.modes, coefficients=varied.coefficients[chosen])
    every, none = np.arange(len(chosen)), np.arange(0)
    passes = Passes(kernels, other.part(chosen), [every], none, len(point.vectors), kernels.memory, path)

    def pull(image: Array) -> Array:
        here = point._replace(object=image).in_precision(kernels.complex_bytes)
        return np.asarray(passes.gradient(here, False)[1].object)

    return pull
