"""The forward model in PyTorch: `diffraction` and `projection` of `ptycho.core.physics`, differentiable.

Channel-first: images are the last two axes, the modes of a probe the axis before them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ptycho.core.physics.diffraction import smoothing_matrix
from ptycho.core.physics.projection import FIELD_FLOOR, PROBE_FLOOR

__all__ = [
    "ProjectionConstants",
    "blurred",
    "cleared",
    "far_field",
    "fourier_shift",
    "illuminate",
    "intensity",
    "project_from_vacuum",
    "projection_constants",
    "propagate_back",
    "safe_sqrt",
    "smooth",
    "squared_modulus",
]


def squared_modulus(field: Tensor) -> Tensor:
    """`|F|^2` without a root on the way, so that its gradient at 0 is 0 and not undefined."""
    return field.real.square() + field.imag.square()


def safe_sqrt(values: Tensor) -> Tensor:
    """Square root of values >= 0 whose gradient at 0 is 0."""
    positive = values > 0
    return torch.where(positive, torch.where(positive, values, 1.0).sqrt(), 0.0)


def far_field(exit_waves: Tensor) -> Tensor:
    """Propagate to the detector, `fftshift(fft2(psi)) / N`, complex `(..., N, N)`; unitary."""
    return torch.fft.fftshift(torch.fft.fft2(exit_waves, norm="ortho"), dim=(-2, -1))


def propagate_back(far_fields: Tensor) -> Tensor:
    """Inverse and adjoint of `far_field`."""
    return torch.fft.ifft2(torch.fft.ifftshift(far_fields, dim=(-2, -1)), norm="ortho")


def fourier_shift(images: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Move the content of complex `images (..., N, N)` by `(+dx, +dy)` pixels, periodic and band limited."""
    real = images.real.dtype
    fy = torch.fft.fftfreq(images.shape[-2], dtype=real, device=images.device)[:, None]
    fx = torch.fft.fftfreq(images.shape[-1], dtype=real, device=images.device)[None, :]
    angle = -2 * math.pi * (fy * dy[..., None, None].to(real) + fx * dx[..., None, None].to(real))
    return torch.fft.ifft2(torch.fft.fft2(images) * torch.polar(torch.ones_like(angle), angle))


def illuminate(probe: Tensor, patches: Tensor) -> Tensor:
    """Exit waves `psi_m = P_m O_j` `(..., M, N, N)`: probe `(M, N, N)` or one per patch, patches `(..., N, N)`."""
    return probe * patches.unsqueeze(-3)


def smooth(exit_waves: Tensor, sigma_px: float) -> Tensor:
    """Smooth exit waves `(..., N, N)` by a Gaussian of `sigma_px` pixels; off when it is 0."""
    if not sigma_px:
        return exit_waves
    matrix = torch.as_tensor(smoothing_matrix(exit_waves.shape[-1], sigma_px)).to(exit_waves)
    return matrix @ exit_waves @ matrix.T


def intensity(exit_waves: Tensor) -> Tensor:
    """Expected detector intensity `sum_m |F_m|^2` of exit waves `(..., M, N, N)` -> `(..., N, N)`."""
    return squared_modulus(far_field(exit_waves)).sum(dim=-3)


def blurred(values: Tensor, blur: Tensor | None = None) -> Tensor:
    """Intensities `(..., N, N)` as the detector sees them, `K I K`; its own adjoint.

    `blur` K `(..., N, N)`, one matrix (`ptycho.core.physics.detector_blur.blur_matrix`); None: as they are.
    """
    if blur is None:
        return values
    matrix = blur.to(values)
    return matrix @ values @ matrix


def cleared(amplitudes: Tensor, flux: Tensor | None = None, background: Tensor | None = None) -> Tensor:
    """What the object alone gives under the beam of the probe, `sqrt(max(A^2 - b, 0) / f)`.

    Flux f and background b, in the unit of A^2, broadcast to the amplitudes A; without them these stay as they are.
    """
    if background is not None:
        amplitudes = (amplitudes.square() - background).clamp(min=0).sqrt()
    return amplitudes if flux is None else amplitudes * flux.rsqrt()


class ProjectionConstants(NamedTuple):
    """What the projection needs of a probe; the fields of `ptycho.core.physics.projection.ProjectionConstants`."""

    phases: Tensor
    vacuum_amplitude: Tensor
    weights: Tensor
    vacuum: Tensor


def projection_constants(probe: Tensor) -> ProjectionConstants:
    """Prepare the projection for a probe `(M, N, N)`, in the unit of the amplitudes that it will see."""
    fields = far_field(probe)
    amplitude = safe_sqrt(squared_modulus(fields).sum(dim=0))
    power = squared_modulus(probe).sum(dim=0)
    power_floored = power + PROBE_FLOOR * power.max()
    return ProjectionConstants(
        phases=fields / (amplitude + FIELD_FLOOR * amplitude.max()),
        vacuum_amplitude=amplitude,
        weights=probe.conj() / power_floored,
        vacuum=power / power_floored,
    )


def project_from_vacuum(amplitudes: Tensor, constants: ProjectionConstants, mask: Tensor | None = None) -> Tensor:
    """Carry amplitudes `(..., N, N)` to the sample plane; complex `(..., N, N)`, 0 for an empty sample."""
    if mask is not None:
        amplitudes = torch.where(mask, amplitudes, constants.vacuum_amplitude)
    waves = propagate_back(amplitudes.unsqueeze(-3) * constants.phases)
    return (constants.weights * waves).sum(dim=-3) - constants.vacuum
