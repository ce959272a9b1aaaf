"""The `unrolled` network: gradient steps on a group's canvas, each followed by a learned correction.

`ptycho.core.physics.group_gradient` in PyTorch, and the U-Nets between; from the spec of
`ptycho.networks.architecture`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptycho.core.physics.group_gradient import FIELD_FLOOR, ILLUMINATION_FLOOR
from ptycho.networks.architecture import DESCENT_MOMENTUM, DESCENT_STEP, UNSHUFFLE, Block, Correction, UnrolledSpec
from ptycho_torch.layers import ConvBlock, linear_head
from ptycho_torch.physics import fourier_shift, smooth, squared_modulus
from ptycho_torch.precision import no_autocast
from ptycho_torch.reassembly import cut_whole, place_whole

__all__ = [
    "CorrectionUNet",
    "SeenGroup",
    "UnrolledNetwork",
    "amplitude_step",
    "group_illumination",
    "shifted_probes",
    "split_positions",
]


def split_positions(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Whole pixels and remainders of members seen from the canvas' middle, `(B, C, 2)`, from minus their positions."""
    whole = torch.round(-positions)
    return whole, -positions - whole


def shifted_probes(probe: Tensor, remainder: Tensor) -> Tensor:
    """The probe `(M, N, N)` at the remainders `(B, C, 2)` of its members: `(B, C, M, N, N)`."""
    return fourier_shift(probe, remainder[..., 0, None], remainder[..., 1, None])


def group_illumination(probes: Tensor, whole: Tensor, size: int) -> Tensor:
    """`w = sum_c place(sum_m |P_cm|^2)`, real `(B, size, size)`, for probes `(B, C, M, N, N)` at whole pixels."""
    return place_whole(squared_modulus(probes).sum(dim=2), whole[..., 0], whole[..., 1], size)


class SeenGroup:
    """The patterns that a group's canvas has to explain: what every step needs of them, made once.

    Arguments as of `UnrolledNetwork.forward`; `light` is the illumination over its maximum, `(B, size, size)`.
    """

    def __init__(
        self,
        amplitudes: Tensor,
        probes: Tensor,
        whole: Tensor,
        size: int,
        mask: Tensor | None = None,
        sigma_px: float = 0.0,
    ) -> None:
        # zero frequency first, so that no field has to be shifted
        self.amplitudes = torch.fft.ifftshift(amplitudes, dim=(-2, -1))
        self.mask = None if mask is None else torch.fft.ifftshift(mask, dim=(-2, -1))
        self.probes, self.conjugate, self.sigma_px = probes, probes.conj().resolve_conj(), sigma_px
        self.dx, self.dy = whole[..., 0], whole[..., 1]
        illumination = group_illumination(probes, whole, size)
        peak = illumination.amax(dim=(-2, -1), keepdim=True)
        self.divisor, self.light = illumination + ILLUMINATION_FLOOR * peak, illumination / peak

    def step(self, canvas: Tensor) -> Tensor:
        """One preconditioned gradient step of the canvas, complex `(B, S, S)`."""
        patches = cut_whole(canvas, self.dx, self.dy, self.amplitudes.shape[-1])
        fields = torch.fft.fft2(smooth(self.probes * patches[:, :, None], self.sigma_px), norm="ortho")
        excess = 1 - self.amplitudes * torch.rsqrt(squared_modulus(fields).sum(dim=2) + FIELD_FLOOR)
        if self.mask is not None:
            excess = torch.where(self.mask, excess, 0.0)
        residual = smooth(torch.fft.ifft2(fields * excess[:, :, None], norm="ortho"), self.sigma_px)
        gradient = place_whole((residual * self.conjugate).sum(dim=2), self.dx, self.dy, canvas.shape[-1])
        return -gradient / self.divisor


def amplitude_step(
    canvas: Tensor,
    amplitudes: Tensor,
    probes: Tensor,
    whole: Tensor,
    mask: Tensor | None = None,
    sigma_px: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """One preconditioned gradient step `(B, S, S)` of a group's canvas, and the illumination over its maximum."""
    group = SeenGroup(amplitudes, probes, whole, canvas.shape[-1], mask, sigma_px)
    return group.step(canvas), group.light


class CorrectionUNet(nn.Module):
    """What a gradient cannot know: `(B, 7, s, s)` of the canvas -> `(B, 2, s, s)`, real and imaginary part; s by 8."""

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


class UnrolledNetwork(nn.Module):
    """Amplitudes of a group's members -> its canvas O_net; parameters named as in the spec (`canonical_name`)."""

    def __init__(self, spec: UnrolledSpec) -> None:
        super().__init__()
        self.spec = spec
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
    ) -> Tensor:
        """The canvas, complex `(B, size, size)`.

        Args:
            amplitudes: `(B, C, N, N)` in the unit of the probes, any C.
            probes: `(B, C, M, N, N)`, each at its member's remainder.
            whole: `(B, C, 2)` whole pixels (x, y) of the members from the canvas' middle.
            size: side of the canvas, a multiple of 8.
            margin: pixels at each edge that the corrections leave alone.
            mask: bool, broadcasts to the amplitudes, True where valid.
            sigma_px: smoothing of the exit waves.
        """
        canvas = torch.ones((len(amplitudes), size, size), dtype=probes.dtype, device=probes.device)
        velocity = torch.zeros_like(canvas)
        with no_autocast(canvas):
            group = SeenGroup(amplitudes, probes, whole, size, mask, sigma_px)
            with torch.no_grad():
                for _ in range(self.spec.descent):
                    velocity = DESCENT_MOMENTUM * velocity + DESCENT_STEP * group.step(canvas)
                    canvas = canvas + velocity
        inner = slice(margin, size - margin)
        for step, momentum, correction in zip(self.step, self.momentum, self.stages, strict=True):
            with no_autocast(canvas):
                gradient = group.step(canvas)
                velocity = momentum * velocity + step * gradient
                fields = (canvas - 1, gradient, velocity)
                seen = [part for field in fields for part in (field.real, field.imag)] + [group.light]
            change = correction(torch.stack(seen, dim=1)[:, :, inner, inner])
            # under mixed precision it comes in half precision, which complex numbers do not have
            change = F.pad(change.to(group.light.dtype), (margin,) * 4)
            velocity = velocity + torch.complex(change[:, 0], change[:, 1])
            canvas = canvas + velocity
        return canvas
