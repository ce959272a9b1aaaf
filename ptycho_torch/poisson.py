"""What photon noise alone does to the misfit of a pixel: `ptycho.core.physics.poisson` in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from ptycho.core.physics.poisson import SERIES, moment_table

__all__ = ["Moments"]


class Moments:
    """The moments of patterns, in double precision, from tables that stay on a device.

    Args:
        device: of the tables, and of what is asked about.
    """

    def __init__(self, device: torch.device) -> None:
        self._start, self._step, table = moment_table()
        nodes = torch.as_tensor(table, device=device)
        nothing = torch.zeros_like(nodes[:1])
        values, slopes = (torch.cat([nothing, each, nothing]) for each in (nodes[:-1], nodes.diff(dim=0)))
        self._values, self._slopes = (each.mT.contiguous() for each in (values, slopes))
        self._series = torch.tensor(SERIES, dtype=torch.float64, device=device)

    def __call__(self, expected: Tensor, valid: Tensor | None = None) -> Tensor:
        """Mean deviance, variance of the deviance and mean squared misfit of amplitudes, summed over each pattern.

        Args:
            expected: (n, N, N) float64 photons L >= 0.
            valid: (N, N) or (n, N, N), 1 where a pixel counts, else 0; None: all count.

        Returns:
            (n, 3).
        """
        photons = (expected if valid is None else expected * valid).flatten(1)
        last = self._values.shape[1] - 1
        place = photons.log().sub_(self._start - self._step).div_(self._step).clamp_(0, last)
        return self._series_of(photons, place == last) + self._tabulated(place)

    def _tabulated(self, place: Tensor) -> Tensor:
        """Sums over the pixels up to BRIGHT: the value at the node below, and the slope to the next; 0 of others."""
        node, shape = place.long(), place.shape
        share, node = place.sub_(node), node.flatten()
        sums = [
            value.index_select(0, node).view(shape).sum(dim=1)
            + torch.linalg.vecdot(slope.index_select(0, node).view(shape), share)
            for value, slope in zip(self._values, self._slopes, strict=True)
        ]
        return torch.stack(sums, dim=1)

    def _series_of(self, photons: Tensor, bright: Tensor) -> Tensor:
        """Sums over the pixels above BRIGHT."""
        u = torch.where(bright, 1 / photons, 0.0)
        square = u.square()
        sums = (bright.sum(dim=1, dtype=photons.dtype), u.sum(dim=1), square.sum(dim=1), square.mul_(u).sum(dim=1))
        return torch.stack(sums, dim=1) @ self._series.mT
