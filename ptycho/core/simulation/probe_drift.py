"""A probe whose focus drifts in the course of a scan, as few modes of variation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.diffraction import far_field, propagate_back
from ptycho.core.physics.probes import probe_diameter
from ptycho.core.physics.variable_probe import ProbeVariation

__all__ = ["defocused", "drifting"]

Array = NDArray[Any]

NODES = 33
"""Moments that the modes are made of."""
LEAST = 1e-8
"""Share of the energy of a mode that is kept."""
_BLOCK = 64


def defocused(probe: Array, waves: Array) -> Array:
    """A probe `(N, N)` with other foci `(n, N, N)`.

    Its far field gets the phase `2 pi w (k / k_edge)^2`, k_edge half the diameter of its 90 %.

    Args:
        probe: (N, N).
        waves: (n,) of defocus at the edge.
    """
    pupil = far_field(probe)
    k = np.arange(len(pupil)) - len(pupil) // 2
    square = np.add.outer(k**2, k**2) / (probe_diameter(pupil) / 2) ** 2
    return propagate_back(pupil * np.exp(2j * np.pi * np.multiply.outer(waves, square)))


def drifting(probe: Array, count: int, waves: float) -> tuple[Array, ProbeVariation]:
    """A probe whose focus drifts evenly: the mean one `(M, N, N)`, and how the first mode varies about it.

    Args:
        probe: (M, N, N), the first mode as it is in the middle of the scan.
        count: patterns n.
        waves: of defocus at the edge of its far field, between the first pattern and the last.
    """
    energy = np.linalg.norm(probe[0])
    nodes = defocused(probe[0], np.linspace(-waves / 2, waves / 2, NODES)).reshape(NODES, -1)
    _, strength, basis = np.linalg.svd(nodes, full_matrices=False)
    basis = basis[strength**2 > LEAST * (strength**2).sum()]
    drift = np.linspace(-waves / 2, waves / 2, count)
    held = np.concatenate(
        [
            defocused(probe[0], drift[i : i + _BLOCK]).reshape(-1, basis.shape[1]) @ basis.conj().T
            for i in range(0, count, _BLOCK)
        ]
    )
    modes = energy * basis.reshape(-1, *probe.shape[1:])
    mean = np.concatenate([modes[:1], probe[1:]])
    return mean, ProbeVariation(modes[1:], held[:, 1:] / held[:, :1])
