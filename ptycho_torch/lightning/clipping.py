"""Adaptive gradient clipping (`ptycho.core.training.clipping`) of the network's parameters, in place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ptycho.core.training.clipping import WEIGHT_FLOOR, Unit, clip_unit
from ptycho_torch.layers import canonical_name

__all__ = ["adaptive_clip", "clip_adaptively"]


def adaptive_clip(gradient: Tensor, weights: Tensor, ratio: float, unit: Unit) -> Tensor:
    """`G min(1, ratio max(|W|, floor) / |G|)`, as the oracle; here the output channel is the first axis."""
    axes = tuple(range(1, gradient.ndim)) if unit == "output" else tuple(range(gradient.ndim))
    limit = ratio * _norm(weights, axes).clamp_min(WEIGHT_FLOOR)
    norm = _norm(gradient, axes)
    return gradient * torch.where(norm > limit, limit / torch.where(norm > 0, norm, 1.0), 1.0)


def _norm(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    return values.square().sum(dim=axes, keepdim=True).sqrt()


def clip_adaptively(network: nn.Module, ratio: float) -> None:
    """Clip the gradients of a network, all but those of its heads. The probe and the scale are no part of it."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            unit = clip_unit(canonical_name(name), parameter.ndim)
            if unit is not None and parameter.grad is not None:
                parameter.grad.copy_(adaptive_clip(parameter.grad, parameter, ratio, unit))
