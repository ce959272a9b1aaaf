"""Gradient steps on the canvas of a group: `ptycho.core.physics.group_gradient` in TensorFlow.

Members are the second axis.
"""

from __future__ import annotations

import tensorflow as tf

from ptycho.core.physics.group_gradient import BLUR_FLOOR, FIELD_FLOOR, ILLUMINATION_FLOOR
from ptycho.tf.physics import blurred, fourier_shift, smooth, squared_modulus, to_complex
from ptycho.tf.reassembly import cut_whole, place_whole

__all__ = ["SeenGroup", "amplitude_step", "group_illumination", "shifted_probes", "split_positions", "way_back"]


def split_positions(positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whole pixels and remainders of members seen from the canvas' middle, `(B, C, 2)`, from minus their positions."""
    whole = tf.round(-positions)
    return whole, -positions - whole


def shifted_probes(probe: tf.Tensor, remainder: tf.Tensor) -> tf.Tensor:
    """The probe `(M, N, N)` at the remainders `(B, C, 2)` of its members: `(B, C, M, N, N)`."""
    return fourier_shift(probe, remainder[..., 0, None], remainder[..., 1, None])


def group_illumination(probes: tf.Tensor, whole: tf.Tensor, size: int, flux: tf.Tensor | None = None) -> tf.Tensor:
    """`w = sum_c place(f_c sum_m |P_cm|^2)`, real `(B, size, size)`, for probes `(B, C, M, N, N)` at whole pixels."""
    power = tf.reduce_sum(squared_modulus(probes), axis=2)
    return place_whole(power if flux is None else flux * power, whole[..., 0], whole[..., 1], size)


def way_back(blur: tf.Tensor) -> tf.Tensor:
    """W `(..., N, N)` of a blur K, symmetric: what residuals are blurred with on their way back in a step."""
    ones = tf.eye(blur.shape[-1], dtype=blur.dtype)
    return tf.linalg.solve(blur @ blur + BLUR_FLOOR * ones, (1 + BLUR_FLOOR) * blur)


class SeenGroup:
    """The patterns that a group's canvas has to explain: what every step needs of them, made once.

    Arguments as of `CanvasNetwork.call`; `light` is the illumination over its maximum, `(B, size, size)`.
    """

    def __init__(
        self,
        amplitudes: tf.Tensor,
        probes: tf.Tensor,
        whole: tf.Tensor,
        size: int,
        mask: tf.Tensor | None = None,
        sigma_px: float = 0.0,
        flux: tf.Tensor | None = None,
        blur: tf.Tensor | None = None,
    ) -> None:
        # zero frequency first, so that no field has to be shifted
        self.amplitudes = tf.signal.ifftshift(amplitudes, axes=(-2, -1))
        self.mask = None if mask is None else tf.signal.ifftshift(mask, axes=(-2, -1))
        self.blur = None if blur is None else tf.signal.ifftshift(blur, axes=(-2, -1))
        self.back = None if self.blur is None else way_back(self.blur)
        self.probes, self.conjugate, self.sigma_px = probes, tf.math.conj(probes), sigma_px
        self.dx, self.dy = whole[..., 0], whole[..., 1]
        self.flux = flux
        illumination = group_illumination(probes, whole, size, flux)
        peak = tf.reduce_max(illumination, axis=(-2, -1), keepdims=True)
        self.divisor, self.light = to_complex(illumination + ILLUMINATION_FLOOR * peak), illumination / peak

    def step(self, canvas: tf.Tensor) -> tf.Tensor:
        """One preconditioned gradient step of the canvas, complex `(B, S, S)`."""
        n = self.amplitudes.shape[-1]
        patches = cut_whole(canvas, self.dx, self.dy, n)
        fields = tf.signal.fft2d(smooth(self.probes * patches[:, :, None], self.sigma_px)) / n
        power = tf.reduce_sum(squared_modulus(fields), axis=2)
        power = power if self.flux is None else self.flux * power
        excess = 1 - self.amplitudes * tf.math.rsqrt(blurred(power, self.blur) + FIELD_FLOOR)
        excess = excess if self.flux is None else self.flux * excess
        if self.mask is not None:
            excess = tf.where(self.mask, excess, tf.zeros_like(excess))
        excess = blurred(excess, self.back)
        residual = smooth(tf.signal.ifft2d(fields * to_complex(excess)[:, :, None]) * n, self.sigma_px)
        pulls = tf.reduce_sum(residual * self.conjugate, axis=2)
        return -place_whole(pulls, self.dx, self.dy, canvas.shape[-1]) / self.divisor


def amplitude_step(
    canvas: tf.Tensor,
    amplitudes: tf.Tensor,
    probes: tf.Tensor,
    whole: tf.Tensor,
    mask: tf.Tensor | None = None,
    sigma_px: float = 0.0,
    flux: tf.Tensor | None = None,
    blur: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """One preconditioned gradient step `(B, S, S)` of a group's canvas, and the illumination over its maximum."""
    group = SeenGroup(amplitudes, probes, whole, canvas.shape[-1], mask, sigma_px, flux, blur)
    return group.step(canvas), group.light
