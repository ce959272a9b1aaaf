"""What the patterns of a scan cannot tell while the probe moves, and what it is held by.

For any factor c, ramp k and place s the object `c O(r - s) exp(i k r)` and the probe `P(r - s) exp(-i k r) / c` explain
the patterns as well as O and P. A descent leaves all three where its steps happened to lead. One rule for every engine
says where they belong, so that the object times the probe of the file predicts the amplitudes of the file: the energy
of the probe is that of the file's, and it lies where that one lies, in its window and in its diffraction pattern. The
object then has the ramp that the patterns have beside the file's probe, and no other. On a regular raster the factor
may have the period of the steps (`ptycho.core.refinement.steps.raster`): what the object has there goes to the probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.multislice import projected
from ptycho.core.quality.registration import register_subpixel
from ptycho.core.refinement.device.kernels import Point
from ptycho.core.refinement.steps.preconditioner import illumination
from ptycho.core.refinement.steps.raster import find_grid, raster_of, scanned_area, without_grid
from ptycho.core.refinement.sums.object_share import WHOLE, ObjectShare
from ptycho.core.refinement.sums.parts import places

__all__ = ["UNCHANGED", "Gauge", "Scale", "brightened", "hold", "probe_amplitude", "scale_factor", "straightened"]

Array = NDArray[Any]
Scale = Literal["probe", "object"]

WELL_LIT = 0.1
"""Light, relative to the brightest pixel of the object, from which on a pixel counts for the object's amplitude."""
BRIGHT = 95
"""Percentile of the object's amplitude there that is 1 where no file says how bright the probe is."""
LEAST_RAMP_PX = 0.02
"""Pixels of the pattern; a smaller ramp is not told from none."""
TOLERATED = 0.01
"""Relative rise of the error."""
BROKEN = 0.5
"""Contrast of a grid from which on nothing is known of the object that it is to be taken out of."""


class Gauge(NamedTuple):
    """What was changed."""

    factor: float = 1.0
    """c: what the object was multiplied with, and the probe divided by."""
    ramp: tuple[float, float] = (0.0, 0.0)
    """k (x, y), radians per pixel: the slope that the phase of the object gained, and that of the probe lost."""
    shift: tuple[int, int] = (0, 0)
    """s (x, y), pixels: how far object and probe were moved."""
    grid: float = 0.0
    """Contrast with the period of a raster's steps that went from the object to the probe."""

    @classmethod
    def of(cls, values: Sequence[Any]) -> Gauge:
        """From its three parts as a file holds them."""
        factor, (kx, ky), (x, y), grid = values
        return cls(float(factor), (float(kx), float(ky)), (int(x), int(y)), float(grid))

    def then(self, other: Gauge) -> Gauge:
        """Both changes, one after the other."""
        (kx, ky), (x, y) = self.ramp, self.shift
        ramp, shift = (kx + other.ramp[0], ky + other.ramp[1]), (x + other.shift[0], y + other.shift[1])
        return Gauge(self.factor * other.factor, ramp, shift, other.grid or self.grid)


UNCHANGED = Gauge()
"""Nothing was changed."""


def hold(
    point: Point,
    given: Array,
    scale: Scale,
    moves_probe: bool,
    error: Callable[[Point], float],
    held: bool = False,
    share: ObjectShare = WHOLE,
) -> tuple[Point, Gauge]:
    """The same exit waves, split between object and probe by the rule.

    The factor is exact, and so are whole pixels of a pattern; a ramp between these is for a probe that fades towards
    the edges of its window, a shift for an object that does. What would cost a hundredth of the error is left out.

    Args:
        point: where a descent ended.
        given: (M, N, N) or (N, N), the probe of the scan.
        scale: 'probe' gives the probe the energy `sum |P|^2` of `given`. 'object', for a `given` whose energy means
            nothing, brings the 95th percentile of the object's amplitude to 1, over the pixels that got a tenth of the
            light of the brightest.
        moves_probe: whether the descent moved the probe; where it did not, 'probe' leaves everything as it is.
        error: of a point.
        held: whether shift and ramp stay where the descent has them: near fields tell a shift, unless the beam is
            tilted with it, and a ramp is hidden by a diffuser in the spectrum of the probe; a pupil has its place.
        share: what this process has of the object.
    """
    if not moves_probe and scale == "probe":
        return point, Gauge()
    given, grid = as_modes(np.asarray(given)), 0.0
    if moves_probe and not held:
        point, grid = _ungridded(point, error, share)
    factor = scale_factor(point, given, scale, moves_probe, share)
    scaled = Gauge(factor, grid=grid)
    for gauge in _choices(point.probe, given, factor) if moves_probe and not held else ():
        changed = _changed(point, gauge, share)
        if error(changed) <= (1 + TOLERATED) * error(point):
            return changed, gauge._replace(grid=grid)
    return _changed(point, scaled, share), scaled


