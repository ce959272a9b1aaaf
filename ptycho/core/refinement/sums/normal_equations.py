"""Gradients and curvatures of the likelihood in the numbers that have a step of their own.

Positions, the map of a stage, the coefficients of a probe that varies, the flux, the background, the blur and the
distance between slices: few numbers, of a pattern each or of all, so that a step solves their normal equations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.detector_blur import blur_matrix, blur_slope
from ptycho.core.refinement.device.kernels import Point, Terms
from ptycho.core.refinement.device.likelihood import intensity_floor
from ptycho.core.refinement.sums.batches import Batches
from ptycho.core.refinement.sums.parts import Part, own_modes
from ptycho.core.refinement.sums.processes import gathered

__all__ = ["NormalEquations"]

Array = NDArray[Any]


class NormalEquations(Batches):
    """Normal equations of the patterns of a scan, at a point."""

    def _terms(self, of: Callable[[Part], Any], numbers: int) -> Iterator[tuple[NDArray[np.int64], Terms]]:
        """Normal equations in so many numbers of each pattern seen, of all processes, fetched at once."""
        indices, mine = self._own_terms(of, numbers)
        for some, *terms in gathered(self.processes, [(indices, *mine)], self._all_seen, ((numbers,), (numbers,) * 2)):
            yield some, Terms(*terms)

    def _own_terms(self, of: Callable[[Part], Any], numbers: int) -> tuple[NDArray[np.int64], Terms]:
        """The same of this process alone."""
        indices, each = self._rows(self.seen, of, (numbers, 1 + numbers))
        return indices, Terms(each[..., 0], each[..., 1:])

    def told(self, indices: NDArray[np.int64], values: Array) -> tuple[NDArray[np.int64], Array]:
        """Numbers of all patterns seen (b, k), from those that this process has found for its own."""
        ((some, found),) = gathered(self.processes, [(indices, values)], self._all_seen, (values.shape[1:],))
        return some, found

    def total(self, *values: Array) -> tuple[Array, ...]:
        """The sums over all patterns seen, from those over the patterns of this process."""
        return self.processes.sum(*values)

    def position_terms(self, point: Point) -> Iterator[tuple[NDArray[np.int64], Terms]]:
        """Normal equations of the positions seen, with the patterns they belong to."""
        image, probe = self._images(point)

        def terms_of(part: Part) -> Any:
            patches = self.kernels.cut(image, part.corners, self.n)
            measured, ramps, transfer = self._measured(part, point), self._ramps(part), self._transfer(part)
            mixed = self._mixture(part)
            own = own_modes(part, probe)
            return self.kernels.position_terms(own, patches, measured, ramps, transfer, mixed)

        return self._terms(terms_of, 2)

    def variation_terms(self, point: Point) -> tuple[NDArray[np.int64], Terms]:
        """Normal equations of the coefficients of a probe that varies, the real parts first, in the patterns that this
        process sees, and which these are.
        """
        image, probe = self._images(point)
        variation = self.kernels.image(point.variation)

        def terms_of(part: Part) -> Any:
            look = self._look(part, point, image, probe)
            along = self.kernels.shifted(variation, self._ramps(part))
            moves = self.kernels.fields(along, self._patches(part, look, image), self._transfer(part))
            mixed, measured = self._mixture(part), self._measured(part, point)
            return self.kernels.variation_terms(look.fields, moves, self._places_each, mixed, measured)

        return self._own_terms(terms_of, 2 * len(point.variation))

    def stretch_terms(self, point: Point) -> Iterator[tuple[NDArray[np.int64], Terms]]:
        """Normal equations of a map M of positions that takes the object along, with their patterns:
        gradient (b, 4), curvature (b, 4, 4).

        Every patch O_j(u) then changes by `-M u . grad O`, whatever its place: the object under a patch is stretched
        about the patch's middle. The numbers are those of M, row by row.
        """
        image, probe = self._images(point)
        slopes = [self.kernels.image(each) for each in np.gradient(point.object, axis=(-2, -1))[::-1]]
        pixels = self.kernels.image(np.arange(self.n) - self.n // 2)
        floor = self.processes.first(partial(intensity_floor, self.scan, "poisson"))

        def terms_of(part: Part) -> Any:
            look = self._look(part, point, image, probe)
            dx, dy = part.remainder
            away_x = self.kernels.image((dx[:, None] - pixels)[:, None, :])
            away_y = self.kernels.image((dy[:, None] - pixels)[:, :, None])
            cut = [self.kernels.cut(slope, part.corners, self.n) for slope in slopes]
            moves = [patch * away for patch in cut for away in (away_x, away_y)]
            measured, transfer = self._measured(part, point), self._transfer(part)
            return self.kernels.patch_terms(look.fields, look.probes, moves, measured, floor, transfer)

        return self._terms(terms_of, 4)

    def unseen_errors(self, point: Point, shifts: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Array]]:
        """Likelihoods (b, K) of the patterns held out, with each of them moved by whole pixels, batch by batch.

        Args:
            point: where.
            shifts: (n, K, 2) of every pattern, x and y; all within the object.
        """
        image, probe = self._images(point)

        def errors_of(part: Part) -> Array:
            measured, moves = self._measured(part, point), shifts[part.indices]
            look, errors = self._look(part, point, image, probe), []
            for k in range(moves.shape[1]):
                rows, cols = part.places[0] + moves[:, k, 1], part.places[1] + moves[:, k, 0]
                patches = self.kernels.cut(image, self.kernels.corners(rows, cols), self.n)
                fields = self.kernels.fields(look.probes, patches, self._transfer(part))
                errors.append(self.kernels.errors(fields, measured))
            return np.stack(errors, axis=1)

        found = self._rows(self.unseen, errors_of, shifts.shape[1:2])
        return gathered(self.processes, [found], self._all_unseen, (shifts.shape[1:2],))

    @property
    def greatest_stretch(self) -> float:
        """Of the distance between slices, that the pixels still sample."""
        return 1.0 if self.gap is None else abs(self.gap.fresnel_number) * self.n

    def stretch_slope(self, point: Point) -> tuple[float, float]:
        """Gradient and curvature in the distance between slices, relative to the one given."""
        image, probe = self._images(point)
        if (sliced := self.sliced) is None:
            return 0.0, 0.0

        def terms_of(part: Part) -> Any:
            look = self._look(part, point, image, probe)
            return sliced.stretch_terms(look.fields, self._measured(part, point), self._transfer(part))

        return self._number(terms_of)

    def _number(self, of: Callable[[Part], Any]) -> tuple[float, float]:
        """Gradient and curvature in one number that all patterns share."""
        _, each = self._rows(self.seen, of, (1, 2))
        gradient, curvature = self._of_all(*each.sum(axis=(0, 1)).tolist())
        return gradient, curvature

    def flux_terms(self, point: Point) -> Iterator[tuple[NDArray[np.int64], Array, Array]]:
        """Gradient and curvature (b,) in the logarithm of the root of the flux, with their patterns."""
        image, probe = self._images(point)

        def terms_of(part: Part) -> Any:
            look = self._look(part, point, image, probe)
            return self.kernels.flux_terms(look.fields, self._measured(part, point))

        for indices, terms in self._terms(terms_of, 1):
            yield indices, terms.gradient[:, 0], terms.curvature[:, 0, 0]

    def background_terms(self, point: Point) -> tuple[Array, Array]:
        """Gradient and curvature (N, N) of the patterns seen, in the background, zero frequency in the middle."""
        image, probe = self._images(point)

        def terms_of_part(part: Part) -> Any:
            look = self._look(part, point, image, probe)
            return self.kernels.background_terms(look.fields, self._measured(part, point))

        def terms_of(parts: Sequence[Part]) -> Any:
            return reduce(add, map(terms_of_part, self._in_turn(parts)))

        lanes = self.kernels.together(terms_of, self._shares(self.seen))
        sums = self.kernels.numpy(reduce(add, lanes)) if lanes else np.zeros((2, self.n, self.n))
        gradient, curvature = self.processes.sum(sums)[0]
        if self.transfer_function is not None:
            return gradient, curvature
        return np.fft.fftshift(gradient), np.fft.fftshift(curvature)

    def blur_slope(self, point: Point) -> tuple[float, float]:
        """Gradient and curvature of the patterns seen, in t of the blur (`ptycho.core.physics.detector_blur`)."""
        image, probe = self._images(point)
        sigma = float(point.blur)
        blur, slope = (self.kernels.blur(self._ordered(of(self.n, sigma))) for of in (blur_matrix, blur_slope))

        def terms_of(part: Part) -> Any:
            look = self._look(part, point, image, probe)
            return self.kernels.blur_terms(look.fields, self._measured(part, point), blur, slope)

        return self._number(terms_of)
