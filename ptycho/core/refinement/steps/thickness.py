"""The distance between the slices of a thick object, which moves along with a refinement where that is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.near_field import NearField
from ptycho.core.refinement.device.kernels import Point
from ptycho.core.refinement.sums.passes import Passes
from ptycho.errors import ConfigError

__all__ = ["in_slices", "stretched"]

Array = NDArray[Any]

WAIT = 4
"""The distance begins to move once the slices have taken shape."""
STEP = 1.8
"""Part of the Gauss-Newton step that is taken: slices that are held hold the distance back, as they were found with it;
below twice the step a parabola does not rise."""
TRUST = 1.25
"""Greatest factor of one step."""
REACH = 10.0
"""Greatest factor of all steps together."""


def stretched(point: Point, passes: Passes, iteration: int) -> Point:
    """The point with the distance where a parabola has its minimum, which the curvature of the patterns tells."""
    if iteration < WAIT:
        return point
    before = float(point.stretch)
    gradient, curvature = passes.stretch_slope(point)
    if not curvature > 0:
        return point
    now = float(np.clip(before - STEP * gradient / curvature, before / TRUST, before * TRUST))
    return point._replace(stretch=np.array(np.clip(now, 1 / REACH, passes.greatest_stretch)))


def in_slices(
    image: Array | None, slices: int | None, gap: NearField | None, shape: tuple[int, int]
) -> NDArray[np.generic]:
    """The object that a search begins with: flat, or as given, one that is thin in the middle slice of a thick one.

    Args:
        image: (H, W), or (K, H, W) for K slices; None: flat.
        slices: K; None: those of `image`, else 1.
        gap: the free space between two of them; None: one slice.
        shape: (H, W).

    Raises:
        ConfigError: several slices and no distance, a distance and one slice, or not as many slices as `image` has.
    """
    given = 1 if image is None or image.ndim == 2 else len(image)
    number = given if slices is None else slices
    if (number > 1) != (gap is not None):
        raise ConfigError(
            f"slices: expected the free space between them where there are several, found {number} and gap={gap}; give "
            "both, or neither"
        )
    if given not in (1, number):
        raise ConfigError(f"slices={number}: expected the {given} of the start; leave it out, or begin from its object")
    if number == given:
        return np.broadcast_to(np.ones(()), shape) if image is None else image
    if image is None:
        return np.broadcast_to(np.ones((), np.complex64), (number, *shape))
    made = np.ones((number, *shape), image.dtype)
    made[number // 2] = image
    return made
