"""What a caller asks of one run beside data and configuration; made at the door, passed on as one argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import PyTorchExecutionConfig
from ptycho.core.geometry import ObjectFrame
from ptycho.core.progress import Watch
from ptycho.workflows.networks.stitch_scan import StitchedObject

__all__ = ["NEUTRAL_RUN", "Observer", "RunOptions"]

Patches = NDArray[np.complex64]


class Observer(Protocol):
    """Who is told of the patches of a run; `ptycho.workflows.diagnostics.Diagnostics` is one."""

    def trained(self, batches: Iterable[Patches]) -> None:
        """Patches (b, C, N, N) of training batches after the last epoch; no more of them are made than are taken."""

    def predicted(self, patches: Patches) -> None:
        """The patches (B, C, N, N) of a scan, which may be memory-mapped."""

    def stitched(
        self, patches: Patches, positions: NDArray[np.floating[Any]], found: StitchedObject, frame: ObjectFrame
    ) -> None:
        """What stitching worked with and what it made."""


@dataclass(frozen=True)
class RunOptions:
    """How one run is done; every default asks for nothing."""

    execution: PyTorchExecutionConfig | None = None
    """How PyTorch runs; None: its defaults. TensorFlow takes the number of processes alone."""
    learning_rate: float | None = None
    """For either backend; None is that of `execution`, or else the network's own."""
    resume: Path | None = None
    """A checkpoint to go on from."""
    max_seconds: float | None = None
    """Stop the training after this time."""
    diagnostics: Observer | None = None
    """Told of the patches, and of what stitching makes of them."""
    watch: Watch | None = None
    """Told how far training and refinement are; None: the log has a line now and then."""
    folder: Path | None = None
    """Of the run: the refinement shows there what it has found so far, and leaves it where it is cut off; None:
    nowhere."""
    callbacks: Sequence[Any] = ()
    """Of Lightning, besides those of this library."""
    labels: Mapping[str, str | int] = field(default_factory=dict)
    """Words and numbers of the user that are kept with the model."""
    refine_iterations: int = 0
    """At most so many iterations of refinement after the network; 0 is none."""
    refinement: Mapping[str, Any] | None = None
    """Further keywords of the backend's `refine`; without `noise` it stops where the photon noise of the scan is all
    that is left, so far as the dose is known."""
    uncertainty: bool = False
    """Measure how wrong a pass is, pixel by pixel (`ptycho.workflows.validation.pass_uncertainty`); refused with a
    refinement."""
    start_from: Path | None = None
    """Archive of a network of the same shape, whose weights a training begins with; None: with weights of its seed."""
    own_process: bool = False
    """The process is that of a command, and nothing was computed in it yet."""


NEUTRAL_RUN = RunOptions()
"""A run of which nothing is asked."""
