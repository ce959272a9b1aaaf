"""What a network is trained on, beside the weights of the training configuration: options of both backends."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ptycho.config.losses import REGULARISERS
from ptycho.core.option_checks import require

__all__ = ["ObjectiveOptions"]


@dataclass(frozen=True)
class ObjectiveOptions:
    """Terms of the loss that are off unless somebody asks for them; the formulas are in `ptycho.core.physics.losses`.

    All of them act on the object relative to its nominal scale `a / k`, so that a coefficient means the same for
    every scan.

    Raises:
        ConfigError: a name or a coefficient that is not allowed.
    """

    phase_subtraction: bool = True
    """Compare with known objects after one phase per group is taken out; False: their absolute phase is learned."""
    amp_loss: str | None = None
    """Regulariser, one of `ptycho.config.losses.REGULARISERS`, of the amplitude `|O|` of the patches."""
    phase_loss: str | None = None
    """Regulariser of their phase, as the phasor `O / |O|`, so that wraps do not count."""
    amp_loss_coeff: float = 1.0
    phase_loss_coeff: float = 1.0
    probe_reference_coeff: float = 0.0
    """Weight of `probe_distance`, of the trainable probe from the one that training began with."""
    amplitude_variance_loss: bool = False
    """Whether to keep the amplitude from going flat, by `amplitude_flatness`."""
    amplitude_variance_coeff: float = 0.01
    """Weight of `amplitude_flatness`."""

    def __post_init__(self) -> None:
        for name in ("amp_loss", "phase_loss"):
            value = getattr(self, name)
            expected = f"one of {', '.join(REGULARISERS)}, or None"
            require(value is None or value in REGULARISERS, name, value, expected)
        for name in ("amp_loss_coeff", "phase_loss_coeff", "probe_reference_coeff", "amplitude_variance_coeff"):
            value = getattr(self, name)
            require(0 <= value < math.inf, name, value, "a finite number at least 0")
