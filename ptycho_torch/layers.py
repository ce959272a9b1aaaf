"""What networks are built of: convolution blocks, decoders and heads, from the specs of `ptycho.architecture`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptycho.architecture import KERNEL, SWISH_MINIMUM, Block, CnnSpec, Head

__all__ = [
    "CnnNetwork",
    "ConvBlock",
    "Decoder",
    "amplitude_activation",
    "canonical_name",
    "central_half",
    "linear_head",
]


def amplitude_activation(values: Tensor, name: str) -> Tensor:
    """The non-negative function of the amplitude head: sigmoid, swish (raised by its minimum), softplus or relu."""
    if name == "sigmoid":
        return torch.sigmoid(values)
    if name == "swish":
        return F.silu(values) + SWISH_MINIMUM
    return F.softplus(values) if name == "softplus" else F.relu(values)


def central_half(images: Tensor) -> Tensor:
    """The central half of each image axis: `(..., n, n)` -> `(..., n/2, n/2)`."""
    margin = images.shape[-1] // 4
    return images[..., margin : images.shape[-2] - margin, margin : images.shape[-1] - margin]


class ConvBlock(nn.Module):
    """Two 3x3 convolutions, each followed by SiLU; kernels start He-normal, biases at 0."""

    def __init__(self, spec: Block) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(spec.in_channels, spec.out_channels, KERNEL, padding="same")
        self.conv2 = nn.Conv2d(spec.out_channels, spec.out_channels, KERNEL, padding="same")
        for conv in (self.conv1, self.conv2):
            nn.init.normal_(conv.weight, std=math.sqrt(2 / (KERNEL**2 * conv.in_channels)))
            nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in, n, n)` -> `(B, out, n, n)`."""
        return F.silu(self.conv2(F.silu(self.conv1(x))))


def linear_head(spec: Head) -> nn.Conv2d:
    """A 3x3 convolution whose first output is the constant `spec.bias`."""
    conv = nn.Conv2d(spec.in_channels, spec.out_channels, KERNEL, padding="same")
    nn.init.zeros_(conv.weight)
    conv.bias.data = torch.tensor(spec.bias)
    return conv


class Decoder(nn.Module):
    """Doubling, joining with the encoder's level, convolving; from the deepest level to the first."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict({block.name.split("/")[-1]: ConvBlock(block) for block in blocks})

    def forward(self, deepest: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """`deepest (B, w, m, m)` and the encoder's levels, finest first -> features of the finest level."""
        x = deepest
        for block, skip in zip(self.blocks.values(), reversed(skips), strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skip], dim=1))
        return x


class CnnNetwork(nn.Module):
    """The `cnn` network: pictures of the members `(B, 2C, N, N)` (all real parts, then all imaginary parts) -> O_net.

    Parameter names map to the canonical ones of the spec by `canonical_name`.
    """

    def __init__(self, spec: CnnSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = nn.ModuleDict({block.name.split("/")[-1]: ConvBlock(block) for block in spec.encoder})
        self.amplitude = Decoder(spec.amplitude_decoder)
        self.phase = Decoder(spec.phase_decoder)
        self.amplitude_head = linear_head(spec.amplitude_head)
        self.phase_head = linear_head(spec.phase_head)
        self.border_head = None if spec.border_head is None else linear_head(spec.border_head)

    def forward(self, pictures: Tensor) -> Tensor:
        """Object patches O_net, complex `(B, C, N, N)`."""
        x = pictures.contiguous(memory_format=torch.channels_last)
        levels = []
        for depth, block in enumerate(self.encoder.values()):
            x = block(F.avg_pool2d(x, 2) if depth else x)
            levels.append(x)
        inner = [central_half(level) for level in levels] if self.spec.central else levels
        amplitude = self.amplitude_head(self.amplitude(inner[-1], inner[:-1]))
        phase = self.phase_head(self.phase(inner[-1], inner[:-1]))
        if self.spec.central:
            amplitude, phase = self._with_border(amplitude, phase, levels[1])
        # under mixed precision the heads come in half precision, which complex numbers do not have
        amplitude, phase = amplitude.to(pictures.dtype), phase.to(pictures.dtype)
        span = self.spec.amp_range
        return torch.polar(
            span * amplitude_activation(amplitude, self.spec.amp_activation), math.pi * torch.tanh(phase)
        )

    def _with_border(self, amplitude: Tensor, phase: Tensor, second_level: Tensor) -> tuple[Tensor, Tensor]:
        """Put the central half into the whole patch; the border comes from its own branch, or is vacuum."""
        if self.border_head is None:
            border_amplitude = amplitude.new_tensor(self.spec.amplitude_head.bias[0])
            border_phase = phase.new_tensor(0.0)
        else:
            border = F.interpolate(self.border_head(second_level), scale_factor=2.0, mode="nearest")
            border_amplitude, border_phase = border.chunk(2, dim=1)
        margin = (self.spec.N // 4,) * 4
        inside = F.pad(torch.ones_like(amplitude[:1, :1], dtype=torch.bool), margin)
        return (
            torch.where(inside, F.pad(amplitude, margin), border_amplitude),
            torch.where(inside, F.pad(phase, margin), border_phase),
        )


def canonical_name(torch_name: str) -> str:
    """Name of a parameter in archives: `amplitude.blocks.0.conv1.weight` -> `amplitude/0/conv1/kernel`."""
    name = torch_name.replace("_head.", ".head.").replace(".blocks.", ".").replace(".", "/")
    return name.removesuffix("weight") + "kernel" if name.endswith("/weight") else name
