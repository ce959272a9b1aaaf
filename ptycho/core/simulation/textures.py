"""Random textures for test objects: dead leaves, Gaussian field, gradient noise, polyhedra.

Each is a function `(shape, rng, ...) -> (amplitude field, phase field)`, two real float64 `(H, W)` arrays of any
range. All lengths are pixels, so that a larger shape shows more of the same texture.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ptycho.errors import ConfigError

__all__ = ["dead_leaves", "gaussian_field", "perlin", "polyhedra"]

Field = NDArray[np.float64]
Shape = tuple[int, int]

_LEAVES_AT_ONCE = 256
"""Random numbers are drawn for this many leaves at a time."""


def dead_leaves(
    shape: Shape, rng: np.random.Generator, radii: tuple[float, float] = (3.0, 48.0), edge: float = 0.7
) -> tuple[Field, Field]:
    """Disks that hide one another, like leaves on the ground, down to the last uncovered pixel.

    The density of the radii is proportional to `r^-3`, which gives occlusions at every scale, as in natural
    images. The leaves are drawn from the top one down, so that the picture is an exact sample of the stationary
    model. Each leaf has an amplitude and a phase of its own, evenly distributed and unrelated.

    Args:
        shape: (H, W), pixels.
        rng: source of every random number.
        radii: (smallest, largest) radius, pixels.
        edge: sigma of the Gaussian that softens the edges, pixels; 0 leaves them sharp.

    Raises:
        ConfigError: radii that are not positive or reversed.

    Source: Lee, Mumford and Huang, Occlusion models for natural images, Int. J. Comput. Vision 41 (2001).
    """
    smallest, largest = radii
    if not 0.5 <= smallest <= largest < math.inf:
        raise ConfigError(f"radii: expected 0.5 <= smallest <= largest, found {radii}; correct them")
    height, width = shape
    fields = np.zeros((2, height, width))
    free = np.ones(shape, bool)
    left = height * width
    while left:
        for u, y_share, x_share, *levels in rng.random((_LEAVES_AT_ONCE, 5)):
            radius = (smallest**-2 + u * (largest**-2 - smallest**-2)) ** -0.5
            y = y_share * (height + 2 * largest) - largest
            x = x_share * (width + 2 * largest) - largest
            rows = slice(max(0, math.ceil(y - radius)), min(height, math.floor(y + radius) + 1))
            cols = slice(max(0, math.ceil(x - radius)), min(width, math.floor(x + radius) + 1))
            if rows.start >= rows.stop or cols.start >= cols.stop:
                continue
            dy, dx = np.arange(rows.start, rows.stop) - y, np.arange(cols.start, cols.stop) - x
            seen = free[rows, cols] & (dy[:, None] ** 2 + dx[None, :] ** 2 <= radius**2)
            left -= int(np.count_nonzero(seen))
            free[rows, cols] &= ~seen
            for field, level in zip(fields, levels, strict=True):
                field[rows, cols][seen] = level
    amplitude, phase = (gaussian_filter(field, edge) if edge else field for field in fields)
    return amplitude, phase


def gaussian_field(shape: Shape, rng: np.random.Generator, exponent: float = 3.0) -> tuple[Field, Field]:
    """Two unrelated Gaussian random fields whose power falls as `|f|^-exponent`; periodic.

    Args:
        shape: (H, W), pixels.
        rng: source of every random number.
        exponent: 0 is white noise, 2 to 4 looks like clouds.
    """
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    frequency[0, 0] = math.inf if exponent > 0 else 1.0  # no mean where it would be infinite
    noise = np.fft.rfft2(rng.standard_normal((2, *shape))) * frequency ** (-exponent / 2)
    amplitude, phase = np.fft.irfft2(noise, s=shape)
    return amplitude, phase


def perlin(
    shape: Shape, rng: np.random.Generator, period: float = 48.0, octaves: int = 4, persistence: float = 0.5
) -> tuple[Field, Field]:
    """Two unrelated gradient-noise fields: octave k has period `period / 2^k` and weight `persistence^k`.

    Each octave interpolates random unit gradients on a square lattice with the fade `6 t^5 - 15 t^4 + 10 t^3`,
    which has continuous second derivatives; it is 0 on the lattice points and below `sqrt(1/2)` elsewhere.

    Args:
        shape: (H, W), pixels.
        rng: source of every random number.
        period: lattice constant of the first octave, pixels; octaves below 2 pixels are left out.
        octaves: number of octaves.
        persistence: weight of an octave relative to the one before it.

    Raises:
        ConfigError: a period below 2 pixels, no octave, or a weight that is not positive.

    Source: Perlin, Improving noise, ACM Trans. Graph. 21 (2002).
    """
    if not 2 <= period < math.inf or octaves < 1 or not persistence > 0:
        found = f"{period}, {octaves} and {persistence}"
        raise ConfigError(
            f"perlin: expected period >= 2, octaves >= 1 and persistence > 0, found {found}; correct them"
        )
    amplitude, phase = np.zeros(shape), np.zeros(shape)
    for octave in range(octaves):
        lattice, weight = period / 2**octave, persistence**octave
        if lattice < 2:
            break
        amplitude += weight * _gradient_noise(shape, lattice, rng)
        phase += weight * _gradient_noise(shape, lattice, rng)
    return amplitude, phase


def _gradient_noise(shape: Shape, lattice: float, rng: np.random.Generator) -> Field:
    (row, v), (col, u) = (_cell(n, lattice) for n in shape)
    angle = 2 * np.pi * rng.random((int(row[-1]) + 2, int(col[-1]) + 2))
    gradient_y, gradient_x = np.sin(angle), np.cos(angle)
    fade_y, fade_x = (t**3 * (t * (6 * t - 15) + 10) for t in (v[:, None], u[None, :]))
    noise = np.zeros(shape)
    for down, weight_y in ((0, 1 - fade_y), (1, fade_y)):
        for right, weight_x in ((0, 1 - fade_x), (1, fade_x)):
            corner = np.ix_(row + down, col + right)
            slope = gradient_y[corner] * (v[:, None] - down) + gradient_x[corner] * (u[None, :] - right)
            noise += weight_y * weight_x * slope
    return noise


def _cell(n: int, lattice: float) -> tuple[NDArray[np.intp], Field]:
    """Lattice cell of every pixel of a line, and its place inside the cell, in [0, 1)."""
    place = np.arange(n) / lattice
    cell = np.floor(place)
    return cell.astype(np.intp), place - cell


def polyhedra(
    shape: Shape,
    rng: np.random.Generator,
    radii: tuple[float, float] = (8.0, 40.0),
    cuts: int = 8,
    density: float = 4.0,
) -> tuple[Field, Field]:
    """The projected thickness of random convex polyhedra of one material: phase high, amplitude low where thick.

    A polyhedron is a cube in any orientation, its corners `radius` from its middle, cut by planes of any
    orientation at 0.35 to 0.6 of the radius. Thicknesses add up where polyhedra overlap: edges of every angle and
    slope occur.

    Args:
        shape: (H, W), pixels.
        rng: source of every random number.
        radii: (smallest, largest) radius, pixels; its logarithm is evenly distributed.
        cuts: planes that cut each cube.
        density: mean number of circumscribed disks over a pixel.

    Raises:
        ConfigError: radii that are not positive or reversed, less than 0 cuts, or a density that is not positive.
    """
    smallest, largest = radii
    if not 0 < smallest <= largest < math.inf or cuts < 0 or not 0 < density < math.inf:
        found = f"{radii}, {cuts} and {density}"
        raise ConfigError(f"polyhedra: expected radii > 0, cuts >= 0 and density > 0, found {found}; correct them")
    height, width = shape
    thickness = np.zeros(shape)
    area = (height + 2 * largest) * (width + 2 * largest)
    aimed = density * area
    while aimed > 0:
        radius = smallest * (largest / smallest) ** rng.random()
        y, x = rng.random(2) * (height + 2 * largest, width + 2 * largest) - largest
        axes = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        planes = rng.standard_normal((cuts, 3))
        normals = np.concatenate([axes, -axes, planes / np.linalg.norm(planes, axis=1, keepdims=True)])
        distances = radius * np.concatenate([np.full(6, math.sqrt(1 / 3)), rng.uniform(0.35, 0.6, cuts)])
        aimed -= math.pi * radius**2
        rows = slice(max(0, math.ceil(y - radius)), min(height, math.floor(y + radius) + 1))
        cols = slice(max(0, math.ceil(x - radius)), min(width, math.floor(x + radius) + 1))
        if rows.start < rows.stop and cols.start < cols.stop:
            dy, dx = np.arange(rows.start, rows.stop) - y, np.arange(cols.start, cols.stop) - x
            thickness[rows, cols] += _chord(dy[:, None], dx[None, :], normals, distances)
    return -thickness, thickness


def _chord(dy: Field, dx: Field, normals: Field, distances: Field) -> Field:
    """Length along z of the lines at (dy, dx) inside of all half-spaces `n . (x, y, z) <= d`, n a unit vector."""
    shape = np.broadcast_shapes(dy.shape, dx.shape)
    near, far = np.full(shape, -math.inf), np.full(shape, math.inf)
    for (along_x, along_y, along_z), distance in zip(normals, distances, strict=True):
        z = (distance - along_x * dx - along_y * dy) / along_z
        if along_z > 0:
            np.minimum(far, z, out=far)
        else:
            np.maximum(near, z, out=near)
    return np.maximum(far - near, 0.0)
