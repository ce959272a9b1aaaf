"""Which part of every patch is stitched, with which weight, and which part of the canvas is the result."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.config.options import NEUTRAL_STITCHING, StitchOptions
from ptycho.core.geometry import ObjectFrame, object_frame, reframe
from ptycho.core.stitching.stitch import probe_weight
from ptycho.errors import ConfigError

__all__ = ["lay_out", "patch_weight", "result_frames"]


def patch_weight(probe: NDArray[Any], options: StitchOptions) -> NDArray[np.float64]:
    """Weight (N, N) of the pixels of a patch, for a probe (N, N) or (M, N, N).

    Of `patch_weighting='probe'` the light `sum_m |P_m|^2` that they received; with `uniform` all count alike, what a
    network says of dark pixels too.
    """
    return np.ones(probe.shape[-2:]) if options.patch_weighting == "uniform" else probe_weight(probe)


def result_frames(
    xcoords: ArrayLike, ycoords: ArrayLike, N: int, options: StitchOptions = NEUTRAL_STITCHING
) -> tuple[ObjectFrame, ObjectFrame]:
    """The part of the object grid that the result shows, and the canvas around it.

    The canvas is the smallest whole-pixel frame that holds every patch, or with `pad_eval=False` every position; the
    part shown is the canvas without `window` pixels at each edge.

    Raises:
        ConfigError: a window that leaves nothing.

    >>> result_frames([32.0, 40.5], [32.0, 36.0], 64, StitchOptions(pad_eval=False))[1]
    ObjectFrame(height=5, width=10, x0=32, y0=32)
    """
    canvas = object_frame(xcoords, ycoords, N if options.pad_eval else 0)
    if not options.pad_eval:
        # a position is the middle of a pixel, and the last one belongs to the box
        canvas = ObjectFrame(canvas.height + 1, canvas.width + 1, canvas.x0, canvas.y0)
    height, width = (length - 2 * options.window for length in canvas.shape)
    if height < 1 or width < 1:
        raise ConfigError(
            f"window={options.window}: the canvas has {canvas.height} x {canvas.width} pixels, nothing is left of it; "
            f"lower window to at most {(min(canvas.shape) - 1) // 2}"
        )
    return ObjectFrame(height, width, canvas.x0 + options.window, canvas.y0 + options.window), canvas


def lay_out(
    image: NDArray[Any], work: ObjectFrame, shown: ObjectFrame, target: ObjectFrame, fill: complex
) -> NDArray[Any]:
    """What `image`, which lies in `work`, is in `target` when only `shown` of it is kept; `fill` elsewhere."""
    return reframe(reframe(image, work, shown, fill), shown, target, fill)
