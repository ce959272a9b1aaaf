"""The probe as a layer: modes, support mask, fixed or trainable, always of the normalised energy."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptycho import params
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.scaling import probe_scale
from ptycho.tf.direct_layer import DirectLayer
from ptycho.tf.physics import squared_modulus, to_complex

__all__ = ["ProbeLayer", "set_probe_guess"]


class ProbeLayer(DirectLayer):
    """Probe modes `(M, N, N)` in normalised units, `sum |P_n|^2 = (N/2)^2`, times a support mask.

    The energy is kept fixed also while the probe is trained: it is the same freedom as the object's scale.

    Args:
        probe: complex `(N, N)` or `(M, N, N)` in the unit of the file's amplitudes.
        support: real `(N, N)` in [0, 1] that multiplies the probe, or None.
        trainable: whether the modes are a parameter.
        dtype: of their real and imaginary parts, `float32` or `float64`.
    """

    def __init__(
        self, probe: NDArray[Any], support: NDArray[Any] | None, trainable: bool, dtype: str = "float32"
    ) -> None:
        super().__init__(name="probe", dtype=dtype)
        modes = np.asarray(as_modes(probe), np.complex64)
        n = modes.shape[-1]
        self.scale = probe_scale(modes if support is None else modes * support, n)
        normalised = modes * np.float32(self.scale)
        self.real_part, self.imaginary_part = (
            self.add_weight(shape=part.shape, initializer=_values(part), trainable=trainable, name=f"{name}_part")
            for name, part in (("real", normalised.real), ("imaginary", normalised.imag))
        )
        self.support = None if support is None else np.asarray(support, np.float32)
        self.built = True

    def call(self) -> tf.Tensor:
        """Normalised, masked modes, complex `(M, N, N)`."""
        modes, factor = self._normalised()
        return modes * to_complex(factor)

    def _modes(self) -> tf.Tensor:
        return tf.complex(self.real_part.value, self.imaginary_part.value)

    def _normalised(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Masked modes, and the factor that gives them their energy."""
        modes = self._modes()
        if self.support is not None:
            modes *= to_complex(tf.cast(self.support, self.dtype))
        return modes, (modes.shape[-1] / 2) / tf.sqrt(tf.reduce_sum(squared_modulus(modes)))

    def file_units(self, masked: bool = True) -> NDArray[np.complex64]:
        """The probe in the unit of the file it came from, complex64 `(M, N, N)`: as used, or before the mask."""
        modes, factor = self._normalised()
        if not masked:
            modes = self._modes()
        return (modes.numpy() * (factor.numpy() / self.scale)).astype(np.complex64)

    def take_energy_of(self, probe: NDArray[Any]) -> None:
        """Express results in the unit of another file's probe: the modes stay, their energy in file units changes."""
        modes = np.asarray(as_modes(probe), np.complex64)
        self.scale = probe_scale(modes if self.support is None else modes * self.support, modes.shape[-1])


def _values(array: NDArray[Any]) -> Any:
    """An initialiser that is an array."""

    def initialise(shape: tuple[int, ...], dtype: str) -> tf.Tensor:
        return keras.ops.convert_to_tensor(array.reshape(shape), dtype)

    return initialise


def set_probe_guess(X_or_None: Any, probe: NDArray[Any]) -> None:
    """Write a probe `(N, N)` or `(M, N, N)` to `params.cfg["probe"]`, complex64 `(M, N, N)`.

    The first argument, kept for compatibility with ptychodus, is not looked at: a probe is given, never guessed from
    patterns.
    """
    params.cfg["probe"] = np.asarray(as_modes(np.asarray(probe)), np.complex64)
