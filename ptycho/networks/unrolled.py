"""The `unrolled` network as data: stages, corrections and canonical parameter names; both backends build from it.

`unrolled` is a short iteration with learned corrections, on the canvas of a group of any number of members. The canvas
starts flat, `O = 1`. Where a group has several members, whose overlaps hold the slow phase, `DESCENT` steps of plain
descent with a large momentum come first, through which nothing is learned; one pattern alone would only fit itself.
Then each of `STAGES` stages takes the exact gradient of the amplitude likelihood (`ptycho.core.physics.group_gradient`)
and lets a small U-Net add what a gradient cannot know:

    V <- momentum V + step gradient + correction(O, gradient, V, illumination),    O <- O + V

The U-Net works at half resolution (four pixels become four channels) on the part of the canvas where the probe has
its light. The physics is in the gradient, so the weights know nothing of N, of the probe's shape or of the members;
a pass over a scan has one canvas for all of them, with a descent of its own (`ptycho.workflows.networks.canvas_pass`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ptycho.config.config import ModelConfig
from ptycho.config.options import NEUTRAL, NetworkOptions
from ptycho.networks.parts import FILTERS_PER_SCALE, Block, Head
from ptycho.networks.spec import NetworkSpec, group_members

__all__ = ["Correction", "UnrolledSpec", "unrolled_spec"]

STAGES = 4
"""Gradient steps, each with its correction, of the `unrolled` network."""
CANVAS_CHANNELS = 7
"""What a correction sees: real and imaginary part of object, gradient and momentum, and the illumination."""
DESCENT = 32
"""Plain steps before the first stage, in groups of more than one member."""
DESCENT_STEP, DESCENT_MOMENTUM = 0.7, 0.9
"""Of the plain steps, in units of the preconditioned gradient."""
FIRST_MOMENTUM = 0.7
"""Momentum of every stage before training; the step is that of the preconditioned gradient, 1."""
UNSHUFFLE = 2
"""A correction sees blocks of so many by so many pixels as channels of one."""


@dataclass(frozen=True)
class Correction:
    """The U-Net of one stage: down three levels, up again, and a head that starts at 0."""

    down: tuple[Block, ...]
    up: tuple[Block, ...]
    head: Head

    def parameters(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield canonical names and shapes."""
        parts: tuple[Block | Head, ...] = (*self.down, *self.up, self.head)
        for part in parts:
            yield from part.parameters()


@dataclass(frozen=True)
class UnrolledSpec(NetworkSpec):
    """Everything a backend needs to build the `unrolled` network."""

    name = "unrolled"

    corrections: tuple[Correction, ...]
    descent: int
    """Plain steps before the first stage."""
    first_momentum: float

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of every trained array; `step` and `momentum` have one number per stage."""
        stages = len(self.corrections)
        names = {"step": (stages,), "momentum": (stages,)}
        return names | {name: shape for part in self.corrections for name, shape in part.parameters()}


def unrolled_spec(config: ModelConfig, options: NetworkOptions = NEUTRAL) -> UnrolledSpec:
    """Describe the `unrolled` network of a configuration.

    Raises:
        ConfigError: N is not one of 64, 128, 256.
    """
    width = FILTERS_PER_SCALE * config.n_filters_scale
    inputs, outputs = CANVAS_CHANNELS * UNSHUFFLE**2, 2 * UNSHUFFLE**2

    def correction(stage: int) -> Correction:
        name = f"stages/{stage}"
        return Correction(
            down=(
                Block(f"{name}/down/0", inputs, width),
                Block(f"{name}/down/1", width, 2 * width),
                Block(f"{name}/down/2", 2 * width, 2 * width),
            ),
            up=(Block(f"{name}/up/1", 4 * width, 2 * width), Block(f"{name}/up/0", 3 * width, width)),
            head=Head(f"{name}/head", width, outputs, (0.0,) * outputs),
        )

    members = group_members(config)
    return UnrolledSpec(
        N=config.N,
        members=members,
        corrections=tuple(correction(stage) for stage in range(STAGES)),
        descent=DESCENT if members > 1 and config.object_big else 0,
        first_momentum=FIRST_MOMENTUM,
    )
