"""Single patterns of a scan beside those that an object predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.diffraction import as_modes, diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.recording import PLAIN, Recording
from ptycho.core.quality.trust import Trust

__all__ = ["Residual", "residuals", "telling_patterns"]

Complex = NDArray[np.complexfloating[Any, Any]]


@dataclass(frozen=True, eq=False)
class Residual:
    """A pattern, measured and predicted."""

    index: int
    """Of the pattern in the scan."""
    measured: NDArray[np.float64]
    """(N, N) amplitude as measured, 0 where not valid."""
    predicted: NDArray[np.float64]
    """(N, N) amplitude as predicted."""
    valid: NDArray[np.bool_]
    """(N, N)."""


def telling_patterns(trust: Trust, worst: int = 2) -> list[int]:
    """The patterns that are explained worst, the worst first, and the median one, by the deviance over that of noise.

    >>> from types import SimpleNamespace
    >>> telling_patterns(SimpleNamespace(ratio=np.array([1.0, 9.0, 3.0, 2.0, 5.0])))
    [1, 4, 2]
    """
    order = np.argsort(trust.ratio, kind="stable")
    median = int(order[len(order) // 2])
    return list(dict.fromkeys([*(int(j) for j in order[::-1][:worst]), median]))


def residuals(
    object: Complex,
    probe: Complex,
    positions: tuple[NDArray[np.float64], NDArray[np.float64]],
    places: Sequence[int],
    amplitude: Callable[[NDArray[np.intp]], NDArray[np.floating[Any]]],
    mask: NDArray[np.bool_] | None = None,
    recording: Recording = PLAIN,
) -> list[Residual]:
    """Some patterns beside those that an object predicts.

    Args:
        object: (H, W) transmission.
        probe: (N, N) or (M, N, N), in the unit of the amplitudes.
        positions: x and y (n,) of the patch centres, pixels of `object`.
        places: indices of the patterns.
        amplitude: measured amplitudes (b, N, N) of some patterns, given their indices (b,).
        mask: (N, N) or (n, N, N), True where valid.
        recording: of the scan.
    """
    chosen, N = np.asarray(places, np.intp), probe.shape[-1]
    patches, dx, dy = extract_rounded(object, positions[0][chosen], positions[1][chosen], N)
    predicted = np.sqrt(diffract(as_modes(probe).astype(np.complex128), patches, dx, dy, recording.of(chosen)))
    measured = amplitude(chosen).astype(np.float64)
    made = []
    for k, j in enumerate(chosen):
        valid = np.ones((N, N), bool) if mask is None else mask[j] if mask.ndim == 3 else mask
        made.append(Residual(int(j), np.where(valid, measured[k], 0), predicted[k], valid))
    return made
