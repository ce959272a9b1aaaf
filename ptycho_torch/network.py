"""What a model asks of its network, whichever it is; the two kinds: patches of the members, or the group's canvas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from ptycho.config.config import ModelConfig
from ptycho.core.physics.group_gradient import worked_margin
from ptycho.networks.spec import NetworkSpec, ScanStages
from ptycho_torch.group_gradient import shifted_probes, split_positions
from ptycho_torch.physics import cleared
from ptycho_torch.precision import no_autocast
from ptycho_torch.reassembly import assemble_group, cut, cut_whole

__all__ = ["CanvasNetwork", "Network", "PatchNetwork", "Surroundings"]


class Surroundings(Protocol):
    """What a network asks of the model around it, `ptycho_torch.pinn.PtychoPINN`: its probe, scales and settings."""

    config: ModelConfig
    mask: Tensor
    nominal_intensity_scale: float
    log_intensity_scale: nn.Parameter

    @property
    def light(self) -> int:
        """Half the side of the square that holds the probe's light, pixels."""

    @property
    def probe(self) -> Callable[[], Any]:
        """The probe's modes `(M, N, N)`, normalised, when it is called."""

    def object_patches(self, normalised: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """What a `PatchNetwork` makes of `X_norm (B, C, N, N)`."""

    def group_weight(self) -> Tensor:
        """Weight `(N, N)` of a member on the canvas."""


class Network(nn.Module):
    """A network of the registry, built from its spec; `ptycho.networks.registry` names its class.

    Parameter names map to the canonical ones of the spec by `ptycho_torch.layers.canonical_name`.
    """

    canvas: ClassVar[bool]
    """As the registry has it."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec

    def canvas_and_members(
        self,
        model: Surroundings,
        normalised: Tensor,
        positions: Tensor,
        size: int,
        mask: Tensor | None,
        flux: Tensor | None = None,
        blur: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The group's canvas `(B, size, size)` and what the probe meets `(B, C, N, N)`, both O_net.

        Args:
            model: around the network: its probe, scales and settings.
            normalised: `X_norm (B, C, N, N)`.
            positions: `(B, C, 1, 2)`, minus the members' positions.
            size: side of the canvas, pixels.
            mask: bool, broadcasts to the amplitudes; None: the model's own.
            flux: of the beam at each member, `(B, C, 1, 1)`, which the amplitudes have on; only given where known.
            blur: the matrix `(1, 1, N, N)` by which the detector blurs intensities; only given where known.
        """
        raise NotImplementedError

    def scan_stages(self) -> ScanStages | None:
        """The stages for a pass over a whole scan; None where groups are all that the network knows."""
        return None


class PatchNetwork(Network):
    """A network that gives one patch of each member: pictures of the members in, `forward(pictures, positions)`.

    Pictures are `(B, 2C, N, N)`, the amplitudes carried back to the sample plane, all real parts, then all imaginary
    parts; positions `(B, C, 1, 2)`, minus the members' own. The patches O_net are complex `(B, C, N, N)`. A blur of the
    detector stays in the pictures.
    """

    canvas = False

    def canvas_and_members(
        self,
        model: Surroundings,
        normalised: Tensor,
        positions: Tensor,
        size: int,
        mask: Tensor | None,
        flux: Tensor | None = None,
        blur: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `Network`."""
        with no_autocast(normalised):
            seen = cleared(normalised, flux)
        patches = model.object_patches(seen, mask, positions)
        if patches.shape[1] == 1:
            return patches[:, 0], patches
        return _assembled(model, patches, positions, size)


class CanvasNetwork(Network):
    """A network that makes the canvas of a group of any number of members, `forward(amplitudes, probes, ...)`.

    Args of `forward`:
        amplitudes: `(B, C, N, N)` in the unit of the probes, any C.
        probes: `(B, C, M, N, N)`, each at its member's remainder.
        whole: `(B, C, 2)` whole pixels (x, y) of the members from the canvas' middle.
        size: side of the canvas, a multiple of 8.
        margin: pixels at each edge where the probe has no light.
        mask: bool, broadcasts to the amplitudes, True where valid.
        sigma_px: smoothing of the exit waves.
        flux: of the beam at each member, `(B, C, 1, 1)`, which the amplitudes have on; only given where it is known.
        blur: the matrix `(1, 1, N, N)` by which the detector blurs intensities; only given where it is known.

    The canvas O_net is complex `(B, size, size)`. The network sees the first gridsize^2 members; further ones are cut
    from its canvas all the same. Without `object_big` it sees every member as a group of its own.
    """

    canvas = True

    def canvas_and_members(
        self,
        model: Surroundings,
        normalised: Tensor,
        positions: Tensor,
        size: int,
        mask: Tensor | None,
        flux: Tensor | None = None,
        blur: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `Network`."""
        if not model.config.object_big:
            return _assembled(model, self._alone(model, normalised, mask, flux, blur), positions, size)
        canvas = self._canvas(model, normalised, positions, size, mask, flux, blur)
        with no_autocast(canvas):
            dx, dy = torch.round(-positions[:, :, 0, 0]), torch.round(-positions[:, :, 0, 1])
            return canvas, cut_whole(canvas, dx, dy, model.config.N)

    def _canvas(
        self,
        model: Surroundings,
        normalised: Tensor,
        positions: Tensor,
        size: int,
        mask: Tensor | None,
        flux: Tensor | None,
        blur: Tensor | None,
    ) -> Tensor:
        """The canvas from the members that the network sees."""
        seen = slice(self.spec.members)
        with no_autocast(normalised):
            whole, remainder = split_positions(positions[:, seen, 0])
            probes = shifted_probes(model.probe(), remainder)
        valid = model.mask if mask is None else mask
        valid = valid[:, seen] if valid.ndim == 4 else valid
        factor = model.nominal_intensity_scale / model.log_intensity_scale.exp()
        amplitudes, recorded = normalised[:, seen] * factor, {} if flux is None else {"flux": flux[:, seen]}
        if blur is not None:
            recorded["blur"] = blur
        margin, sigma_px = worked_margin(size, model.config.N, model.light), model.config.gaussian_smoothing_sigma
        return self(amplitudes, probes, whole, size, margin, valid, sigma_px, **recorded)

    def _alone(
        self,
        model: Surroundings,
        normalised: Tensor,
        mask: Tensor | None,
        flux: Tensor | None,
        blur: Tensor | None,
    ) -> Tensor:
        """Every member as a group of its own, `(B, C, N, N)`."""
        valid = (model.mask if mask is None else mask).expand(normalised.shape)
        batch, members, n = normalised.shape[:3]
        each = normalised.reshape(batch * members, 1, n, n)
        nowhere = each.new_zeros((batch * members, 1, 1, 2))
        flux = None if flux is None else flux.reshape(-1, 1, 1, 1)
        return self._canvas(model, each, nowhere, n, valid.reshape(each.shape), flux, blur).reshape(normalised.shape)


def _assembled(model: Surroundings, patches: Tensor, positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The canvas of patches `(B, C, N, N)`; the members cut from it, or the patches where each stands alone."""
    with no_autocast(patches):
        dx, dy = -positions[:, :, 0, 0], -positions[:, :, 0, 1]
        canvas = assemble_group(patches, dx, dy, model.group_weight(), size)
        return canvas, cut(canvas[:, None], dx, dy, model.config.N) if model.config.object_big else patches
