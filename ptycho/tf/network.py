"""What a model asks of its network, whichever it is; the two kinds: patches of the members, or the group's canvas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import keras
import tensorflow as tf

from ptycho.config.config import ModelConfig
from ptycho.core.physics.group_gradient import worked_margin
from ptycho.networks.spec import NetworkSpec, ScanStages
from ptycho.tf.direct_layer import DirectLayer
from ptycho.tf.group_gradient import shifted_probes, split_positions
from ptycho.tf.physics import cleared
from ptycho.tf.reassembly import assemble_group, channel_first, channel_last, cut, cut_whole, members_first

__all__ = ["CanvasNetwork", "Network", "PatchNetwork", "Surroundings"]


class Surroundings(Protocol):
    """What a network asks of the model around it, `ptycho.tf.pinn.PtychoPINN`: its probe, scales and settings."""

    config: ModelConfig
    nominal_intensity_scale: float
    log_intensity_scale: Any

    @property
    def dtype(self) -> Any:
        """Of everything that is computed."""

    @property
    def light(self) -> int:
        """Half the side of the square that holds the probe's light, pixels."""

    @property
    def probe(self) -> Callable[[], Any]:
        """The probe's modes `(M, N, N)`, normalised, when it is called."""

    def object_patches(
        self, normalised: tf.Tensor, mask: tf.Tensor | None = None, positions: tf.Tensor | None = None
    ) -> tf.Tensor:
        """What a `PatchNetwork` makes of `X_norm (B, N, N, C)`."""

    def group_weight(self) -> tf.Tensor:
        """Weight `(N, N)` of a member on the canvas."""

    def valid(self, mask: tf.Tensor | None) -> tf.Tensor:
        """The mask of a call, or the model's own, with the image axes last."""


class Statistics(Protocol):
    """A normalisation over a batch, `ptycho.tf.layers.Normalisation`."""

    mean: Any
    variance: Any
    of_batch: bool

    def named_statistics(self) -> dict[str, keras.Variable]:
        """Running statistics by canonical name."""


