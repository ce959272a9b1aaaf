"""What photon noise alone does to the misfit of a pixel: `ptycho.core.physics.poisson` in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from ptycho.core.physics.poisson import BRIGHT, DIM, SERIES, moment_table

__all__ = ["Moments"]


class Moments:
    """The moments of patterns, in double precision, from tables that stay on a device.

    Args:
        device: of the tables, and of what is asked about.
    """

    def __init__(self, device: torch.device) -> None:
        self._start, self._step, table = moment_table()
        nodes = torch.as_tensor(table, device=device)
        self._lines = torch.cat([nodes[:-1], nodes.diff(dim=0)], dim=1)
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
        return self._tabulated(photons) + self._bright(photons)

    def _tabulated(self, photons: Tensor) -> Tensor:
        """Sums over the pixels up to BRIGHT: the value at the node below, and the slope to the next one."""
        place = photons.clamp(DIM, BRIGHT).log_().sub_(self._start).div_(self._step)
        node = place.floor().clamp_(max=len(self._lines) - 1)
        lit = ((photons > DIM) & (photons <= BRIGHT)).to(photons.dtype)
        weights = torch.stack([lit, place.sub_(node).mul_(lit)], dim=1)
        lines = self._lines.index_select(0, node.flatten().long()).unflatten(0, photons.shape)
        sums = weights @ lines
        return sums[:, 0, :3] + sums[:, 1, 3:]

    def _bright(self, photons: Tensor) -> Tensor:
        """Sums over the pixels above BRIGHT."""
        bright = photons > BRIGHT
        u = torch.where(bright, 1 / photons, 0.0)
        square = u.square()
        sums = (bright.sum(dim=1, dtype=photons.dtype), u.sum(dim=1), square.sum(dim=1), square.mul_(u).sum(dim=1))
        return torch.stack(sums, dim=1) @ self._series.mT
