"""Network and physics together: amplitudes in, object patches and expected counts out."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ptycho.architecture import cnn_spec
from ptycho.config.config import ModelConfig
from ptycho.core.patches import GROUP_WEIGHT_FLOOR
from ptycho.core.probes import probe_mask
from ptycho.errors import DataError
from ptycho_torch.layers import CnnNetwork
from ptycho_torch.physics import (
    illuminate,
    intensity,
    project_from_vacuum,
    projection_constants,
    smooth,
    squared_modulus,
)
from ptycho_torch.probe import ProbeLayer
from ptycho_torch.reassembly import assemble_group, cut

__all__ = ["PtychoPINN"]


class PtychoPINN(nn.Module):
    """A network that sees amplitudes, and the physics that judges what it says.

    Args:
        config: the model's settings.
        probe: complex `(N, N)` or `(M, N, N)`, in the unit of the file's amplitudes.
        input_scale: k; the network sees `X_norm = k A`.
        intensity_scale: s; `s X_norm` is in photon units. The start value where it is trained.
        mask: bool `(N, N)`, True where the detector is valid; None: everywhere.
        probe_trainable, intensity_scale_trainable: what is learned beside the network.

    Tensors: amplitudes `(B, C, N, N)`, positions `(B, C, 1, 2)` = `coords_relative`, minus the member's position seen
    from the group's centre, `(x, y)` pixels. The network's object `O_net` becomes the object in the file's units by
    `object_scale`.
    """

    def __init__(
        self,
        config: ModelConfig,
        probe: NDArray[Any],
        input_scale: float,
        intensity_scale: float,
        mask: NDArray[np.bool_] | None = None,
        probe_trainable: bool = False,
        intensity_scale_trainable: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        self.input_scale = float(input_scale)
        self.nominal_intensity_scale = float(intensity_scale)
        self.network = CnnNetwork(cnn_spec(config)).to(memory_format=torch.channels_last)
        support = probe_mask(config.N) if config.probe_mask else None
        if probe.shape[-2:] != (config.N, config.N):
            raise DataError(f"the probe must be {config.N} x {config.N} pixels as N says, found shape {probe.shape}")
        self.probe = ProbeLayer(probe, support, probe_trainable)
        self.log_intensity_scale = nn.Parameter(
            torch.tensor(math.log(intensity_scale)), requires_grad=intensity_scale_trainable
        )
        valid = np.ones((config.N, config.N), bool) if mask is None else np.asarray(mask, bool)
        self.register_buffer("mask", torch.as_tensor(valid.copy()))

    @property
    def intensity_scale(self) -> float:
        """The s in use: what is saved, and what callers multiply `X_norm` with."""
        return math.exp(float(self.log_intensity_scale.detach()))

    @property
    def object_scale(self) -> Tensor:
        """`O = object_scale O_net`: times the probe of the file, O predicts the amplitudes of the file."""
        return self.log_intensity_scale.exp() * (self.probe.scale / (self.input_scale * self.nominal_intensity_scale))

    def object_patches(self, normalised: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the network sees in `X_norm (B, C, N, N)`: one O_net patch `(B, C, N, N)` per member."""
        spec = self.network.spec
        expected = (spec.members, spec.N, spec.N)
        if normalised.ndim != 4 or tuple(normalised.shape[1:]) != expected or not len(normalised):
            raise DataError(
                f"amplitudes must be (B, {expected[0]}, {expected[1]}, {expected[2]}) with B >= 1 (C = gridsize^2), "
                f"found {tuple(normalised.shape)}"
            )
        with self._full_precision():
            constants = projection_constants(self.probe().detach())
            pictures = project_from_vacuum(normalised, constants, self.mask if mask is None else mask)
        return self.network(torch.cat([pictures.real, pictures.imag], dim=1))

    def _full_precision(self) -> AbstractContextManager[None]:
        """Mixed precision is for the convolutions: shifts and far fields would lose three digits."""
        device = self.log_intensity_scale.device.type
        if not torch.amp.is_autocast_available(device):
            return nullcontext()
        return torch.autocast(device, enabled=False)

    def canvas_and_members(
        self, normalised: Tensor, positions: Tensor, size: int, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The group's canvas `(B, size, size)` and the C patches `(B, C, N, N)` that the probe meets (O_net units).

        With `object_big` the members are averaged on the canvas, weighted by the probe, and cut out again; otherwise
        each stands alone and the canvas is the mean of the members moved to the centre.
        """
        patches = self.object_patches(normalised, mask)
        if positions.shape != (*patches.shape[:2], 1, 2):
            raise DataError(
                f"positions must be {(*patches.shape[:2], 1, 2)} for amplitudes {tuple(normalised.shape)}, found "
                f"{tuple(positions.shape)}"
            )
        if patches.shape[1] == 1:
            return patches[:, 0], patches
        dx, dy = -positions[:, :, 0, 0], -positions[:, :, 0, 1]
        with self._full_precision():
            canvas = assemble_group(patches, dx, dy, self.group_weight(), size)
            members = cut(canvas[:, None], dx, dy, self.config.N) if self.config.object_big else patches
        return canvas, members

    def group_weight(self) -> Tensor:
        """Weight `(N, N)` of a member on the canvas: the probe's intensity, 1 at its maximum, on a small floor."""
        power = squared_modulus(self.probe().detach()).sum(dim=0)
        return power / power.max() + GROUP_WEIGHT_FLOOR

    def expected_counts(self, members: Tensor) -> Tensor:
        """Photons that O_net patches `(B, C, N, N)` would give, `s^2 sum_m |F(P_n O_net)|^2`."""
        with self._full_precision():
            waves = smooth(illuminate(self.probe(), members), self.config.gaussian_smoothing_sigma)
            return torch.exp(2 * self.log_intensity_scale) * intensity(waves)

    def forward(self, normalised: Tensor, positions: Tensor, size: int, mask: Tensor | None = None) -> Tensor:
        """Expected counts `(B, C, N, N)` for `X_norm (B, C, N, N)`: what training compares with the data."""
        return self.expected_counts(self.canvas_and_members(normalised, positions, size, mask)[1])

    def predict_members(self, normalised: Tensor, positions: Tensor, size: int, mask: Tensor | None = None) -> Tensor:
        """Object patches of every member at its own position, complex `(B, C, N, N)`, in the file's units."""
        return self.object_scale * self.canvas_and_members(normalised, positions, size, mask)[1]

    def predict_group(self, normalised: Tensor, positions: Tensor, size: int, mask: Tensor | None = None) -> Tensor:
        """The central N x N of every group's canvas, complex `(B, N, N)`, in the file's units."""
        canvas = self.canvas_and_members(normalised, positions, size, mask)[0]
        margin = (canvas.shape[-1] - self.config.N) // 2
        return self.object_scale * canvas[:, margin : margin + self.config.N, margin : margin + self.config.N]
