"""The `unrolled` network: gradient steps on a group's canvas, each followed by a learned correction.

The steps are `ptycho_torch.group_gradient`, the U-Nets between come from the spec of `ptycho.networks.unrolled`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ptycho.networks.spec import ScanStages
from ptycho.networks.unrolled import DESCENT_MOMENTUM, DESCENT_STEP, UNSHUFFLE, Block, Correction, UnrolledSpec
from ptycho_torch.group_gradient import SeenGroup
from ptycho_torch.layers import ConvBlock, linear_head
from ptycho_torch.network import CanvasNetwork
from ptycho_torch.precision import full_float32, no_autocast

__all__ = ["CorrectionUNet", "UnrolledNetwork"]


class CorrectionUNet(nn.Module):
    """What a gradient cannot know: `(B, 7, h, w)` of the canvas -> `(B, 2, h, w)`, as parts; sides by 8."""

    def __init__(self, spec: Correction) -> None:
        super().__init__()
        self.down = _blocks(spec.down)
        self.up = _blocks(spec.up)
        self.head = linear_head(spec.head)

    def forward(self, pictures: Tensor) -> Tensor:
        """At half resolution: blocks of pixels as channels, three levels down and up, and blocks as pixels again."""
        x = F.pixel_unshuffle(pictures, UNSHUFFLE).contiguous(memory_format=torch.channels_last)
        levels = []
        for depth, block in enumerate(self.down.values()):
            x = block(F.avg_pool2d(x, 2) if depth else x)
            levels.append(x)
        for block, skip in zip(self.up.values(), reversed(levels[:-1]), strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skip], dim=1))
        return F.pixel_shuffle(self.head(x), UNSHUFFLE)


def _blocks(specs: Sequence[Block]) -> nn.ModuleDict:
    """Convolution blocks by the last part of their names."""
    return nn.ModuleDict({spec.name.split("/")[-1]: ConvBlock(spec) for spec in specs})


class UnrolledNetwork(CanvasNetwork):
    """Amplitudes of a group's members -> its canvas O_net; parameters named as in the spec (`canonical_name`)."""

    spec: UnrolledSpec

    def __init__(self, spec: UnrolledSpec) -> None:
        super().__init__(spec)
        count = len(spec.corrections)
        self.step = nn.Parameter(torch.ones(count))
        self.momentum = nn.Parameter(torch.full((count,), spec.first_momentum))
        self.stages = nn.ModuleList([CorrectionUNet(correction) for correction in spec.corrections])

    def forward(
        self,
        amplitudes: Tensor,
        probes: Tensor,
        whole: Tensor,
        size: int,
        margin: int,
        mask: Tensor | None = None,
        sigma_px: float = 0.0,
        flux: Tensor | None = None,
        blur: Tensor | None = None,
    ) -> Tensor:
        """The canvas, complex `(B, size, size)`; arguments as in `CanvasNetwork`."""
        canvas = torch.ones((len(amplitudes), size, size), dtype=probes.dtype, device=probes.device)
        velocity = torch.zeros_like(canvas)
        with no_autocast(canvas):
            group = SeenGroup(amplitudes, probes, whole, size, mask, sigma_px, flux, blur)
            with torch.no_grad():  # plain steps have nothing to learn, and their gradients would fill the memory
                for _ in range(self.spec.descent):
                    velocity = DESCENT_MOMENTUM * velocity + DESCENT_STEP * group.step(canvas)
                    canvas = canvas + velocity
        return self.corrected(group, canvas, velocity, margin)

    def corrected(self, group: SeenGroup, canvas: Tensor, velocity: Tensor, margin: int) -> Tensor:
        """A canvas, complex `(B, size, size)`, after the stages, which begin with a velocity of its shape."""
        # no light reaches the margin: corrections there would have nothing to learn from
        inner = slice(margin, canvas.shape[-1] - margin)
        for step, momentum, correction in zip(self.step, self.momentum, self.stages, strict=True):
            with no_autocast(canvas):
                gradient = group.step(canvas)
                velocity = momentum * velocity + step * gradient
                # less the vacuum, which is then 0, as is the padding of the convolutions
                fields = (canvas - 1, gradient, velocity)
                seen = [part for field in fields for part in (field.real, field.imag)] + [group.light]
            change = correction(torch.stack(seen, dim=1)[:, :, inner, inner])
            # under mixed precision it comes in half precision, which complex numbers do not have
            change = F.pad(change.to(group.light.dtype), (margin,) * 4)
            velocity = velocity + torch.complex(change[:, 0], change[:, 1])
            canvas = canvas + velocity
        return canvas

    def scan_stages(self) -> ScanStages | None:
        """See `Network`; None without the plain descent, which a pass over a scan begins with."""
        if not self.spec.descent:
            return None
        return ScanStages(tuple(self.step.tolist()), tuple(self.momentum.tolist()), self._corrected)

    def _corrected(self, stage: int, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """What a stage adds `(2, h, w)` to the canvas that it sees `(7, h, w)`."""
        with torch.inference_mode(), full_float32():
            change = self.stages[stage](torch.as_tensor(pictures, device=self.step.device)[None])
            return np.asarray(change[0].float().cpu().numpy())
