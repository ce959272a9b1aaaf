"""What a small network knows of objects: from a noisy one, and the noise of its pixels, to its posterior mean.

The network sees an object O, sigma, its noise as far as light alone tells, and how many patterns share a pixel. It
gives `m = O + sigma a` and `s = sigma exp(b / 2)`, a the two parts of a complex number: the mean and the complex
standard deviation of what the truth may be. Where there is much light it can do nothing, by its form; its layers are
those of `ptycho.core.refinement.priors.prior_unet`. A global phase, which is open, is taken out of what it sees, tile
by tile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.atomic import atomic_path
from ptycho.core.files.damage import readable
from ptycho.core.files.hdf5_values import open_hdf5, own_datasets
from ptycho.core.refinement.priors.prior_unet import Weights, shapes, unet
from ptycho.errors import ArchiveError

__all__ = [
    "SHIPPED",
    "TILE",
    "expected_noise",
    "features",
    "in_eights",
    "posterior",
    "read_weights",
    "write_weights",
]

Array = NDArray[Any]

FORMAT, VERSION = "ptychopinn-network-prior", 1
SHIPPED = Path(__file__).with_name("network_prior.h5")
"""The weights of this library; the file says what made them, and how long that took."""

DARK = 0.5
"""Noise of a pixel that has hardly any light: no less is known of it than that an object is of the order of 1."""
LOG_VARIANCE = -8.0, 4.0
"""Least and greatest b."""
ALONE, SHARED = 0.1, 0.5
"""Noise of a pixel that a single pattern sees, whatever the light, and the patterns more that it falls by e with."""


TILE, OVERLAP = 128, 32
"""Side of what the network sees at once, and what neighbours share, pixels; multiples of 8."""


def expected_noise(photons: Array, sharing: Array) -> Array:
    """Complex standard deviation of the pixels of an object, by what is known before any pattern.

    `sigma^2 = min(1 / I, DARK^2) + (ALONE exp(-(n - 1) / SHARED))^2`. Amplitudes in the far field tell one of the two
    parts of a complex number: of I photons `1 / (4 I)` for it, twice that for both, and as much again for what the
    phases leave open; seen are 0.5 to 1.1 times that. What hardly overlaps is not held by its neighbours.

    Args:
        photons: (H, W) `I`, on every pixel of an object of modulus 1.
        sharing: (H, W) `n`, how many patterns share a pixel (`ptycho.core.refinement.priors.noise_map`).
    """
    least = 1 / DARK**2
    alone = ALONE * np.exp(-np.maximum(sharing - 1, 0) / SHARED)
    return np.sqrt(1 / np.maximum(photons, least) + alone**2)


def features(image: Array, sigma: Array, sharing: Array) -> tuple[NDArray[np.float32], complex]:
    """What the network sees, `(6, H, W)`, and the phase factor that was taken out of the object.

    Real and imaginary part; the same less the mean of their four neighbours, in units of the noise, compressed by
    asinh; the logarithms of noise and sharing.

    Args:
        image: (H, W) complex.
        sigma: (H, W), its expected noise.
        sharing: (H, W), how many patterns share a pixel.
    """
    total = complex((image / sigma**2).sum())
    turn = total / abs(total) if total else 1 + 0j
    seen = image * np.conj(turn)
    padded = np.pad(seen, 1, mode="edge")
    around = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4
    fine = (seen - around) / sigma
    maps = np.log10(sigma) + 1, np.log(np.maximum(sharing, 1)) - 1
    parts = seen.real, seen.imag, np.arcsinh(fine.real), np.arcsinh(fine.imag), *maps
    return np.stack(parts).astype(np.float32), turn


def posterior(
    image: Array, photons: Array, sharing: Array, weights: Weights | None = None, own: Weights | None = None
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Mean and complex standard deviation of what the truth of a noisy object may be.

    Tile by tile, each with the phase factor of its own, seen both ways up; where tiles overlap the one goes over into
    the other.

    Args:
        image: (H, W) complex, of modulus 1 where nothing absorbs.
        photons: (H, W) on every pixel of an object of modulus 1.
        sharing: (H, W), how many patterns share a pixel.
        weights: None: those of this library.
        own: others for the mean (`ptycho.core.refinement.priors.prior_training`); None: the same.
    """
    weights = read_weights(SHIPPED) if weights is None else weights
    sigma = expected_noise(photons, sharing)
    mean = np.zeros(image.shape, np.complex128)
    spread, total = np.zeros(image.shape), np.zeros(image.shape)
    for rows in _tiles(image.shape[0]):
        for columns in _tiles(image.shape[1]):
            box, noise = (rows, columns), sigma[rows, columns]
            seen, turn = features(image[box], noise, sharing[box])
            height, width = noise.shape
            filled = in_eights(seen)
            real, imaginary, log_variance = _both_ways(weights, filled)[:, :height, :width].astype(np.float64)
            if own is not None:
                real, imaginary, _ = _both_ways(own, filled)[:, :height, :width].astype(np.float64)
            fade = np.minimum.outer(_fade(height), _fade(width))
            mean[box] += fade * (image[box] + noise * turn * (real + 1j * imaginary))
            spread[box] += fade * noise * np.exp(np.clip(log_variance, *LOG_VARIANCE) / 2)
            total[box] += fade
    return mean / total, spread / total


