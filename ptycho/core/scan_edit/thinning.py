"""Photons shared out: counts split into parts that are independent counts themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.errors import ConfigError

__all__ = ["PhotonShares"]

_SUM = 1e-9


class PhotonShares:
    """Shares photons out, block by block, at random: every photon goes to one part.

    Parts of Poisson counts of the mean L are independent Poisson counts of the means `p_k L`, p_k the shares. What is
    not whole (photons by a dose that is only stated, sums of several detectors) is rounded up as often as its fraction
    says: its mean is kept, and its variance grows by a quarter of a count at most.

    Source: J. F. C. Kingman, Poisson Processes (1993), section 5.1, the colouring theorem.

    Args:
        shares: p_k, above 0, of the sum 1.
        seed: of the draw; blocks of any size in the same order get the same photons.

    Raises:
        ConfigError: other shares.

    >>> first, second = PhotonShares((0.5, 0.5)).split(np.array([[0, 1, 100]]))
    >>> (first + second).tolist()
    [[0, 1, 100]]
    """

    def __init__(self, shares: Sequence[float] = (0.5, 0.5), seed: int = 0) -> None:
        self.shares = tuple(float(share) for share in shares)
        if len(self.shares) < 2 or min(self.shares) <= 0 or abs(sum(self.shares) - 1) > _SUM:
            raise ConfigError(f"shares: expected two or more numbers above 0 of the sum 1, found {self.shares}")
        rounding, *drawing = np.random.SeedSequence(seed).spawn(len(self.shares))
        self._rounding = np.random.default_rng(rounding)
        self._drawing = [np.random.default_rng(each) for each in drawing]

    def split(self, photons: NDArray[Any]) -> list[NDArray[np.int64]]:
        """The parts of a block, each of its shape, which add up to it.

        Args:
            photons: not negative, of any shape, finite.
        """
        values = np.asarray(photons, np.float64)
        left = np.floor(values).astype(np.int64)
        left += self._rounding.random(values.shape) < values - left
        parts, share_left = [], 1.0
        for share, draw in zip(self.shares, self._drawing, strict=False):
            parts.append(draw.binomial(left, min(share / share_left, 1.0)))
            left, share_left = left - parts[-1], share_left - share
        return [*parts, left]
