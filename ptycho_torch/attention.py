"""Attention: features times numbers in (0, 2) that start at 1; formulas and sources in `ptycho.networks.parts`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptycho.networks.parts import ChannelGate, EfficientGate, Gate, SpatialGate

__all__ = ["ChannelAttention", "EfficientChannelAttention", "SpatialAttention", "attention"]


class EfficientChannelAttention(nn.Module):
    """A short kernel along the channels of the mean over the pixels (ECA)."""

    def __init__(self, spec: EfficientGate) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(spec.kernel))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, n, n)` -> the same."""
        means = x.mean(dim=(2, 3))[:, None]
        score = F.conv1d(means, self.kernel[None, None], padding=len(self.kernel) // 2)[:, 0]
        return x * (2 * torch.sigmoid(score))[:, :, None, None]


class ChannelAttention(nn.Module):
    """One hidden layer on the mean and on the maximum over the pixels (the channel half of CBAM)."""

    def __init__(self, spec: ChannelGate) -> None:
        super().__init__()
        self.inner = nn.Parameter(torch.randn(spec.channels, spec.hidden) * math.sqrt(2 / spec.channels))
        self.outer = nn.Parameter(torch.zeros(spec.hidden, spec.channels))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, n, n)` -> the same."""
        score = self._score(x.mean(dim=(2, 3))) + self._score(x.amax(dim=(2, 3)))
        return x * (2 * torch.sigmoid(score))[:, :, None, None]

    def _score(self, channels: Tensor) -> Tensor:
        return F.relu(channels @ self.inner) @ self.outer


class SpatialAttention(nn.Module):
    """A convolution of the mean and the maximum over the channels (the spatial half of CBAM, or alone)."""

    def __init__(self, spec: SpatialGate) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(1, 2, spec.kernel, spec.kernel))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, n, n)` -> the same."""
        seen = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * (2 * torch.sigmoid(F.conv2d(seen, self.kernel, padding="same")))


def attention(spec: Gate) -> nn.Module:
    """The layer of a gate."""
    if isinstance(spec, EfficientGate):
        return EfficientChannelAttention(spec)
    return ChannelAttention(spec) if isinstance(spec, ChannelGate) else SpatialAttention(spec)
