"""The network of the network prior, and its derivative.

A U-Net (O. Ronneberger, P. Fischer and T. Brox, MICCAI 2015, 234) of 3x3 convolutions with zero padding and SiLU.
Images are `(H + 2, W + 2, channels)` with a border of 0: moved by a row and a column they are the same memory from
another place on, so that nothing is copied for a convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["CHANNELS", "LEVELS", "Gradient", "Weights", "pulled_unet", "shapes", "unet"]

Array = NDArray[Any]
Weights = Mapping[str, NDArray[np.float32]]
Gradient = dict[str, NDArray[np.float32]]
Back = Callable[[Array], Array]
"""From the derivative with respect to what a layer gives to that with respect to what it sees."""

CHANNELS = 6
"""What the network sees of a pixel (`ptycho.core.refinement.priors.network_prior.features`)."""
LEVELS = (24, 40, 64, 96)
"""Channels of every level, the finest first."""
MOVES = [(row, column) for row in range(3) for column in range(3)]


def shapes() -> dict[str, tuple[int, ...]]:
    """Canonical name -> shape of every array of the network; kernels are `(row, column, in, out)`."""
    ins, up = (CHANNELS, *LEVELS[:-1]), LEVELS[::-1]
    layers: list[tuple[str, int, int]] = []
    for k, out in enumerate(LEVELS):
        layers += [(f"encoder/{k}/conv1", ins[k], out), (f"encoder/{k}/conv2", out, out)]
    for k, out in enumerate(up[1:]):
        layers += [(f"decoder/{k}/conv1", up[k] + out, out), (f"decoder/{k}/conv2", out, out)]
    layers.append(("head", LEVELS[0], 3))
    return {
        name: shape
        for layer, seen, out in layers
        for name, shape in ((f"{layer}/kernel", (3, 3, seen, out)), (f"{layer}/bias", (out,)))
    }


def unet(weights: Weights, seen: NDArray[np.float32]) -> NDArray[np.float32]:
    """The network: `(CHANNELS, H, W)` with sides by 8 -> `(3, H, W)`, the two parts of a, and b.

    Args:
        weights: by canonical name, kernels `(row, column, in, out)`.
        seen: of `features`.
    """
    return _run(_Layers(weights, None), seen)[0]


def pulled_unet(
    weights: Weights, seen: NDArray[np.float32]
) -> tuple[NDArray[np.float32], Callable[[NDArray[np.float32]], Gradient]]:
    """What `unet` gives, and the map from a derivative of that `(3, H, W)` to the one of every weight, by name."""
    found: Gradient = {}
    given, backs = _run(_Layers(weights, found), seen)

    def pull(slope: NDArray[np.float32]) -> Gradient:
        back = _framed(np.moveaxis(slope, 0, -1))
        for step in reversed(backs):
            back = step(back)
        return found

    return given, pull


def _run(layers: _Layers, seen: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[Back]]:
    """What the network gives, and the ways back, layer by layer."""
    x = _framed(np.moveaxis(seen, 0, -1))
    backs: list[Back] = []
    skips: list[Array] = []
    slopes: list[Array] = []
    for level in range(len(LEVELS)):
        if level:
            skips.append(x)
            x = _framed(_halved(_inner(x)))
            backs.append(lambda back: _framed(_spread(_inner(back)) / 4) + slopes.pop())
        x = layers.block(f"encoder/{level}", x, backs)
    for level, skip in enumerate(reversed(skips)):
        below = x.shape[-1]
        x = np.concatenate([_framed(_spread(_inner(x))), skip], axis=-1)

        def parted(back: Array, below: int = below) -> Array:
            slopes.append(np.ascontiguousarray(back[..., below:]))
            return _framed(4 * _halved(_inner(back[..., :below])))

        backs.append(parted)
        x = layers.block(f"decoder/{level}", x, backs)
    x = layers.convolved("head", x, backs)
    return np.moveaxis(_inner(x), -1, 0), backs


class _Layers:
    """Layers of some weights; with `found` their gradients, which come in there on the way back."""

    def __init__(self, weights: Weights, found: Gradient | None) -> None:
        self._weights, self._found = weights, found

    def block(self, name: str, x: Array, backs: list[Back]) -> Array:
        """Two convolutions, SiLU after each."""
        for number in (1, 2):
            x = self.convolved(f"{name}/conv{number}", x, backs)
            gate = expit(x)
            if self._found is not None:
                slope = gate * (1 + x * (1 - gate))
                backs.append(lambda back, slope=slope: back * slope)  # type: ignore[misc]
            x = x * gate
        return x

    def convolved(self, name: str, x: Array, backs: list[Back]) -> Array:
        """A 3x3 convolution, 0 beyond the edge; the border of what comes out is 0."""
        kernel, bias = self._weights[f"{name}/kernel"], self._weights[f"{name}/bias"]
        if self._found is not None:
            found = self._found

            def pull(back: Array) -> Array:
                rows, slope = _rows(x), _middle(back)
                found[f"{name}/bias"] = slope.sum(axis=0)
                moved = (rows[_begin(x, move) :][: len(slope)].T @ slope for move in MOVES)
                found[f"{name}/kernel"] = np.stack(list(moved)).reshape(kernel.shape)
                return _summed(back, kernel[::-1, ::-1].swapaxes(2, 3))

            backs.append(pull)
        return _summed(x, kernel, bias)


def _summed(x: Array, kernel: Array, bias: Array | float = 0.0) -> Array:
    """The convolution of a framed image, framed."""
    made = np.zeros((*x.shape[:2], kernel.shape[-1]), x.dtype)
    rows, into = _rows(x), _middle(made)
    into += bias
    one = np.empty_like(into)
    for row, column in MOVES:
        into += np.matmul(rows[_begin(x, (row, column)) :][: len(into)], kernel[row, column], out=one)
    made[1:-1, 0] = made[1:-1, -1] = 0
    return made


def _rows(x: Array) -> Array:
    """The pixels of a framed image, one a row."""
    return x.reshape(-1, x.shape[-1])


def _middle(x: Array) -> Array:
    """Those from the first inner pixel to the last one."""
    width = x.shape[1]
    return _rows(x)[width + 1 : -width - 1]


def _begin(x: Array, move: tuple[int, int]) -> int:
    """Where they begin in the image that is moved."""
    return move[0] * x.shape[1] + move[1]


def _framed(x: Array) -> Array:
    """With a border of 0."""
    return np.pad(x, ((1, 1), (1, 1), (0, 0)))


def _inner(x: Array) -> Array:
    """Without it."""
    return x[1:-1, 1:-1]


def _halved(x: Array) -> Array:
    """Means of 2x2 pixels."""
    return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4


def _spread(x: Array) -> Array:
    """Every pixel as 2x2."""
    return x.repeat(2, axis=0).repeat(2, axis=1)
