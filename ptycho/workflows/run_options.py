"""What a caller asks of one run beside data and configuration; made at the door, passed on as one argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ptycho.config.config import PyTorchExecutionConfig
from ptycho.core.groups.options import NEUTRAL_GROUPS, GroupOptions
from ptycho.core.stitching.options import NEUTRAL_STITCHING, StitchOptions
from ptycho.core.training.objective_options import ObjectiveOptions
from ptycho.core.training.scales import NEUTRAL_SCALES, ScaleOptions
from ptycho.networks.options import NEUTRAL, NetworkOptions

if TYPE_CHECKING:
    from ptycho.workflows.diagnostics import Diagnostics

__all__ = ["NEUTRAL_RUN", "RunOptions", "Sections"]

_NEUTRAL_OBJECTIVE = ObjectiveOptions()


class Sections(Protocol):
    """Options beyond the shared configuration, as `ptycho_torch.config_options.TorchOptions` has them."""

    @property
    def groups(self) -> GroupOptions:
        """How groups are drawn."""

    @property
    def scales(self) -> ScaleOptions:
        """How scales are measured."""

    @property
    def network(self) -> NetworkOptions:
        """What else may be chosen of a network."""

    @property
    def objective(self) -> ObjectiveOptions:
        """Further terms of the loss."""

    @property
    def stages(self) -> Any:
        """Stages of the training (`ptycho_torch.lightning.staging.StageOptions`); PyTorch alone has them."""

    @property
    def stitching(self) -> StitchOptions:
        """Weights of the patches, and what of the canvas is shown."""


@dataclass(frozen=True)
class RunOptions:
    """How one run is done; every default asks for nothing."""

    execution: PyTorchExecutionConfig | None = None
    """How PyTorch runs; None: its defaults. Refused by TensorFlow."""
    learning_rate: float | None = None
    """For either backend; None is that of `execution`, or else the network's own."""
    resume: Path | None = None
    """A checkpoint to go on from."""
    max_seconds: float | None = None
    """Stop the training after this time."""
    diagnostics: Diagnostics | None = None
    """Told of the patches, and of what stitching makes of them."""
    callbacks: Sequence[Any] = ()
    """Of Lightning, besides those of this library."""
    labels: Mapping[str, str | int] = field(default_factory=dict)
    """Words and numbers of the user that are kept with the model."""
    refine_iterations: int = 0
    """At most so many iterations of refinement after the network; 0 is none."""
    refinement: Mapping[str, Any] | None = None
    """Further keywords of the backend's `refine`; without `noise` it stops where the photon noise of the scan is all
    that is left, so far as the dose is known."""
    options: Sections | None = None
    """Options beyond the shared configuration; None: none of them."""

    @property
    def groups(self) -> GroupOptions:
        """How groups are drawn."""
        return NEUTRAL_GROUPS if self.options is None else self.options.groups

    @property
    def scales(self) -> ScaleOptions:
        """How scales are measured."""
        return NEUTRAL_SCALES if self.options is None else self.options.scales

    @property
    def network(self) -> NetworkOptions:
        """What else may be chosen of a network."""
        return NEUTRAL if self.options is None else self.options.network

    @property
    def objective(self) -> ObjectiveOptions:
        """Further terms of the loss."""
        return _NEUTRAL_OBJECTIVE if self.options is None else self.options.objective

    @property
    def stitching(self) -> StitchOptions:
        """Weights of the patches, and what of the canvas is shown."""
        return NEUTRAL_STITCHING if self.options is None else self.options.stitching


NEUTRAL_RUN = RunOptions()
"""A run of which nothing is asked."""
