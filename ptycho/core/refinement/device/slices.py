"""Thick objects: the wave goes through one slice after the other, with free space between them.

With the slices O_1 ... O_K, the probe P and the angular spectrum H over the distance between two slices
(`ptycho.core.physics.near_field`),

    psi_1 = P,   psi_(k+1) = ifft2(H fft2(psi_k O_k)),   F = the field at the detector of psi_K O_K

(A. M. Maiden, M. J. Humphry & J. M. Rodenburg, J. Opt. Soc. Am. A 29, 1606 (2012)). To what stands in front of the last
slice an object of one slice is all there is; so a thick object is what an engine knows of a thin one, slice by slice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.near_field import NearField
from ptycho.core.refinement.device.images import NumpyImages
from ptycho.core.refinement.device.kernels import Kernels, Measured
from ptycho.core.refinement.device.numbers import PlainNumbers

__all__ = ["SlicedKernels"]

Array = NDArray[Any]


class _Thick(NamedTuple):
    """A thick object on the device."""

    images: Any
    """(K, H, W)."""
    gap: Any
    """H `(N, N)`."""
    slope: Any
    """Its derivative in the distance between slices, relative to the one given."""


class _Sheaf(NamedTuple):
    """The patches of every slice, and the free space between two of them; None for changes of patches."""

    patches: tuple[Any, ...]
    gap: Any = None
    slope: Any = None

    def __mul__(self, factor: Any) -> _Sheaf:
        return self._replace(patches=tuple(patch * factor for patch in self.patches))


class _OnTheWay(NamedTuple):
    """Waves in front of every slice, and its patches."""

    waves: tuple[Any, ...]
    sheaf: _Sheaf


class _Fields(NamedTuple):
    """Fields at the detector, and how they came there."""

    last: Any
    on_the_way: _OnTheWay


class _SlicedImages(NumpyImages):
    """Objects of several slices, and their probe, in NumPy."""

    def __init__(self, numpy: Callable[[Any], Array]) -> None:
        self._numpy = numpy

    def of(self, values: Any) -> Array:
        """An array of the device in NumPy."""
        return self._numpy(values)


class SlicedKernels:
    """`ptycho.core.refinement.device.kernels.Kernels` of an object of K slices, made of those of an engine.

    Objects are `(K, H, W)` on the device (`thick`), and so are their changes; patches go in a bundle of K.

    Args:
        kernels: of the engine.
        gap: from one slice to the next.
    """

    def __init__(self, kernels: Kernels, gap: NearField) -> None:
        self._one, self._gap = kernels, gap
        self.complex_bytes = kernels.complex_bytes
        self.measured, self.background, self.image = kernels.measured, kernels.background, kernels.image
        self.images = _SlicedImages(self.numpy)
        self.memory, self.batch_pixels = kernels.memory, kernels.batch_pixels
        self.blur, self.corners = kernels.blur, kernels.corners
        self.lanes, self.together, self.numbers = kernels.lanes, kernels.together, PlainNumbers()
        self.pieces, self.rows, self.put = kernels.pieces, kernels.rows, kernels.put
        self.summed = kernels.summed
        self.close, self.packs, self.stream = kernels.close, kernels.packs, kernels.stream
        self.ramps, self.shifted, self.transfer = kernels.ramps, kernels.shifted, kernels.transfer
        self.moved = kernels.moved
        self.probe_slopes, self.back = kernels.probe_slopes, kernels.back

    def total(self, scalars: Sequence[Any]) -> float:
        """Sum of scalars, where the images of the search are."""
        return float(self._one.total(scalars))

    def thick(self, images: Any, stretch: float, n: int) -> _Thick:
        """An object on the device, its slices so many times as far apart as was given."""
        turns = self._gap.turns(n)
        gap = np.exp(1j * stretch * turns)
        return _Thick(images, self.image(gap), self.image(1j * turns * gap))

    def cut(self, image: Any, corners: Any, n: int) -> _Sheaf:
        """Patches of an object, or of its change."""
        images, *space = image if isinstance(image, _Thick) else (image,)
        return _Sheaf(tuple(self._one.cut(each, corners, n) for each in images), *space)

    def add(self, total: Any, shape: tuple[int, ...], patches: _Sheaf, corners: Any) -> list[Any]:
        """Add patches to a sum of the given shape, slice by slice."""
        totals = [None] * shape[0] if total is None else total
        pairs = zip(totals, patches.patches, strict=True)
        return [self._one.add(each, (shape[-2], shape[-1]), some, corners) for each, some in pairs]

    def numpy(self, values: Any) -> Array:
        """Back to NumPy."""
        if isinstance(values, list):
            return np.stack([self._one.numpy(each) for each in values])
        return self._one.numpy(values)

    def fields(self, probes: Any, patches: _Sheaf, transfer: Any = None) -> _Fields:
        """Fields at the detector."""
        waves = [probes]
        for patch in patches.patches[:-1]:
            waves.append(self._onwards(waves[-1], patch, patches.gap))
        last = self._one.fields(waves[-1], patches.patches[-1], transfer)
        return _Fields(last, _OnTheWay(tuple(waves), patches))

    def fields_along(
        self, probes: Any, patches: _OnTheWay, probe_moves: Any, patch_moves: _Sheaf | None, transfer: Any = None
    ) -> Any:
        """The change of the fields."""
        (waves, sheaf), moves = patches, probe_moves
        for k, (wave, patch) in enumerate(zip(waves, sheaf.patches, strict=True)):
            to = transfer if k == len(waves) - 1 else sheaf.gap
            if patch_moves is None:
                moves = self._onwards(moves, patch, to)
            else:
                moves = self._one.fields_along(wave, patch, moves, patch_moves.patches[k], to)
        return moves

    def advanced(self, fields: _Fields, moves: Any, length: Any) -> Any:
        """Never asked for: the fields are not linear in all slices at once."""
        raise NotImplementedError("fields of a thick object are not linear in it")

    def error(self, fields: _Fields, measured: Measured) -> Any:
        """Sum of the likelihood."""
        return self._one.error(fields.last, measured)

    def errors(self, fields: _Fields, measured: Measured) -> Array:
        """The likelihood of each pattern."""
        return self._one.errors(fields.last, measured)

    def pull(self, fields: _Fields, measured: Measured, probes: Any, transfer: Any = None) -> tuple[Any, Any, _Sheaf]:
        """Error, residual waves behind the first slice, and the gradient with respect to all patches."""
        waves, sheaf = fields.on_the_way
        error, residual, gradient = self._one.pull(fields.last, measured, waves[-1], transfer)
        gradients = [gradient]
        for wave, patch in zip(waves[-2::-1], sheaf.patches[:0:-1], strict=True):
            residual, gradient = self._one.back(residual, patch, wave, sheaf.gap)
            gradients.insert(0, gradient)
        return error, residual, _Sheaf(tuple(gradients))

    def probe_gradient(self, waves: Any, patches: _OnTheWay, ramps: Any, mixture: Any = None) -> Any:
        """Gradient with respect to the probe, which meets the first slice."""
        return self._one.probe_gradient(waves, patches.sheaf.patches[0], ramps, mixture)

    def slopes(self, fields: _Fields, moves: Any, measured: Measured) -> Any:
        """`sum J^2`."""
        return self._one.slopes(fields.last, moves, measured)

    def position_terms(
        self, probe: Any, patches: _Sheaf, measured: Measured, ramps: Any, transfer: Any = None, mixture: Any = None
    ) -> Any:
        """Gradient and curvature of the likelihood in (dx, dy); the probe is the same for all patterns."""
        probes = self.shifted(probe, ramps, mixture)
        fields = self.fields(probes, patches, transfer)
        along = [
            self.fields_along(probes, fields.on_the_way, slope, None, transfer)
            for slope in self.probe_slopes(probe, ramps)
        ]
        return self._one.move_terms(fields.last, along, measured)

    def patch_terms(
        self,
        fields: _Fields,
        probes: Any,
        moves: Sequence[_Sheaf],
        measured: Measured,
        floor: float,
        transfer: Any = None,
    ) -> Any:
        """Normal equations along changes of the patches of all slices."""
        along = [self.fields_along(probes, fields.on_the_way, None, each, transfer) for each in moves]
        return self._one.move_terms(fields.last, along, measured, floor)

    def move_terms(self, fields: _Fields, moves: Sequence[Any], measured: Measured, floor: float | None = None) -> Any:
        """Normal equations along changes of the fields."""
        return self._one.move_terms(fields.last, moves, measured, floor)

    def stretch_terms(self, fields: _Fields, measured: Measured, transfer: Any = None) -> Any:
        """Normal equations of the likelihood in the distance between slices, relative to the one given."""
        (waves, sheaf), moves = fields.on_the_way, None
        for wave, patch in zip(waves[:-1], sheaf.patches[:-1], strict=True):
            change = self._onwards(wave, patch, sheaf.slope)
            moves = change if moves is None else change + self._onwards(moves, patch, sheaf.gap)
        return self._one.move_terms(fields.last, [self._onwards(moves, sheaf.patches[-1], transfer)], measured)

    def variation_terms(self, fields: _Fields, moves: Any, places: int, mixture: Any, measured: Measured) -> Any:
        """Never asked for: the probe of a thick object is the same for all patterns."""
        raise NotImplementedError("a probe that varies in front of a thick object")

    def flux_terms(self, fields: _Fields, measured: Measured) -> Any:
        """Gradient and curvature in the logarithm of a factor."""
        return self._one.flux_terms(fields.last, measured)

    def background_terms(self, fields: _Fields, measured: Measured) -> Any:
        """Gradient and curvature in the background of each pixel."""
        return self._one.background_terms(fields.last, measured)

    def compared(self, fields: _Fields, measured: Measured, light: Any, photon_scale: float) -> Any:
        """What patterns say of the fields."""
        return self._one.compared(fields.last, measured, light, photon_scale)

    def blur_terms(self, fields: _Fields, measured: Measured, blur: Any, slope: Any) -> Any:
        """Normal equations in a number of the blur."""
        return self._one.blur_terms(fields.last, measured, blur, slope)

    def _onwards(self, waves: Any, patches: Any, to: Any) -> Any:
        """Waves in front of a slice once they went through it and on."""
        return self._one.fields_along(waves, None, None, patches, to)
