"""The settings of a reconstruction without, or with, a network: the backend and its iteration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ptycho.config.options import IterationOptions
from ptycho.config.schema import Doc

__all__ = ["ReconstructionConfig"]


@dataclass
class ReconstructionConfig:
    """Reconstruction."""

    backend: Annotated[
        Literal["pytorch", "tensorflow"] | None,
        Doc("what computes (none: what is installed, PyTorch first)", basic=True),
    ] = None
    iteration: IterationOptions = field(default_factory=IterationOptions)
