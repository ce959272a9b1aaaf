"""The losses by name: what the configuration can choose, both objectives sum up and the parity tests compare.

The function of a loss has one name in `ptycho.core.physics.losses`, `ptycho.tf.losses` and `ptycho_torch.losses`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["DETECTOR_LOSSES", "REGULARISERS", "DetectorLoss", "detector_weights"]


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
