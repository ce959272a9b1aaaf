"""The losses of the patches that a configuration asks for, with their weights; both objectives sum them up."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ptycho.config.config import TrainingConfig
from ptycho.config.losses import REGULARISERS
from ptycho.config.options import ObjectiveOptions

__all__ = ["PatchLoss", "patch_losses"]


class PatchLoss(NamedTuple):
    """A loss of the patches, times a weight."""

    weight: float
    function: str
    part: Literal["object", "modulus", "phasors", "truth"]
    """What of the patches it sees: the complex object, `|O|`, `O / |O|`, or the object beside the true one."""


def patch_losses(config: TrainingConfig, options: ObjectiveOptions) -> list[PatchLoss]:
    """The losses of the patches that are asked for."""
    losses = []
    if config.realspace_weight:
        losses.append(PatchLoss(config.realspace_weight, "total_variation", "object"))
    if config.model.model_type == "supervised" or config.realspace_mae_weight:
        losses.append(PatchLoss(config.realspace_mae_weight or 1.0, "realspace_mae", "truth"))
    if options.amp_loss:
        losses.append(PatchLoss(options.amp_loss_coeff, REGULARISERS[options.amp_loss], "modulus"))
    if options.phase_loss:
        losses.append(PatchLoss(options.phase_loss_coeff, REGULARISERS[options.phase_loss], "phasors"))
    if options.amplitude_variance_loss:
        losses.append(PatchLoss(options.amplitude_variance_coeff, "amplitude_flatness", "object"))
    return losses
