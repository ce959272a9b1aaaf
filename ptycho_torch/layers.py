"""What networks are built of: convolution blocks, decoders, heads, by the specs of `ptycho.networks`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptycho.errors import DataError
from ptycho.networks.cnn import CnnSpec
from ptycho.networks.parts import KERNEL, NORM_FLOOR, NORM_MOMENTUM, SWISH_MINIMUM, Block, Head
from ptycho_torch.attention import attention
from ptycho_torch.network import PatchNetwork
from ptycho_torch.precision import no_autocast
from ptycho_torch.reassembly import cut

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
    """Two 3x3 convolutions, each normalised if the spec says so and followed by SiLU; then the spec's attention.

    Kernels start He-normal, biases at 0.
    """

    def __init__(self, spec: Block) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(spec.in_channels, spec.out_channels, KERNEL, padding="same")
        self.conv2 = nn.Conv2d(spec.out_channels, spec.out_channels, KERNEL, padding="same")
        for conv in (self.conv1, self.conv2):
            nn.init.normal_(conv.weight, std=math.sqrt(2 / (KERNEL**2 * conv.in_channels)))
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        self.norm1, self.norm2 = (_normalisation(spec) for _ in range(2))
        self.gates = nn.ModuleDict({gate.name.split("/")[-1]: attention(gate) for gate in spec.gates})

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in, n, n)` -> `(B, out, n, n)`."""
        x = F.silu(self.norm2(self.conv2(F.silu(self.norm1(self.conv1(x))))))
        for gate in self.gates.values():
            x = gate(x)
        return x


def _normalisation(spec: Block) -> nn.Module:
    """What follows a convolution of a block; the running statistics are buffers."""
    if not spec.normalised:
        return nn.Identity()
    return nn.BatchNorm2d(spec.out_channels, eps=NORM_FLOOR, momentum=NORM_MOMENTUM)


def linear_head(spec: Head) -> nn.Conv2d:
    """A 3x3 convolution whose first output is the constant `spec.bias`."""
    conv = nn.Conv2d(spec.in_channels, spec.out_channels, KERNEL, padding="same")
    nn.init.zeros_(conv.weight)
    conv.bias = nn.Parameter(torch.tensor(spec.bias))
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


class CnnNetwork(PatchNetwork):
    """The `cnn` network: pictures of the members `(B, 2C, N, N)`, real parts, then imaginary parts -> O_net."""

    spec: CnnSpec

    def __init__(self, spec: CnnSpec) -> None:
        super().__init__(spec)
        self.encoder = nn.ModuleDict({block.name.split("/")[-1]: ConvBlock(block) for block in spec.encoder})
        self.amplitude = Decoder(spec.amplitude_decoder)
        self.phase = None if spec.phase_decoder is None else Decoder(spec.phase_decoder)
        self.amplitude_head = linear_head(spec.amplitude_head)
        self.phase_head = linear_head(spec.phase_head)
        self.border_head = None if spec.border_head is None else linear_head(spec.border_head)

    def forward(self, pictures: Tensor, positions: Tensor | None = None) -> Tensor:
        """Object patches O_net, complex `(B, C, N, N)`.

        `positions (B, C, 1, 2)`, minus the members' positions, are needed where the members share one amplitude.
        """
        levels = self._encoded(pictures)
        inner = [central_half(level) for level in levels] if self.spec.central else levels
        features = self.amplitude(inner[-1], inner[:-1])
        amplitude = self.amplitude_head(features)
        phase = self.phase_head(features if self.phase is None else self.phase(inner[-1], inner[:-1]))
        if self.spec.central:
            amplitude, phase = self._with_border(amplitude, phase, levels[1])
        # under mixed precision the heads come in half precision, which complex numbers do not have
        amplitude, phase = amplitude.to(pictures.dtype), phase.to(pictures.dtype)
        if amplitude.shape[1] != phase.shape[1]:
            amplitude = self._of_members(amplitude, positions)
        span = self.spec.amp_range
        return torch.polar(
            span * amplitude_activation(amplitude, self.spec.amp_activation), math.pi * torch.tanh(phase)
        )

    def _encoded(self, pictures: Tensor) -> list[Tensor]:
        """The encoder's levels, finest first, without the mirrored edge that it may have seen."""
        padding, levels = self.spec.padding, []
        x = F.pad(pictures, (padding,) * 4, mode="reflect") if padding else pictures
        x = x.contiguous(memory_format=torch.channels_last)
        for depth, block in enumerate(self.encoder.values()):
            x = block(F.avg_pool2d(x, 2) if depth else x)
            levels.append(F.pad(x, (-(padding >> depth),) * 4) if padding else x)
        return levels

    def _of_members(self, amplitude: Tensor, positions: Tensor | None) -> Tensor:
        """Cut the members `(B, C, N, N)` from the group's one amplitude `(B, 1, N, N)`, vacuum beyond it."""
        if positions is None:
            raise DataError("the members share one amplitude, expected their positions, found none: give positions")
        vacuum = self.spec.amplitude_head.bias[0]
        with no_autocast(amplitude):
            return vacuum + cut(amplitude - vacuum, -positions[:, :, 0, 0], -positions[:, :, 0, 1], self.spec.N)

    def _with_border(self, amplitude: Tensor, phase: Tensor, second_level: Tensor) -> tuple[Tensor, Tensor]:
        """Put the central half into the whole patch; the border comes from its own branch, or is vacuum."""
        if self.border_head is None:
            border_amplitude = amplitude.new_tensor(self.spec.amplitude_head.bias[0])
            border_phase = phase.new_tensor(0.0)
        else:
            seen = second_level[:, : self.border_head.in_channels]
            border = F.interpolate(self.border_head(seen), scale_factor=2.0, mode="nearest")
            border_amplitude, border_phase = border.split([amplitude.shape[1], phase.shape[1]], dim=1)
        margin = (self.spec.N // 4,) * 4
        inside = F.pad(torch.ones_like(amplitude[:1, :1], dtype=torch.bool), margin)
        return (
            torch.where(inside, F.pad(amplitude, margin), border_amplitude),
            torch.where(inside, F.pad(phase, margin), border_phase),
        )


def canonical_name(torch_name: str) -> str:
    """Name of an array in archives: `amplitude.blocks.0.conv1.weight` -> `amplitude/0/conv1/kernel`."""
    name = torch_name.replace("_head.", ".head.").replace(".blocks.", ".").replace(".gates.", ".")
    parent, _, last = name.replace(".", "/").rpartition("/")
    weight = "scale" if parent.endswith(("norm1", "norm2")) else "kernel"
    renamed = {"weight": weight, "running_mean": "mean", "running_var": "variance"}
    return f"{parent}/{renamed.get(last, last)}".removeprefix("/")