def _ungridded(point: Point, error: Callable[[Point], float], share: ObjectShare) -> tuple[Point, float]:
    """A point without the grid of its raster, and the contrast of what was taken out; as it is where there is none."""
    raster = raster_of(point.x, point.y)
    if raster is None or point.object.ndim > 2:  # no slice alone hides a grid behind the probe
        return point, 0.0
    area = scanned_area(share.shape(point.object), point.x, point.y)

    def contrast(image: Array) -> float:
        return share.of_whole(image, lambda whole: find_grid(whole, raster, area).contrast)

    grid = contrast(point.object)
    if not 0 < grid < BROKEN:
        return point, 0.0
    made: list[Array] = []

    def probe_of(whole: Array) -> Array:
        image, probe = without_grid(whole, point.probe, raster, area)
        made.append(image)
        return probe

    probe = share.of_whole(point.object, probe_of)
    image = share.scattered(made[0] if made else None)
    changed = point._replace(object=image, probe=probe)
    if error(changed) > (1 + TOLERATED) * error(point):
        return point, 0.0
    return changed, float(np.sqrt(max(grid**2 - contrast(image) ** 2, 0)))


def scale_factor(point: Point, given: Array, scale: Scale, moves_probe: bool, share: ObjectShare = WHOLE) -> float:
    """What `hold` multiplies the object of a point with; its arguments are described there."""
    if scale == "object":
        image = projected(np.asarray(point.object))
        return 1 / share.of_whole(image, lambda whole: _brightness(point._replace(object=whole)))
    return _of_energy(point.probe, as_modes(np.asarray(given))) if moves_probe else 1.0


def straightened(point: Point, given: Array, share: ObjectShare = WHOLE) -> tuple[Point, Gauge]:
    """A point of a descent under way, its probe at the place and the pattern of `given`, whatever that costs."""
    gauge = next(_choices(point.probe, as_modes(np.asarray(given)), 1.0), Gauge())
    return _changed(point, gauge, share), gauge


def _choices(probe: Array, given: Array, factor: float) -> Iterator[Gauge]:
    """What brings a probe to the place and the pattern of another one, the best first; nothing for little."""
    pixel = 2 * np.pi / given.shape[-1]
    dy, dx = register_subpixel(_pattern(probe), _pattern(given))
    y, x = (round(step) for step in register_subpixel(probe_amplitude(probe), probe_amplitude(given), upsample=1))
    if max(abs(dx), abs(dy)) >= LEAST_RAMP_PX or x or y:
        yield Gauge(factor, (-pixel * dx, -pixel * dy), (x, y))
        yield Gauge(factor, (-pixel * round(dx), -pixel * round(dy)), (x, y))
        yield Gauge(factor, (-pixel * round(dx), -pixel * round(dy)))


def _changed(point: Point, gauge: Gauge, share: ObjectShare) -> Point:
    """A point after a change of its gauge."""
    (kx, ky), (x, y), shape = gauge.ramp, gauge.shift, share.shape(point.object)
    image = np.roll(share.fetched(point.object, lambda rows: (rows - y) % shape[0]) if y else point.object, x, -1)
    probe = np.roll(point.vectors, (y, x), (-2, -1))
    vectors = (probe / gauge.factor * _ramp(probe.shape[1:], -kx, -ky)).astype(probe.dtype)
    rows = share.first_row + np.arange(image.shape[-2])
    ramp = _ramp(shape, kx, ky, rows)
    return point._replace(object=brightened(image, gauge.factor, ramp)).with_vectors(vectors)


def brightened(image: Array, factor: float, ramp: Array | float = 1.0) -> Array:
    """An object times a factor, to which every slice of a thick one has its share, and a ramp, which the first has:
    there, that of the probe undoes it before it goes astray in free space.
    """
    if image.ndim == 2:
        return (image * factor * ramp).astype(image.dtype)
    made = (image * factor ** (1 / len(image))).astype(image.dtype)
    made[0] *= ramp
    return made


def _of_energy(probe: Array, given: Array) -> float:
    """What `probe` is divided by to have the energy of `given`."""
    return float(np.linalg.norm(probe) / np.linalg.norm(given))


def _brightness(point: Point) -> float:
    """The 95th percentile of the amplitude of an object of one slice where it is well lit."""
    image = point.object
    rows, cols, _, _ = places(point.x, point.y, point.probe.shape[-1], image.shape)
    light = illumination(probe_amplitude(point.probe) ** 2, rows, cols, image.shape)
    return float(np.percentile(np.abs(image[light > WELL_LIT * light.max()]), BRIGHT))


def probe_amplitude(probe: Array) -> Array:
    """Amplitude `(N, N)` of a probe `(M, N, N)`, all modes together."""
    return np.sqrt((np.abs(probe) ** 2).sum(axis=0))


def _pattern(probe: Array) -> Array:
    """Amplitude `(N, N)` of the diffraction pattern of a probe `(M, N, N)` without an object."""
    return probe_amplitude(np.fft.fft2(probe))


def _ramp(shape: tuple[int, ...], kx: float, ky: float, rows: NDArray[np.int64] | None = None) -> Array:
    """`exp(i (kx x + ky y))`, 1 in the middle; of all rows, or of these."""
    y, x = (np.arange(size) - size // 2 for size in shape)
    if rows is not None:
        y = rows - shape[0] // 2
    return np.exp(1j * np.add.outer(ky * y, kx * x))
