"""The blur of the detector, one number, which moves along with a refinement where that is asked for."""

from __future__ import annotations

import numpy as np

from ptycho.core.physics.detector_blur import share_of, sigma_of
from ptycho.core.refinement.device.kernels import Point
from ptycho.core.refinement.sums.passes import Passes

__all__ = ["refocused"]

WAIT = 2
"""The blur begins to move once the object has taken shape."""
STEP = 1.5
"""Part of the Gauss-Newton step that is taken: an object that is held holds the blur back, as it was found with it;
below twice the step a parabola does not rise."""
TRUST = 0.2
"""Greatest change of t in one step."""


def refocused(point: Point, passes: Passes, iteration: int) -> Point:
    """The point with the blur where a parabola in t has its minimum, which the curvature of the patterns tells."""
    if iteration < WAIT:
        return point
    gradient, curvature = passes.blur_slope(point)
    if not curvature > 0:
        return point
    before = share_of(float(point.blur))
    step = float(np.clip(-STEP * gradient / curvature, -TRUST, TRUST))
    most = share_of(passes.n / 8)
    return point._replace(blur=np.array(sigma_of(float(np.clip(before + step, 0, most)))))
