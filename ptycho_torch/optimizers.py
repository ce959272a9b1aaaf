"""The optimiser that a configuration asks for; Lightning clips gradients, adaptively by `lightning.clipping`."""

from __future__ import annotations

from typing import Any

import torch

from ptycho.config.config import TrainingConfig

__all__ = ["optimizer_of"]

EPSILON = 1e-8


def optimizer_of(config: TrainingConfig, variables: list[Any], rate: float) -> torch.optim.Optimizer:
    """`adam`, `adamw` or `sgd` of a configuration for parameters, or groups of them, with a learning rate."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(variables, rate, momentum=config.momentum, weight_decay=config.weight_decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    betas = (config.adam_beta1, config.adam_beta2)
    return kind(variables, rate, betas=betas, eps=EPSILON, weight_decay=config.weight_decay)