class Network(DirectLayer):
    """A network of the registry, built from its spec; `ptycho.networks.registry` names its class.

    It takes `(spec, dtype, seed)`, the seed that of its first weights. `dtype`: `float32` or `float64`.
    """

    canvas: ClassVar[bool]
    """As the registry has it."""

    def __init__(self, spec: NetworkSpec, dtype: str = "float32") -> None:
        super().__init__(name=spec.name, dtype=dtype)
        self.spec = spec

    def canvas_and_members(
        self,
        model: Surroundings,
        normalised: tf.Tensor,
        positions: tf.Tensor,
        size: int,
        mask: tf.Tensor | None,
        flux: tf.Tensor | None = None,
        blur: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The group's canvas `(B, size, size)` and what the probe meets `(B, N, N, C)`, both O_net.

        Args:
            model: around the network: its probe, scales and settings.
            normalised: `X_norm (B, N, N, C)`.
            positions: `(B, 1, 2, C)`, minus the members' positions.
            size: side of the canvas, pixels.
            mask: bool, broadcasts to the amplitudes; None: the model's own.
            flux: of the beam at each member, `(B, 1, 1, C)`, which the amplitudes have on; only given where known.
            blur: the matrix `(1, N, N, 1)` by which the detector blurs intensities; only given where known.
        """
        raise NotImplementedError

    def named_parameters(self) -> dict[str, keras.Variable]:
        """Trained variables by canonical name, in the order of the spec."""
        raise NotImplementedError

    def named_statistics(self) -> dict[str, keras.Variable]:
        """Running statistics by canonical name."""
        return {name: value for norm in self.normalisations() for name, value in norm.named_statistics().items()}

    def normalisations(self) -> Sequence[Statistics]:
        """Every normalisation over a batch, in the order of the network."""
        return []

    def scan_stages(self) -> ScanStages | None:
        """The stages for a pass over a whole scan; None where groups are all that the network knows."""
        return None


class PatchNetwork(Network):
    """A network that gives one patch of each member: pictures of the members in, `call(pictures, positions)`.

    Pictures are `(B, N, N, 2C)`, the amplitudes carried back to the sample plane, all real parts, then all imaginary
    parts; positions `(B, 1, 2, C)`, minus the members' own. The patches O_net are complex `(B, N, N, C)`. A blur of the
    detector stays in the pictures.
    """

    canvas = False

    def canvas_and_members(
        self,
        model: Surroundings,
        normalised: tf.Tensor,
        positions: tf.Tensor,
        size: int,
        mask: tf.Tensor | None,
        flux: tf.Tensor | None = None,
        blur: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Network`."""
        patches = model.object_patches(cleared(normalised, flux), mask, positions)
        if patches.shape[-1] == 1:
            return patches[..., 0], patches
        return _assembled(model, patches, positions, size)


class CanvasNetwork(Network):
    """A network that makes the canvas of a group of any number of members, `call(amplitudes, probes, ...)`.

    Args of `call`:
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
        normalised: tf.Tensor,
        positions: tf.Tensor,
        size: int,
        mask: tf.Tensor | None,
        flux: tf.Tensor | None = None,
        blur: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Network`."""
        if not model.config.object_big:
            return _assembled(model, self._alone(model, normalised, mask, flux, blur), positions, size)
        canvas = self._canvas(model, normalised, positions, size, mask, flux, blur)
        dx, dy = tf.round(-positions[:, 0, 0, :]), tf.round(-positions[:, 0, 1, :])
        return canvas, channel_last(cut_whole(canvas, dx, dy, model.config.N))

    def _canvas(
        self,
        model: Surroundings,
        normalised: tf.Tensor,
        positions: tf.Tensor,
        size: int,
        mask: tf.Tensor | None,
        flux: tf.Tensor | None,
        blur: tf.Tensor | None,
    ) -> tf.Tensor:
        """The canvas from the members that the network sees."""
        seen = slice(self.spec.members)
        whole, remainder = split_positions(members_first(positions[..., seen]))
        valid = model.valid(mask)
        valid = valid[:, seen] if valid.shape.rank == 4 else valid
        factor = model.nominal_intensity_scale / tf.exp(model.log_intensity_scale.value)
        recorded = {} if flux is None else {"flux": channel_first(flux[..., seen])}
        if blur is not None:
            recorded["blur"] = channel_first(blur)
        return self(
            channel_first(normalised[..., seen]) * factor,
            shifted_probes(model.probe(), remainder),
            whole,
            size,
            worked_margin(size, model.config.N, model.light),
            valid,
            model.config.gaussian_smoothing_sigma,
            **recorded,
        )

    def _alone(
        self,
        model: Surroundings,
        normalised: tf.Tensor,
        mask: tf.Tensor | None,
        flux: tf.Tensor | None,
        blur: tf.Tensor | None,
    ) -> tf.Tensor:
        """Every member as a group of its own, `(B, N, N, C)`."""
        n, members = normalised.shape[1], normalised.shape[-1]
        first = channel_first(normalised)
        valid = tf.broadcast_to(model.valid(mask), tf.shape(first))
        each, known = (tf.reshape(images, (-1, n, n, 1)) for images in (first, valid))
        nowhere = tf.zeros((tf.shape(each)[0], 1, 2, 1), model.dtype)
        flux = None if flux is None else tf.reshape(channel_first(flux), (-1, 1, 1, 1))
        canvas = self._canvas(model, each, nowhere, n, known, flux, blur)
        return channel_last(tf.reshape(canvas, (-1, members, n, n)))


def _assembled(model: Surroundings, patches: tf.Tensor, positions: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The canvas of patches `(B, N, N, C)`; the members cut from it, or the patches where each stands alone."""
    dx, dy = -positions[:, 0, 0, :], -positions[:, 0, 1, :]
    canvas = assemble_group(channel_first(patches), dx, dy, model.group_weight(), size)
    if model.config.object_big:
        patches = channel_last(cut(canvas[:, None], dx, dy, model.config.N))
    return canvas, patches
