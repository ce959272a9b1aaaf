"""Known patches of an object: what supervised training compares with, cut from the object batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.core.geometry import LOCAL_OFFSET_SIGN
from ptycho.core.physics.patches import extract, extract_rounded
from ptycho.errors import DataError

__all__ = ["ObjectLabels", "object_labels"]


@dataclass(frozen=True)
class ObjectLabels:
    """A known object and the scan points that see it; patches are cut when a batch asks for them."""

    object: NDArray[np.complex64]
    """(H, W), in the unit in which, times the probe of the file, it predicts the amplitudes of the file."""
    xcoords: NDArray[np.float64]
    """(n,) pixels of the object, as `ycoords`."""
    ycoords: NDArray[np.float64]

    def at(self, points: NDArray[np.integer], N: int) -> NDArray[np.complex64]:
        """Patches `(b, N, N, C)` of scan points `(b, C)` at their positions, bilinear between pixels."""
        found = extract(self.object, self.xcoords[points.ravel()], self.ycoords[points.ravel()], N)
        return _members_last(found, points)

    def on_grid(self, points: NDArray[np.integer], positions: NDArray[Any], N: int) -> NDArray[np.complex64]:
        """Patches `(b, N, N, C)` at the whole pixels of the canvas where a network by the `fourier` rule has them.

        `positions` `(b, 1, 2, C)` is minus the place of each point seen from the canvas' middle, which is a pixel.
        The place is rounded as seen from there: on the object's own grid half a pixel might go the other way.
        """
        seen = LOCAL_OFFSET_SIGN * positions[:, 0]
        x, y = (
            np.rint(coords[points] - seen[:, axis]) + np.rint(seen[:, axis])
            for axis, coords in enumerate((self.xcoords, self.ycoords))
        )
        return _members_last(extract_rounded(self.object, x.ravel(), y.ravel(), N)[0], points)


def _members_last(patches: NDArray[Any], points: NDArray[np.integer]) -> NDArray[np.complex64]:
    stacked = patches.reshape(*points.shape, *patches.shape[-2:])
    return np.ascontiguousarray(np.moveaxis(stacked, 1, -1), np.complex64)


def object_labels(known: ArrayLike | None, xcoords: ArrayLike, ycoords: ArrayLike) -> ObjectLabels | None:
    """The labels of a scan whose `objectGuess` is the truth, complex `(H, W)` or `(L, H, W)` (its first layer).

    None where there is no object.

    Raises:
        DataError: the object is the same everywhere, a guess that teaches nothing.
    """
    if known is None:
        return None
    layers = np.asarray(known)
    first = layers.reshape(-1, *layers.shape[-2:])[0].astype(np.complex64, copy=False)
    if np.all(first == first[0, 0]):
        raise DataError(
            "supervised training needs the known object in objectGuess, found one that is the same everywhere: "
            "put the true object there, add Y (n, N, N), or train with model_type='pinn'"
        )
    return ObjectLabels(first, np.asarray(xcoords, np.float64), np.asarray(ycoords, np.float64))