def in_eights(seen: Array) -> Array:
    """What the network sees, its sides made longer to multiples of 8."""
    return np.pad(seen, ((0, 0), (0, -seen.shape[1] % 8), (0, -seen.shape[2] % 8)), mode="edge")


def _both_ways(weights: Weights, seen: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean over the image and the same turned by 180 degrees: errors fall by half a per cent to one."""
    turned = unet(weights, seen[:, ::-1, ::-1])
    return np.asarray((unet(weights, seen) + turned[:, ::-1, ::-1]) / 2, np.float32)


def _tiles(length: int) -> Iterator[slice]:
    """Pieces of an axis, which overlap."""
    count = max(1, -(-(length - OVERLAP) // (TILE - OVERLAP)))
    for first in np.linspace(0, max(length - TILE, 0), count).round().astype(int):
        yield slice(int(first), min(int(first) + TILE, length))


def _fade(length: int) -> Array:
    """Weight of a tile along an axis: less towards its ends, where it does not see what is beyond."""
    place = np.arange(length)
    return np.minimum(np.minimum(place, place[::-1]) + 1, OVERLAP / 2)


def write_weights(path: Path, weights: Weights, made: Mapping[str, Any]) -> None:
    """Write the network as HDF5, whole or not at all: a float32 dataset each, and how it was made, in JSON."""
    import h5py  # reading goes through `open_hdf5`

    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update(format=FORMAT, version=VERSION, made=json.dumps(dict(made)))
        for name, values in weights.items():
            file.create_dataset(name, data=values.astype(np.float32))


@cache
def read_weights(path: Path) -> Weights:
    """The arrays of a file of `write_weights`, by canonical name.

    Raises:
        MissingFileError: there is none. ArchiveError: it is of something else, of a newer version, or damaged.
    """
    expected = shapes()
    with (
        readable(path, f"{FORMAT} in HDF5", error=ArchiveError, advice="install the library again"),
        open_hdf5(path) as file,
    ):
        kind, version = file.attrs.get("format"), file.attrs.get("version")
        if kind != FORMAT or version != VERSION:
            raise ArchiveError(
                f"{path}: expected {FORMAT} of version {VERSION}, found {kind} of version {version}; install the "
                "library again"
            )
        found = {name.lstrip("/"): np.asarray(values) for name, values in own_datasets(file)}
    if {name: array.shape for name, array in found.items()} != expected or any(
        array.dtype != np.float32 or not np.isfinite(array).all() for array in found.values()
    ):
        raise ArchiveError(f"{path}: expected the arrays of the network, found others; install the library again")
    return found
