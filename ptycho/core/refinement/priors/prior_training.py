"""A network prior taught by one scan, which has no truth: one half of its photons corrects what is made of the other.

The network sees an object O that was made of one half, and says `m = O + sigma a`. The likelihood of the other half,
pattern by pattern through the forward model, has a derivative with respect to m, and so with respect to the weights.
Noise of the two halves is independent: what the network makes of the one cannot foretell the other's, so that in the
mean over many pixels it is best with the posterior mean. That is the idea of J. Lehtinen et al., Noise2Noise, ICML 2018
(arXiv:1803.04189); the photons take the place of the second picture, because they, not what is made of them, have a
noise that is known, and hardly mind slow phases. What both halves have alike (a wrong probe, an iteration that is not
at its end) is no noise to it and stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.refinement.priors.network_prior import features, in_eights
from ptycho.core.refinement.priors.prior_unet import Gradient, Weights, pulled_unet

__all__ = ["Lesson", "slope_of", "taught"]

Array = NDArray[Any]

RATE, WARM = 1e-3, 10
"""Learning rate, and the steps up to it."""
MEMORY = 0.9, 0.99
"""Of the mean and of the mean square of a derivative (D. P. Kingma and J. Ba, Adam, arXiv:1412.6980), per step."""
TINY = 1e-12
AVERAGE = 0.97
"""Of the weights that are given, per step."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """A tile of an object and what its patterns say of it that it was not made of."""

    image: NDArray[np.complexfloating[Any, Any]]
    """(h, w), made of one half of the photons."""
    sigma: NDArray[np.float64]
    """(h, w), its expected noise (`ptycho.core.refinement.priors.network_prior.expected_noise`)."""
    sharing: NDArray[np.float64]
    """(h, w), how many patterns share a pixel."""
    lit: NDArray[np.bool_]
    """(h, w), where the network is asked."""
    pull: Callable[[Array], Array]
    """From an object (h, w) to the derivative, with respect to its conjugate, of what patterns of the other half say:
    L of `ptycho.core.refinement.device.likelihood`, summed over them."""


def slope_of(weights: Weights, lesson: Lesson, turns: int = 0, mirrored: bool = False) -> Gradient:
    """The derivative of the likelihood of a lesson with respect to every weight, by name.

    Args:
        weights: of the network.
        lesson: h and w are any.
        turns: quarter turns by which the network sees it turned.
        mirrored: whether it is mirrored before.
    """
    seen, turn = features(lesson.image, lesson.sigma, lesson.sharing)
    height, width = lesson.image.shape
    given, pull = pulled_unet(weights, _turned(in_eights(seen), turns, mirrored))
    real, imaginary, _ = _back(given, turns, mirrored)[:, :height, :width]
    away = lesson.sigma * turn * lesson.lit
    slope = lesson.pull(lesson.image + away * (real + 1j * imaginary)) * np.conj(away)
    wanted = np.zeros((3, height + -height % 8, width + -width % 8), given.dtype)
    wanted[:2, :height, :width] = 2 * slope.real, 2 * slope.imag
    return pull(_turned(wanted, turns, mirrored))


def taught(
    weights: Weights,
    lesson: Callable[[np.random.Generator], Lesson],
    seconds: float,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[dict[str, NDArray[np.float32]], int]:
    """Weights after so long, a mean over the last steps, and the number of steps (Adam), one at least.

    How many steps that is goes with the machine; the same number of them from the same seed gives the same weights.

    Args:
        weights: to begin with.
        lesson: draws one.
        seconds: from now on.
        seed: of all that is drawn.
        clock: in seconds.
    """
    rng = np.random.default_rng([seed, 19])
    now = {name: values.copy() for name, values in weights.items()}
    average = {name: values.copy() for name, values in weights.items()}
    first = {name: np.zeros_like(values) for name, values in weights.items()}
    second = {name: np.zeros_like(values) for name, values in weights.items()}
    begun, step = clock(), 0
    while not step or clock() - begun < seconds:
        slope = slope_of(now, lesson(rng), int(rng.integers(4)), bool(rng.integers(2)))
        step += 1
        rate = RATE * min(step / WARM, 1.0)
        keep = min(AVERAGE, step / (step + 9))
        for name, values in now.items():
            for moments, one, memory in ((first, slope[name], MEMORY[0]), (second, slope[name] ** 2, MEMORY[1])):
                moments[name] = (memory * moments[name] + (1 - memory) * one).astype(values.dtype)
            mean, square = (
                moments[name] / (1 - memory**step) for moments, memory in zip((first, second), MEMORY, strict=True)
            )
            values -= (rate * mean / (np.sqrt(square) + TINY)).astype(values.dtype)
            average[name] += ((1 - keep) * (values - average[name])).astype(values.dtype)
    return average, step


def _turned(values: Array, turns: int, mirrored: bool) -> Array:
    """Images `(k, h, w)`, mirrored and turned."""
    return np.ascontiguousarray(np.rot90(values[:, :, ::-1] if mirrored else values, turns, axes=(1, 2)))


def _back(values: Array, turns: int, mirrored: bool) -> Array:
    """The inverse of `_turned`."""
    values = np.rot90(values, -turns, axes=(1, 2))
    return values[:, :, ::-1] if mirrored else values
