"""The passes over the patterns of a refinement: errors, gradients and curvatures, batch by batch.

`ptycho.core.refinement.device.likelihood` has the formulas, `ptycho.core.refinement.sums.batches` what is kept from
pass to pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.refinement.device.kernels import Direction, Point
from ptycho.core.refinement.device.numbers import Number
from ptycho.core.refinement.sums.normal_equations import NormalEquations
from ptycho.core.refinement.sums.parts import Part, belonging, own_modes, same

__all__ = ["Passes"]

Array = NDArray[Any]

LANE_SHARE = 8
"""Part of the memory that the gradients of all lanes take at most, its inverse."""
LANE_PIXELS = 2
"""Pixels of patterns that each lane adds for one of its own sum."""


@dataclass
class _Pull:
    """What a lane found of its parts: the sum of their errors, and the gradients of object and probes, the latter by
    the first of their modes.
    """

    error: Any = None
    object: Any = None
    probes: dict[int, Any] = field(default_factory=dict)


class Passes(NormalEquations):
    """Sums over the patterns of a scan, at a point; `Batches` describes the arguments."""

    def error(self, point: Point, unseen: bool = False) -> float:
        """Likelihood of the patterns seen (or unseen), relative to the sum of their squared amplitudes."""
        image, probe = self._images(point)

        def error_of(part: Part) -> Any:
            measured = self._measured(part, point)
            return self.kernels.error(self._look(part, point, image, probe).fields, measured)

        parts = self.unseen if unseen else self.seen
        total = self._sum(parts, error_of)
        total, energy = self._of_all(total, sum(part.energy for part in parts))
        return float(total / energy)

    def variance(self, point: Point) -> float:
        """Likelihood of the patterns seen per valid pixel: of the squared residuals of amplitudes the mean."""
        return self.error(point) * self.energy / max(self.values, 1)

    def compared(self, point: Point, light: Array, photon_scale: float) -> tuple[NDArray[np.int64], Array]:
        """The patterns seen, and what each says of the point `(n, 8)`, as `Kernels.compared` has it; fetched at once.

        Args:
            point: where.
            light: (N, N) squares of the amplitudes of the bare probe, zero frequency in the middle.
            photon_scale: photons per unit of squared amplitude.
        """
        (image, probe), bare = self._images(point), self.kernels.background(self._ordered(light))

        def sums_of(part: Part) -> Any:
            fields = self._look(part, point, image, probe).fields
            return self.kernels.compared(fields, self._measured(part, point), bare, photon_scale)

        return self._rows(self.seen, sums_of, (8,))

    def gradient(self, point: Point, with_probe: bool, group: int | None = None) -> tuple[Number, Direction]:
        """Error as above, and the derivatives with respect to the conjugates of object and probe."""
        parts = self._parts(group)
        pulled = partial(self._pulled, point, with_probe, *self._images(point))
        pulls = self.kernels.together(pulled, self._shares(parts, self._sums_of(parts, point)))
        total = self._total(pull.error for pull in pulls)
        energy = sum(part.energy for part in parts)
        sums = [self._image([pull.object for pull in pulls], point.object.shape)]
        if with_probe:
            sums.append(self._of_probes([pull.probes for pull in pulls], point))
        if self.processes.size > 1:
            images = self.share.images(self.kernels.images)
            numbers, *sums = self.share.sums(images, np.array([float(total), energy]), *sums)
            total, energy = numbers.tolist()
        return total / energy, Direction(*sums, *(() if with_probe else (None,)))

    def _sums_of(self, parts: Sequence[Part], point: Point) -> int:
        """Sums of the object's size that are worth it: as many as fit the memory and are less than what is summed."""
        room = self.plan.memory // (LANE_SHARE * point.object.nbytes)
        pixels = sum(len(part.indices) for part in parts) * self.n**2
        return max(1, min(room, pixels // (LANE_PIXELS * math.prod(point.object.shape))))

    def _pulled(self, point: Point, with_probe: bool, image: Any, probe: Any, parts: Sequence[Part]) -> _Pull:
        """Errors and gradients of some parts, one after the other."""
        pull = _Pull()
        for part in self._in_turn(parts):
            measured = self._measured(part, point)
            look = self._look(part, point, image, probe)
            error, waves, patch_gradient = self.kernels.pull(look.fields, measured, look.probes, self._transfer(part))
            pull.error = self.kernels.summed(pull.error, error)
            pull.object = self.kernels.add(pull.object, point.object.shape, patch_gradient, part.corners)
            if with_probe:
                patches, mixed = self._patches(part, look, image), self._mixture(part)
                moved = self.kernels.probe_gradient(waves, patches, self._ramps(part), mixed)
                first = 0 if part.own is None else part.own.start
                pull.probes[first] = pull.probes[first] + moved if first in pull.probes else moved
        return pull

    def _of_probes(self, sums: Sequence[dict[int, Any]], point: Point) -> Any:
        """The gradient of all modes, from the sums of the lanes, by the first mode of a scan; 0 of a scan not seen."""
        if self.scans is None:
            return self._image([lane[0] for lane in sums], point.vectors.shape)
        found = np.zeros_like(point.vectors)
        for first, moved in ((first, moved) for lane in sums for first, moved in lane.items()):
            values = self.kernels.numpy(moved)
            found[first : first + len(values)] += values
        return found

    def _image(self, summed: Sequence[Any], shape: tuple[int, ...]) -> Any:
        """The sum of the lanes as an image of the search, 0 where this process has no patterns."""
        if not summed:
            empty = np.zeros(shape, np.result_type(np.complex64, f"c{self.kernels.complex_bytes}"))
            return self.kernels.images.of(self.kernels.image(empty))
        return self.kernels.images.of(added(summed))

    def curvature(self, point: Point, direction: Direction, group: int | None = None) -> Number:
        """Gauss-Newton curvature `sum J^2` along a direction."""
        image, probe = self._images(point)
        image_move = self.kernels.image(direction.object)
        probe_move = None if direction.probe is None else self.kernels.image(direction.probe)

        def curvature_of(part: Part) -> Any:
            look = self._look(part, point, image, probe)
            patch_moves = self.kernels.cut(image_move, part.corners, self.n)
            patches = probe_moves = None
            if probe_move is not None or self.sliced is not None:
                patches = self._patches(part, look, image)
            if probe_move is not None:
                moving = own_modes(part, probe_move)
                probe_moves = self.kernels.shifted(moving, self._ramps(part), self._mixture(part))
            moves = self.kernels.fields_along(look.probes, patches, probe_moves, patch_moves, self._transfer(part))
            linear = probe_move is None and self.sliced is None
            part.moves = moves if self.plan.fields and linear else None
            part.probe_moves = probe_moves if self.plan.probes else None
            return self.kernels.slopes(look.fields, moves, self._measured(part, point))

        return self._of_all(self._sum(self._parts(group), curvature_of))[0]

    def advance(self, point: Point, target: Point, length: Number) -> None:
        """Take what is kept along to `target = point + length direction`, the direction of the last curvature.

        The far field is linear in the object, a moved probe in the probe: what moves alone need not be transformed
        again. Far fields of an object and a probe that both move are not kept.
        """

        def advance_of(part: Part) -> None:
            if part.at is point and part.moves is not None:
                part.fields, part.at = self.kernels.advanced(part.fields, part.moves, length), target
                part.patches = None
            if part.probe_moves is not None and same(part.probed, belonging(point)):
                part.probes = self.kernels.moved(part.probes, part.probe_moves, length)
                part.probed = belonging(target)
            part.moves = part.probe_moves = None

        self.kernels.together(lambda share: list(map(advance_of, share)), self._shares(self.seen))


def added(sums: Sequence[Any]) -> Any:
    """The sum over lanes, of every slice by itself where there are several."""
    if isinstance(sums[0], list):
        return [added(each) for each in zip(*sums, strict=True)]
    return reduce(add, sums)
