"""Network and physics together: amplitudes in, object patches and expected counts out."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ptycho.config.config import ModelConfig
from ptycho.config.options import NEUTRAL, NetworkOptions
from ptycho.core.geometry import canvas_size
from ptycho.core.physics.group_gradient import light_extent
from ptycho.core.physics.patches import GROUP_WEIGHT_FLOOR
from ptycho.core.training.scales import GAIN_FLOOR, NEUTRAL_INPUT, InputScaling
from ptycho.errors import DataError
from ptycho.networks.options import probe_support
from ptycho.networks.registry import network_class, network_entry
from ptycho.networks.spec import network_spec
from ptycho_torch.group_gradient import shifted_probes, split_positions
from ptycho_torch.network import Network
from ptycho_torch.physics import (
    blurred,
    cleared,
    illuminate,
    intensity,
    project_from_vacuum,
    projection_constants,
    smooth,
    squared_modulus,
)
from ptycho_torch.precision import no_autocast
from ptycho_torch.probe import ProbeLayer
from ptycho_torch.reassembly import cut

__all__ = ["PtychoPINN"]


class PtychoPINN(nn.Module):
    """A network that sees amplitudes, and the physics that predicts patterns from its answer.

    Args:
        config: the model's settings.
        probe: complex `(N, N)` or `(M, N, N)`, in the unit of the file's amplitudes.
        input_scale: k; the network sees `X_norm = k A`.
        intensity_scale: s; `s X_norm` is in photon units. The start value where it is trained.
        mask: bool `(N, N)`, True where the detector is valid; None: everywhere.
        probe_trainable, intensity_scale_trainable: what is learned beside the network.
        options: of the network and of the probe's mask, beside the configuration.
        scaling: what beside k and s scales the input.
        network: that of another model, which both then share, for a further experiment of its training.

    Tensors: amplitudes `(B, C, N, N)`, positions `(B, C, 1, 2)` = `coords_relative`, minus the member's position seen
    from the group's centre, `(x, y)` pixels. Where they are known, `flux (B, C, 1, 1)` of the beam at each member and
    `background (1, 1, N, N)`, squares of X_norm, either by itself too: what the network is given has them taken off
    (`cleared`), but for the flux in the steps of one that makes a canvas, and what is predicted has them on. The blur
    of the detector, where it is known, is a matrix `blur (1, 1, N, N)` (`ptycho.core.physics.detector_blur`), in those
    steps and in what is predicted. The network's object `O_net` becomes the object in the file's units by
    `object_scale`.
    """

    mask: Tensor
    """bool (N, N), a buffer."""

    def __init__(
        self,
        config: ModelConfig,
        probe: NDArray[Any],
        input_scale: float,
        intensity_scale: float,
        mask: NDArray[np.bool_] | None = None,
        probe_trainable: bool = False,
        intensity_scale_trainable: bool = True,
        options: NetworkOptions = NEUTRAL,
        scaling: InputScaling = NEUTRAL_INPUT,
        network: Network | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.options = options
        self.scaling = scaling
        self.labels: dict[str, str | int] = {}  # of the user; an archive keeps them
        self.tracked: str | None = None  # address in MLflow, where that followed the training
        self.scan: dict[str, Any] = {}  # what is known of the scan; an archive keeps it
        self.input_scale = float(input_scale)
        self.nominal_intensity_scale = float(intensity_scale)
        spec = network_spec(config, options)
        made: Network = network_class(config.architecture, "pytorch")(spec) if network is None else network
        self.network = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs lack it
        self.subpixel = network_entry(config.architecture).subpixel
        support = probe_support(config, options)
        if probe.shape[-2:] != (config.N, config.N):
            raise DataError(f"the probe must be {config.N} x {config.N} pixels as N says, found shape {probe.shape}")
        self.probe = ProbeLayer(probe, support, probe_trainable)
        self.log_intensity_scale = nn.Parameter(
            torch.tensor(math.log(intensity_scale)), requires_grad=intensity_scale_trainable
        )
        self.measure_light()
        valid = np.ones((config.N, config.N), bool) if mask is None else np.asarray(mask, bool)
        self.register_buffer("mask", torch.as_tensor(valid.copy()))

    def __repr__(self) -> str:
        c = self.config
        return f"PtychoPINN({c.architecture}, N={c.N}, gridsize={c.gridsize}, pytorch, subpixel {self.subpixel})"

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled lies on the CPU: who unpickles it, another process of several, has another GPU or none."""
        if self.log_intensity_scale.device.type == "cpu":
            return self.__dict__
        there = nn.Module()
        there.__dict__ = copy.deepcopy(self.__dict__)
        return there.cpu().__dict__

    def __deepcopy__(self, memo: dict[int, Any]) -> PtychoPINN:
        """A copy lies where the model does."""
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__ = copy.deepcopy(self.__dict__, memo)
        return made

    def measure_light(self) -> None:
        """Note how far the probe's light reaches, and so the corrections; again after the probe was trained."""
        self.light = light_extent(self.probe.file_units())

    @property
    def intensity_scale(self) -> float:
        """The s in use: what is saved, and what callers multiply `X_norm` with."""
        return math.exp(float(self.log_intensity_scale.detach()))

    @property
    def object_scale(self) -> Tensor:
        """`O = object_scale O_net`: times the probe of the file, O predicts the amplitudes of the file."""
        return self.log_intensity_scale.exp() * (self.probe.scale / (self.input_scale * self.nominal_intensity_scale))

    def object_patches(self, normalised: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """What a `PatchNetwork` makes of `X_norm (B, C, N, N)`: one O_net patch `(B, C, N, N)` per member.

        Positions are needed where the members share one amplitude.
        """
        with no_autocast(normalised):
            constants = projection_constants(self.probe().detach())
            pictures = project_from_vacuum(normalised, constants, self.mask if mask is None else mask)
        return self.network(torch.cat([pictures.real, pictures.imag], dim=1), positions)

    def canvas_and_members(
        self,
        normalised: Tensor,
        positions: Tensor,
        size: int,
        mask: Tensor | None = None,
        flux: Tensor | None = None,
        background: Tensor | None = None,
        blur: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The group's canvas `(B, size, size)` and the patches `(B, C, N, N)` that the probe meets (O_net units).

        With `object_big` the canvas is one object for all members, from which they are cut; otherwise each stands
        alone and the canvas is the mean of the members moved to the centre. A network that makes the
        canvas sees the first gridsize^2 members; further ones are cut from it all the same, held out for validation.

        Raises:
            DataError: shapes that do not fit; the line names both.
        """
        self._check_shapes(normalised, positions)
        if background is not None:
            with no_autocast(normalised):
                normalised = cleared(normalised, background=background)
        recorded = {name: value for name, value in (("flux", flux), ("blur", blur)) if value is not None}
        if not self.scaling.even_groups:
            return self.network.canvas_and_members(self, normalised, positions, size, mask, **recorded)
        gain = self._gain(cleared(normalised, flux))[..., None]
        canvas, members = self.network.canvas_and_members(self, normalised * gain, positions, size, mask, **recorded)
        return canvas / gain[..., 0], members / gain

    def _gain(self, normalised: Tensor) -> Tensor:
        """`ptycho.core.training.scales.group_gain` of the members that the network sees, `(B, 1, 1)`."""
        full = (normalised.shape[-1] / 2) ** 2
        seen = normalised[:, : self.network.spec.members]
        energy = seen.square().sum((1, 2, 3)) / seen.shape[1]
        return torch.sqrt(full / energy.clamp(min=GAIN_FLOOR * full))[:, None, None]

    @property
    def _on_whole_pixels(self) -> bool:
        """Whether members lie at whole pixels of a canvas that the network makes, and any number of them can."""
        return self.network.canvas and self.config.object_big

    def _check_shapes(self, normalised: Tensor, positions: Tensor) -> None:
        spec = self.network.spec
        found = tuple(normalised.shape)
        fits = normalised.ndim == 4 and found[2:] == (spec.N, spec.N) and found[0] > 0
        if not fits or found[1] < spec.members or (found[1] > spec.members and not self._on_whole_pixels):
            raise DataError(
                f"amplitudes must be (B, {spec.members}, {spec.N}, {spec.N}) with B >= 1 (C = gridsize^2), "
                f"found {found}"
            )
        if positions.shape != (*found[:2], 1, 2):
            raise DataError(
                f"positions must be {(*found[:2], 1, 2)} for amplitudes {found}, found {tuple(positions.shape)}"
            )

    def group_weight(self) -> Tensor:
        """Weight `(N, N)` of a member on the canvas: the probe's intensity, 1 at its maximum, on a small floor."""
        power = squared_modulus(self.probe().detach()).sum(dim=0)
        return power / power.max() + GROUP_WEIGHT_FLOOR

    def expected_counts(
        self,
        members: Tensor,
        positions: Tensor,
        flux: Tensor | None = None,
        background: Tensor | None = None,
        blur: Tensor | None = None,
    ) -> Tensor:
        """Photons that O_net patches `(B, C, N, N)` would give, `s^2 f K (sum_m |F(P_n O_net)|^2) K + s_0^2 b`.

        The flux f is 1, the background b is 0 and the blur K does nothing where they are not known; s_0 is the nominal
        scale, of the data. By the `fourier` rule members lie at whole pixels, and the probe moves by the rest of
        `positions`.
        """
        with no_autocast(members):
            probe = self.probe()
            if self._on_whole_pixels:
                probe = shifted_probes(probe, split_positions(positions[:, :, 0])[1])
            waves = smooth(illuminate(probe, members), self.config.gaussian_smoothing_sigma)
            counts = torch.exp(2 * self.log_intensity_scale) * blurred(intensity(waves), blur)
            counts = counts if flux is None else flux * counts
            return counts if background is None else counts + self.nominal_intensity_scale**2 * background

    def forward(
        self,
        normalised: Tensor,
        positions: Tensor,
        size: int,
        mask: Tensor | None = None,
        flux: Tensor | None = None,
        background: Tensor | None = None,
        blur: Tensor | None = None,
    ) -> Tensor:
        """Expected counts `(B, C, N, N)` for `X_norm (B, C, N, N)`: what training compares with the data."""
        members = self.canvas_and_members(normalised, positions, size, mask, flux, background, blur)[1]
        return self.expected_counts(members, positions, flux, background, blur)

    def predict_members(
        self, normalised: Tensor, positions: Tensor, size: int, mask: Tensor | None = None, *recorded: Tensor
    ) -> Tensor:
        """Object patches of every member at its own position, complex `(B, C, N, N)`, in the file's units.

        `recorded`: flux, background and blur, where they are known.
        """
        canvas, members = self.canvas_and_members(normalised, positions, size, mask, *recorded)
        if self._on_whole_pixels:
            with no_autocast(canvas):
                members = cut(canvas[:, None], -positions[:, :, 0, 0], -positions[:, :, 0, 1], self.config.N)
        return self.object_scale * members

    def forward_predict(
        self,
        x: Tensor,
        positions: Tensor,
        probe: NDArray[Any] | Tensor | None = None,
        input_scale_factor: float | Tensor = 1.0,
    ) -> Tensor:
        """`predict_members` on the smallest canvas that holds the groups, for callers with amplitudes of their own.

        Args:
            x: amplitudes `(B, C, N, N)`; times `input_scale_factor` they are X_norm.
            positions: `(B, C, 1, 2)`, pixels.
            probe: of another file, whose unit the object is to have (None: the one in use); the model's modes stay.
            input_scale_factor: k for amplitudes of a file, 1 for X_norm.

        What is given may lie elsewhere than the model; the patches are where the amplitudes are.
        """
        if probe is not None:
            self.probe.take_energy_of(torch.as_tensor(probe).detach().cpu().numpy())
        size = canvas_size(self.config.N, positions.detach().cpu().numpy())
        device = self.log_intensity_scale.device
        return self.predict_members((x * input_scale_factor).to(device), positions.to(device), size).to(x.device)

    def predict_on_grid(
        self, normalised: Tensor, positions: Tensor, size: int, mask: Tensor | None = None, *recorded: Tensor
    ) -> Tensor:
        """Object patches of every member as the probe meets them, complex `(B, C, N, N)`, in the file's units.

        By the `fourier` rule they lie at whole pixels of the canvas, `round(-positions)` from its middle, and nothing
        is interpolated; by the `bilinear` rule this is `predict_members`.
        """
        return self.object_scale * self.canvas_and_members(normalised, positions, size, mask, *recorded)[1]

    def predict_group(
        self, normalised: Tensor, positions: Tensor, size: int, mask: Tensor | None = None, *recorded: Tensor
    ) -> Tensor:
        """The central N x N of every group's canvas, complex `(B, N, N)`, in the file's units."""
        canvas = self.canvas_and_members(normalised, positions, size, mask, *recorded)[0]
        margin = (canvas.shape[-1] - self.config.N) // 2
        return self.object_scale * canvas[:, margin : margin + self.config.N, margin : margin + self.config.N]
