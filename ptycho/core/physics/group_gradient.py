"""The likelihood's gradient on the canvas of a group: what the `unrolled` network does between its corrections.

The members of a group lie on its canvas at whole pixels, and the probe carries what is left of each position
(`fourier` rule). With `F_cm = fft2(P_cm O_c) / N` and `|F_c|^2 = sum_m |F_cm|^2`, the gradient of
`L = 1/2 sum_c sum (|F_c| - A_c)^2`, `dL/dRe O + i dL/dIm O` (twice that by conj(O)), is

    g = sum_c place( sum_m conj(P_cm) ifft2( F_cm (1 - A_c / |F_c|) ) ),

and the step `-g / (w + ILLUMINATION_FLOOR max w)`, w = `sum_c place(sum_m |P_cm|^2)`, would be exact for one pattern
and a probe of constant intensity (the amplitude projection of Fienup, Appl. Opt. 21, 2758 (1982), over a group).
Where the flux f_c of the beam is known (`ptycho.core.physics.recording`), `f_c |F_c|^2` is held against `A_c^2`, and
each `1 - A_c / |F_c|` and `|P_cm|^2` becomes `f_c - f_c A_c / sqrt(f_c |F_c|^2)` and `f_c |P_cm|^2`. A background is
taken off the patterns before: in its gradient pixels that it outshines hardly pull, and a few steps get less far.
Where the blur K of the detector is known (`ptycho.core.physics.detector_blur`), `K |F_c|^2 K` is held against `A_c^2`,
and each `1 - A_c / |F_c|` becomes `K (1 - A_c / sqrt(K |F_c|^2 K)) K` in the gradient; the illumination, as K loses no
light, stays. What a blur nearly hides pulls there with the square of what is left of it, and few steps would not bring
it back: the step has `W = (1 + e) (K K + e)^-1 K` around it, e the `BLUR_FLOOR`, which is 0 where the gradient is.
NumPy, the oracle of both backends.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.diffraction import far_field, fourier_shift, propagate_back, smooth
from ptycho.core.physics.patches import cut, place

__all__ = [
    "BLUR_FLOOR",
    "FIELD_FLOOR",
    "ILLUMINATION_FLOOR",
    "LIGHT",
    "amplitude_step",
    "group_illumination",
    "light_extent",
    "shifted_probes",
    "split_positions",
    "way_back",
    "worked_margin",
]

FIELD_FLOOR = 1e-2
"""Added to `|F|^2` under the root, in units of X_norm^2 (whose mean is 1/4). Below it the phase of a field is hardly
known, and iterating on it multiplies rounding: at 1e-6 two backends differ by 2 % after `DESCENT` steps, at 1e-2 by
1e-5."""
BLUR_FLOOR = 1.0
"""Beside the squares of a blur's eigenvalues, the largest of which is 1. An untrained network comes to an error of
0.172 with 0.1, 0.188 with 1, 0.209 along the gradient (star, 1e6 photons, a blur of 1 pixel); of dead leaves of 1e4
photons, 2 a pixel, blurred by 1.5, to 0.295, 0.221 and 0.220."""
ILLUMINATION_FLOOR = 0.02
"""Added to the illumination before it divides, relative to its maximum."""
LIGHT = 0.99
"""Part of the probe's energy that the corrections reach."""

Array = NDArray[Any]

_BLOCK = 8  # canvases, and what a correction sees of them, come in blocks of so many pixels


def split_positions(positions: Array) -> tuple[Array, Array]:
    """Whole pixels and remainders of members seen from the canvas' middle, both `(B, C, 2)`, (x, y).

    `positions` is `(B, C, 2)`: minus the member's position (`coords_relative`). Remainders are in [-0.5, 0.5] px.
    """
    whole = np.rint(-positions)
    return whole, -positions - whole


def group_illumination(probes: Array, whole: Array, size: int, flux: Array | None = None) -> Array:
    """`w = sum_c place(f_c sum_m |P_cm|^2)`, real `(B, size, size)`, for probes `(B, C, M, N, N)` at whole pixels.

    `flux` f is `(B, C, 1, 1)`; None: 1.
    """
    power = np.sum(np.abs(probes) ** 2, axis=2)
    power = power if flux is None else flux * power
    return place(power, whole[..., 0], whole[..., 1], size).sum(axis=1)


