"""The losses by name: what the configuration can choose, both objectives sum up and the parity tests compare.

The function of a loss has one name in `ptycho.core.physics.losses`, `ptycho.tf.losses` and `ptycho_torch.losses`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from ptycho.config.config import TrainingConfig
    from ptycho.config.options import ObjectiveOptions

__all__ = ["DETECTOR_LOSSES", "REGULARISERS", "DetectorLoss", "PatchLoss", "detector_weights", "patch_losses"]


@dataclass(frozen=True)
class DetectorLoss:
    """A loss of expected and measured counts, `function(expected, counts, mean_count, mask)`."""

    title: str
    """As `loss_function` of the PyTorch configuration has it."""
    function: str
    summary: str
    """A few words for the help of the command line."""
    weight: str | None = None
    """The field of TrainingConfig that weighs it among the others; None: it stands alone, where its mode is chosen."""

    @property
    def mode(self) -> str:
        """The `torch_loss_mode` that names it."""
        return self.title.lower()


DETECTOR_LOSSES = (
    DetectorLoss("Poisson", "poisson_loss", "the Poisson likelihood", weight="nll_weight"),
    DetectorLoss("MAE", "mae_loss", "the mean absolute error", weight="mae_weight"),
)
"""The mode of the first one is that in which all count by their weights."""

ROBUST = "mae_loss"
"""The loss that a staged training begins with."""

REGULARISERS = {
    "Total_Variation": "total_variation",
    "Mean_Deviation": "mean_deviation",
}
"""The functions that `amp_loss` and `phase_loss` choose from, `function(patches)`."""


def detector_weights(weights: Mapping[str, float], mode: str, physics_weight: float = 1.0) -> dict[str, float]:
    """Weights of the detector losses by their functions.

    Args:
        weights: of TrainingConfig, by field.
        mode: that of the first loss takes all by their weights; any other leaves its own loss alone, with its weight
            or else 1.
        physics_weight: w below 1 mixes these losses with the robust one, `w (the losses) + (1 - w) mae`.
    """
    found = {}
    for loss in DETECTOR_LOSSES:
        own = weights[loss.weight] if loss.weight else 0.0
        alone = (own or 1.0) if loss.mode == mode else 0.0
        found[loss.function] = physics_weight * (own if mode == DETECTOR_LOSSES[0].mode else alone)
    found[ROBUST] += 1.0 - physics_weight
    return found


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
