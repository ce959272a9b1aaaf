"""Gradient steps on the canvas of a group: `ptycho.core.physics.group_gradient` in PyTorch.

Members are the second axis.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ptycho.core.physics.group_gradient import BLUR_FLOOR, FIELD_FLOOR, ILLUMINATION_FLOOR
from ptycho_torch.physics import blurred, fourier_shift, smooth, squared_modulus
from ptycho_torch.reassembly import cut_whole, place_whole

__all__ = ["SeenGroup", "amplitude_step", "group_illumination", "shifted_probes", "split_positions", "way_back"]


def split_positions(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Whole pixels and remainders of members seen from the canvas' middle, `(B, C, 2)`, from minus their positions."""
    whole = torch.round(-positions)
    return whole, -positions - whole


def shifted_probes(probe: Tensor, remainder: Tensor) -> Tensor:
    """The probe `(M, N, N)` at the remainders `(B, C, 2)` of its members: `(B, C, M, N, N)`."""
    return fourier_shift(probe, remainder[..., 0, None], remainder[..., 1, None])


def group_illumination(probes: Tensor, whole: Tensor, size: int, flux: Tensor | None = None) -> Tensor:
    """`w = sum_c place(f_c sum_m |P_cm|^2)`, real `(B, size, size)`, for probes `(B, C, M, N, N)` at whole pixels."""
    power = squared_modulus(probes).sum(dim=2)
    return place_whole(power if flux is None else flux * power, whole[..., 0], whole[..., 1], size)


def way_back(blur: Tensor) -> Tensor:
    """W `(..., N, N)` of a blur K, symmetric: what residuals are blurred with on their way back in a step."""
    ones = torch.eye(blur.shape[-1], dtype=blur.dtype, device=blur.device)
    return torch.linalg.solve(blur @ blur + BLUR_FLOOR * ones, (1 + BLUR_FLOOR) * blur)


class SeenGroup:
    """The patterns that a group's canvas has to explain: what every step needs of them, made once.

    Arguments as of `CanvasNetwork.forward`; `light` is the illumination over its maximum, `(B, size, size)`.
    """

    def __init__(
        self,
        amplitudes: Tensor,
        probes: Tensor,
        whole: Tensor,
        size: int,
        mask: Tensor | None = None,
        sigma_px: float = 0.0,
        flux: Tensor | None = None,
        blur: Tensor | None = None,
    ) -> None:
        # zero frequency first, so that no field has to be shifted
        self.amplitudes = torch.fft.ifftshift(amplitudes, dim=(-2, -1))
        self.mask = None if mask is None else torch.fft.ifftshift(mask, dim=(-2, -1))
        self.blur = None if blur is None else torch.fft.ifftshift(blur, dim=(-2, -1))
        self.back = None if self.blur is None else way_back(self.blur)
        self.probes, self.conjugate, self.sigma_px = probes, probes.conj().resolve_conj(), sigma_px
        self.dx, self.dy = whole[..., 0], whole[..., 1]
        self.flux = flux
        illumination = group_illumination(probes, whole, size, flux)
        peak = illumination.amax(dim=(-2, -1), keepdim=True)
        self.divisor, self.light = illumination + ILLUMINATION_FLOOR * peak, illumination / peak

    def step(self, canvas: Tensor) -> Tensor:
        """One preconditioned gradient step of the canvas, complex `(B, S, S)`."""
        patches = cut_whole(canvas, self.dx, self.dy, self.amplitudes.shape[-1])
        fields = torch.fft.fft2(smooth(self.probes * patches[:, :, None], self.sigma_px), norm="ortho")
        power = squared_modulus(fields).sum(dim=2)
        power = power if self.flux is None else self.flux * power
        excess = 1 - self.amplitudes * torch.rsqrt(blurred(power, self.blur) + FIELD_FLOOR)
        excess = excess if self.flux is None else self.flux * excess
        if self.mask is not None:
            excess = torch.where(self.mask, excess, 0.0)
        excess = blurred(excess, self.back)
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
    flux: Tensor | None = None,
    blur: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One preconditioned gradient step `(B, S, S)` of a group's canvas, and the illumination over its maximum."""
    group = SeenGroup(amplitudes, probes, whole, canvas.shape[-1], mask, sigma_px, flux, blur)
    return group.step(canvas), group.light
