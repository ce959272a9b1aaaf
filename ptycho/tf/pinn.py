"""Network and physics together: amplitudes in, object patches and expected counts out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptycho.config.config import ModelConfig
from ptycho.config.options import NEUTRAL, NetworkOptions
from ptycho.core.physics.group_gradient import light_extent
from ptycho.core.physics.patches import GROUP_WEIGHT_FLOOR
from ptycho.core.training.scales import GAIN_FLOOR, NEUTRAL_INPUT, InputScaling
from ptycho.errors import BackendError, DataError
from ptycho.networks.options import probe_support
from ptycho.networks.registry import network_class, network_entry
from ptycho.networks.spec import network_spec
from ptycho.tf.direct_layer import DirectLayer
from ptycho.tf.group_gradient import shifted_probes, split_positions
from ptycho.tf.network import Network
from ptycho.tf.physics import (
    blurred,
    cleared,
    illuminate,
    intensity,
    project_from_vacuum,
    projection_constants,
    smooth,
    squared_modulus,
    to_complex,
)
from ptycho.tf.probe import ProbeLayer
from ptycho.tf.reassembly import channel_first, channel_last, cut, members_first

__all__ = ["PtychoPINN"]


class PtychoPINN(DirectLayer):
    """A network that sees amplitudes, and the physics that predicts patterns from its answer.

    Args:
        config: the model's settings.
        probe: complex `(N, N)` or `(M, N, N)`, in the unit of the file's amplitudes.
        input_scale: k; the network sees `X_norm = k A`.
        intensity_scale: s; `s X_norm` is in photon units. The start value where it is trained.
        mask: bool `(N, N)`, True where the detector is valid; None: everywhere.
        probe_trainable, intensity_scale_trainable: what is learned beside the network.
        dtype: of the weights and of everything computed, `float32` or `float64`.
        seed: of the first weights; None takes one from Keras.
        options: of the network and of the probe's mask, beside the configuration.
        scaling: what beside k and s scales the input.
        network: that of another model, which both then share, for a further experiment of its training.

    Tensors are channel-last: amplitudes `(B, N, N, C)`, positions `(B, 1, 2, C)` = `coords_relative`, minus the
    member's position seen from the group's centre, `(x, y)` pixels, both of the type `dtype`. A `mask` of a call is
    bool, `(N, N)` or whatever broadcasts to the amplitudes. Where they are known, `flux (B, 1, 1, C)` of the beam at
    each member and `background (1, N, N, 1)`, squares of X_norm, come together: what the network is given has them
    taken off (`cleared`), but for the flux in the steps of one that makes a canvas, and what is predicted has them on.
    The blur of the detector, where it is known, is a matrix `blur (1, N, N, 1)` (`ptycho.core.physics.detector_blur`),
    in those steps and in what is predicted.
    The network's object `O_net` becomes the object in the file's units by `object_scale`. Runs eagerly and in
    `tf.function`, with XLA and without; give it `autograph=False`:
    nothing here needs a conversion, and errors keep their type and their one line.
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
        dtype: str = "float32",
        seed: int | None = None,
        options: NetworkOptions = NEUTRAL,
        scaling: InputScaling = NEUTRAL_INPUT,
        network: Network | None = None,
    ) -> None:
        if keras.backend.backend() != "tensorflow":
            raise BackendError(
                f"the TensorFlow backend needs Keras on TensorFlow, found Keras on {keras.backend.backend()}: unset "
                "KERAS_BACKEND or set it to tensorflow"
            )
        super().__init__(name="ptycho_pinn", dtype=dtype)
        self.config = config
        self.options = options
        self.scaling = scaling
        self.labels: dict[str, str | int] = {}  # of the user; an archive keeps them
        self.scan: dict[str, Any] = {}  # what is known of the scan; an archive keeps it
        self.input_scale = float(input_scale)
        self.nominal_intensity_scale = float(intensity_scale)
        spec = network_spec(config, options)
        kind = network_class(config.architecture, "tensorflow")
        self.network: Network = kind(spec, dtype, seed) if network is None else network
        self.subpixel = network_entry(config.architecture).subpixel
        support = probe_support(config, options)
        if probe.shape[-2:] != (config.N, config.N):
            raise DataError(f"the probe must be {config.N} x {config.N} pixels as N says, found shape {probe.shape}")
        self.probe = ProbeLayer(probe, support, probe_trainable, dtype)
        self.log_intensity_scale = self.add_weight(
            shape=(), initializer="zeros", trainable=intensity_scale_trainable, name="log_intensity_scale"
        )
        self.log_intensity_scale.assign(math.log(intensity_scale))
        self.measure_light()
        self.mask = np.ones((config.N, config.N), bool) if mask is None else np.array(mask, bool)
        self.built = True

    def __reduce__(self) -> tuple[Any, ...]:
        """A model travels to another process as its settings and its numbers."""
        modes = self.probe.real_part.numpy() + 1j * self.probe.imaginary_part.numpy()
        scales = self.input_scale, self.nominal_intensity_scale
        trained = self.probe.real_part.trainable, self.log_intensity_scale.trainable
        arguments = self.config, modes, *scales, self.mask, *trained, self.dtype, 0, self.options, self.scaling
        numbers = [variable.numpy() for variable in self.variables]
        return _restored, (arguments, numbers, self.probe.scale, _plain(self.labels), _plain(self.scan))

    def __repr__(self) -> str:
        c = self.config
        return f"PtychoPINN({c.architecture}, N={c.N}, gridsize={c.gridsize}, tensorflow, subpixel {self.subpixel})"

    def measure_light(self) -> None:
        """Note how far the probe's light reaches, and so the corrections; again after the probe was trained."""
        self.light = light_extent(self.probe.file_units())

    @contextmanager
    def training_mode(self) -> Iterator[None]:
        """Within it the network normalises by the batch and notes its statistics, in whatever is traced or run."""
        norms = self.network.normalisations()
        try:
            for norm in norms:
                norm.of_batch = True
            yield
        finally:
            for norm in norms:
                norm.of_batch = False

    @property
    def running_statistics(self) -> list[tf.Variable]:
        """What training changes besides the trained variables."""
        return [part.value for norm in self.network.normalisations() for part in (norm.mean, norm.variance)]

    @property
    def intensity_scale(self) -> float:
        """The s in use: what is saved, and what callers multiply `X_norm` with."""
        return math.exp(float(self.log_intensity_scale.numpy()))

    @property
    def object_scale(self) -> tf.Tensor:
        """`O = object_scale O_net`: times the probe of the file, O predicts the amplitudes of the file."""
        return tf.exp(self.log_intensity_scale.value) * (
            self.probe.scale / (self.input_scale * self.nominal_intensity_scale)
        )

    def object_patches(
        self, normalised: tf.Tensor, mask: tf.Tensor | None = None, positions: tf.Tensor | None = None
    ) -> tf.Tensor:
        """What a `PatchNetwork` makes of `X_norm (B, N, N, C)`: one O_net patch `(B, N, N, C)` per member.

        Positions are needed where the members share one amplitude.
        """
        normalised = tf.cast(normalised, self.dtype)
        constants = projection_constants(tf.stop_gradient(self.probe()))
        pictures = channel_last(project_from_vacuum(channel_first(normalised), constants, self.valid(mask)))
        return self.network(tf.concat([tf.math.real(pictures), tf.math.imag(pictures)], axis=-1), positions)

    @property
    def _on_whole_pixels(self) -> bool:
        """Whether members lie at whole pixels of a canvas that the network makes, and any number of them can."""
        return self.network.canvas and self.config.object_big

    def valid(self, mask: tf.Tensor | None) -> tf.Tensor:
        """The mask of a call, or the model's own, with the image axes last."""
        valid = tf.convert_to_tensor(self.mask if mask is None else mask)
        return channel_first(valid) if valid.shape.rank == 4 else valid

    def canvas_and_members(
        self,
        normalised: tf.Tensor,
        positions: tf.Tensor,
        size: int,
        mask: tf.Tensor | None = None,
        flux: tf.Tensor | None = None,
        background: tf.Tensor | None = None,
        blur: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The group's canvas `(B, size, size)` and the patches `(B, N, N, C)` that the probe meets (O_net units).

        With `object_big` the canvas is one object for all members, from which they are cut; otherwise each stands
        alone and the canvas is the mean of the members moved to the centre. A network that makes the
        canvas sees the first gridsize^2 members; further ones are cut from it all the same, held out for validation.

        Raises:
            DataError: shapes that do not fit; the line names both.
        """
        normalised, positions = tf.cast(normalised, self.dtype), tf.cast(positions, self.dtype)
        self._check_shapes(normalised, positions)
        if background is not None:
            normalised = cleared(normalised, background=tf.cast(background, self.dtype))
        known = (("flux", flux), ("blur", blur))
        recorded = {name: tf.cast(value, self.dtype) for name, value in known if value is not None}
        if not self.scaling.even_groups:
            return self.network.canvas_and_members(self, normalised, positions, size, mask, **recorded)
        gain = self._gain(cleared(normalised, recorded.get("flux")))[..., None]
        canvas, members = self.network.canvas_and_members(self, normalised * gain, positions, size, mask, **recorded)
        return canvas / to_complex(gain[..., 0]), members / to_complex(gain)

    def _gain(self, normalised: tf.Tensor) -> tf.Tensor:
        """`ptycho.core.training.scales.group_gain` of the members that the network sees, `(B, 1, 1)`."""
        full = (self.config.N / 2) ** 2
        seen = normalised[..., : self.network.spec.members]
        energy = tf.reduce_sum(tf.square(seen), axis=(1, 2, 3)) / seen.shape[-1]
        return tf.sqrt(full / tf.maximum(energy, GAIN_FLOOR * full))[:, None, None]

    def _check_shapes(self, normalised: tf.Tensor, positions: tf.Tensor) -> None:
        spec, found = self.network.spec, tuple(normalised.shape)
        fits = len(found) == 4 and found[1:3] == (spec.N, spec.N) and found[0] != 0
        if not fits or found[3] < spec.members or (found[3] > spec.members and not self._on_whole_pixels):
            raise DataError(
                f"amplitudes must be (B, {spec.N}, {spec.N}, {spec.members}) with B >= 1 (C = gridsize^2), "
                f"found {found}"
            )
        expected = (found[0], 1, 2, found[3])
        if not positions.shape.is_compatible_with(expected):
            raise DataError(f"positions must be {expected} for amplitudes {found}, found {tuple(positions.shape)}")

    def group_weight(self) -> tf.Tensor:
        """Weight `(N, N)` of a member on the canvas: the probe's intensity, 1 at its maximum, on a small floor."""
        power = tf.reduce_sum(squared_modulus(tf.stop_gradient(self.probe())), axis=0)
        return power / tf.reduce_max(power) + GROUP_WEIGHT_FLOOR

    def expected_counts(
        self,
        members: tf.Tensor,
        positions: tf.Tensor,
        flux: tf.Tensor | None = None,
        background: tf.Tensor | None = None,
        blur: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Photons that O_net patches `(B, N, N, C)` would give, `s^2 f K (sum_m |F(P_n O_net)|^2) K + s_0^2 b`.

        The flux f is 1, the background b is 0 and the blur K does nothing where they are not known; s_0 is the nominal
        scale, of the data. By the `fourier` rule members lie at whole pixels, and the probe moves by the rest of
        `positions`.
        """
        probe = self.probe()
        if self._on_whole_pixels:
            positions = tf.cast(positions, self.dtype)
            probe = shifted_probes(probe, split_positions(members_first(positions))[1])
        waves = smooth(illuminate(probe, channel_first(members)), self.config.gaussian_smoothing_sigma)
        blur = None if blur is None else channel_first(blur)
        counts = tf.exp(2 * self.log_intensity_scale.value) * channel_last(blurred(intensity(waves), blur))
        counts = counts if flux is None else tf.cast(flux, self.dtype) * counts
        if background is None:
            return counts
        return counts + self.nominal_intensity_scale**2 * tf.cast(background, self.dtype)

    def call(
        self,
        normalised: tf.Tensor,
        positions: tf.Tensor,
        size: int,
        mask: tf.Tensor | None = None,
        flux: tf.Tensor | None = None,
        background: tf.Tensor | None = None,
        blur: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Expected counts `(B, N, N, C)` for `X_norm (B, N, N, C)`: what training compares with the data."""
        members = self.canvas_and_members(normalised, positions, size, mask, flux, background, blur)[1]
        return self.expected_counts(members, positions, flux, background, blur)

    def predict_members(
        self,
        normalised: tf.Tensor,
        positions: tf.Tensor,
        size: int,
        mask: tf.Tensor | None = None,
        *recorded: tf.Tensor,
    ) -> tf.Tensor:
        """Object patches of every member at its own position, complex `(B, N, N, C)`, in the file's units.

        `recorded`: flux, background and blur, where they are known.
        """
        canvas, members = self.canvas_and_members(normalised, positions, size, mask, *recorded)
        if self._on_whole_pixels:
            dx, dy = (-tf.cast(positions, self.dtype)[:, 0, axis, :] for axis in (0, 1))
            members = channel_last(cut(canvas[:, None], dx, dy, self.config.N))
        return self._in_file_units(members)

    def predict_on_grid(
        self,
        normalised: tf.Tensor,
        positions: tf.Tensor,
        size: int,
        mask: tf.Tensor | None = None,
        *recorded: tf.Tensor,
    ) -> tf.Tensor:
        """Object patches of every member as the probe meets them, complex `(B, N, N, C)`, in the file's units.

        By the `fourier` rule they lie at whole pixels of the canvas, `round(-positions)` from its middle, and nothing
        is interpolated; by the `bilinear` rule this is `predict_members`.
        """
        return self._in_file_units(self.canvas_and_members(normalised, positions, size, mask, *recorded)[1])

    def predict_group(
        self,
        normalised: tf.Tensor,
        positions: tf.Tensor,
        size: int,
        mask: tf.Tensor | None = None,
        *recorded: tf.Tensor,
    ) -> tf.Tensor:
        """The central N x N of every group's canvas, complex `(B, N, N, 1)`, in the file's units."""
        canvas = self.canvas_and_members(normalised, positions, size, mask, *recorded)[0]
        margin = (canvas.shape[-1] - self.config.N) // 2
        inner = canvas[:, margin : margin + self.config.N, margin : margin + self.config.N, None]
        return self._in_file_units(inner)

    def _in_file_units(self, patches: tf.Tensor) -> tf.Tensor:
        return to_complex(self.object_scale) * patches


def _plain(value: Any) -> Any:
    """Dictionaries and lists without what Keras has made of those that a layer has."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _restored(
    arguments: tuple[Any, ...],
    numbers: list[NDArray[Any]],
    probe_scale: float,
    labels: dict[str, str | int],
    scan: dict[str, Any],
) -> PtychoPINN:
    """The model that was pickled."""
    model = PtychoPINN(*arguments)
    for variable, values in zip(model.variables, numbers, strict=True):
        variable.assign(values)
    model.probe.scale, model.labels, model.scan = probe_scale, labels, scan
    model.measure_light()
    return model