def shifted_probes(probe: Array, remainder: Array) -> Array:
    """The probe `(M, N, N)` at the remainders `(B, C, 2)` of its members: `(B, C, M, N, N)`."""
    dx, dy = remainder[..., 0, None], remainder[..., 1, None]
    return fourier_shift(np.broadcast_to(probe, (*remainder.shape[:2], *probe.shape)), dx, dy)


def amplitude_step(
    canvas: Array,
    amplitudes: Array,
    probes: Array,
    whole: Array,
    mask: Array | None = None,
    sigma_px: float = 0.0,
    flux: Array | None = None,
    blur: Array | None = None,
) -> tuple[Array, Array]:
    """One preconditioned gradient step of a group's canvas.

    Args:
        canvas: complex `(B, S, S)`.
        amplitudes: `(B, C, N, N)`, zero frequency at `[N/2, N/2]`, in the unit of the probe.
        probes: `(B, C, M, N, N)`, each at its member's remainder.
        whole: `(B, C, 2)` whole pixels (x, y) of the members from the canvas' middle.
        mask: bool, broadcasts to the amplitudes; an invalid pixel pulls at nothing.
        sigma_px: smoothing of the exit waves (`ptycho.core.physics.diffraction.smooth`, its own adjoint).
        flux: of the beam at each member, `(B, C, 1, 1)`; None: 1.
        blur: the matrix K of the detector's blur, `(..., N, N)`, broadcasts to the amplitudes; None: it is sharp.

    Returns:
        The step `-g / (w + floor)` complex `(B, S, S)`, and `w / max w` real `(B, S, S)`.
    """
    n, size = amplitudes.shape[-1], canvas.shape[-1]
    patches = cut(canvas[:, None], whole[..., 0], whole[..., 1], n)
    fields = far_field(smooth(probes * patches[:, :, None], sigma_px))
    beam = 1.0 if flux is None else flux
    modulus = np.sqrt(_blurred(beam * np.sum(np.abs(fields) ** 2, axis=2), blur) + FIELD_FLOOR)
    # the gradient of sum (|F| - A)^2 / 2 at the detector is F (1 - A / |F|); each step back is an adjoint
    excess = beam * (1 - amplitudes / modulus)
    if mask is not None:
        excess = np.where(mask, excess, 0.0)
    excess = _blurred(excess, None if blur is None else way_back(blur))
    residual = smooth(propagate_back(fields * excess[:, :, None]), sigma_px)
    gradient = place((residual * probes.conj()).sum(axis=2), whole[..., 0], whole[..., 1], size).sum(axis=1)
    illumination = group_illumination(probes, whole, size, flux)
    peak = illumination.max(axis=(-2, -1), keepdims=True)
    return -gradient / (illumination + ILLUMINATION_FLOOR * peak), illumination / peak


def way_back(blur: Array) -> Array:
    """W `(..., N, N)` of a blur K, symmetric: what residuals are blurred with on their way back in a step."""
    n = blur.shape[-1]
    return np.linalg.solve(blur @ blur + BLUR_FLOOR * np.eye(n), (1 + BLUR_FLOOR) * blur)


def _blurred(values: Array, matrix: Array | None) -> Array:
    return values if matrix is None else matrix @ values @ matrix


def light_extent(probe: Array) -> int:
    """Side in pixels, a multiple of 8, of the smallest centred square that holds `LIGHT` of a probe's energy.

    `probe` is `(N, N)` or `(M, N, N)`; N where nothing smaller does.
    """
    power = np.sum(np.abs(probe.reshape(-1, *probe.shape[-2:])) ** 2, axis=0)
    n = power.shape[-1]
    for side in range(_BLOCK, n, _BLOCK):
        margin = (n - side) // 2
        if power[margin : margin + side, margin : margin + side].sum() >= LIGHT * power.sum():
            return side
    return n


def worked_margin(size: int, N: int, extent: int) -> int:
    """Pixels at each edge of a canvas `(size, size)` that no probe of an extent reaches, its patches being N wide."""
    side = math.ceil((size - N + extent) / _BLOCK) * _BLOCK
    return max(0, (size - side) // 2)
