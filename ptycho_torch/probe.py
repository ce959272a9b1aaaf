"""The probe as a layer: modes, support mask, fixed or trainable, always of the normalised energy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ptycho.core.physics.diffraction import as_modes
from ptycho.core.scaling import probe_scale
from ptycho_torch.physics import squared_modulus

__all__ = ["ProbeLayer"]


class ProbeLayer(nn.Module):
    """Probe modes `(M, N, N)` in normalised units, `sum |P_n|^2 = (N/2)^2`, times a support mask.

    The energy is kept fixed also while the probe is trained: it is the same freedom as the object's scale.

    Args:
        probe: complex `(N, N)` or `(M, N, N)` in the unit of the file's amplitudes.
        support: real `(N, N)` in [0, 1] that multiplies the probe, or None.
        trainable: whether the modes are a parameter.
    """

    support: Tensor | None
    """(N, N), a buffer."""

    def __init__(self, probe: NDArray[Any], support: NDArray[Any] | None, trainable: bool) -> None:
        super().__init__()
        modes = np.asarray(as_modes(probe), np.complex64)
        n = modes.shape[-1]
        self.scale = probe_scale(modes if support is None else modes * support, n)
        real = torch.view_as_real(torch.as_tensor(modes * np.float32(self.scale))).contiguous()
        self.modes = nn.Parameter(real, requires_grad=trainable)
        self.register_buffer("support", None if support is None else torch.as_tensor(support, dtype=real.dtype))

    def forward(self) -> Tensor:
        """Normalised, masked modes, complex `(M, N, N)`."""
        modes, factor = self._normalised()
        return modes * factor

    def _normalised(self) -> tuple[Tensor, Tensor]:
        """Masked modes, and the factor that gives them their energy."""
        modes = torch.view_as_complex(self.modes)
        if self.support is not None:
            modes = modes * self.support
        return modes, (modes.shape[-1] / 2) / squared_modulus(modes).sum().sqrt()

    def file_units(self, masked: bool = True) -> NDArray[np.complex64]:
        """The probe in the unit of the file it came from, complex64 `(M, N, N)`: as used, or before the mask."""
        with torch.no_grad():
            modes, factor = self._normalised()
            if not masked:
                modes = torch.view_as_complex(self.modes)
            return (modes * (factor / self.scale)).cpu().numpy().astype(np.complex64)

    def take_energy_of(self, probe: NDArray[Any]) -> None:
        """Express results in the unit of another file's probe: the modes stay, their energy in file units changes."""
        modes = np.asarray(as_modes(probe), np.complex64)
        support = None if self.support is None else self.support.cpu().numpy()
        self.scale = probe_scale(modes if support is None else modes * support, modes.shape[-1])
