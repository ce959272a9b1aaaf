"""The passes over the patterns of a refinement: errors, gradients and curvatures, batch by batch.

`Passes` cuts the scan into batches and keeps what fits a stated budget; what is done to a batch stands in `Kernels`,
which `ptycho.core.refinement.kernels_numpy` writes down in NumPy and each backend in its own tensors.

With `a = sqrt(K (sum_m |F_m|^2) K + b + e)`, K the blur of the detector (`ptycho.core.physics.detector_blur`; 1 where
it is sharp), b the background, and the amplitudes A, both likelihoods are sums over valid pixels of

    amplitude: (a - A)^2                                               residual r = a - A
    poisson:   1/2 [(Y + e) log((Y + e) / a^2) - (Y + e) + a^2]        residual r = (a^2 - Y - e) / (2 a), Y = A^2

(the second is a quarter of the deviance: both have the same gradient and curvature where a is near A). The derivative
with respect to `conj F_m` is `K (r / a) K F_m`, and `J = K (Re sum_m conj(F_m) D_m) K / a` is the change of a along a
change D of the field at the detector; the Gauss-Newton curvature is `sum J^2`. The floors e are relative to the mean
intensity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial, reduce
from itertools import pairwise
from operator import add, is_
from threading import Lock
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.detector_blur import blur_matrix, blur_slope
from ptycho.core.physics.fly_scan import AT_REST, FlyPath
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.variable_probe import mixture
from ptycho.core.refinement.kernels import Direction, Kernels, Measured, Point, ScanData, Terms
from ptycho.core.refinement.memory import MemoryPlan
from ptycho.core.refinement.processes import ALONE, Processes, gathered, own_patterns
from ptycho.core.refinement.slices import SlicedKernels
from ptycho.errors import DataError

__all__ = [
    "Likelihood",
    "Passes",
    "intensity_floor",
    "places",
]

Array = NDArray[Any]
Likelihood = Literal["amplitude", "poisson"]
Found = TypeVar("Found")

FLOORS: dict[str, float] = {"amplitude": 1e-8, "poisson": 1e-4}
"""e, relative to the mean intensity of a valid pixel: below it an intensity is rounding (amplitude), or so far from
any count that a single one would outweigh all others (Poisson; ten times more loses what dark pixels tell, ten times
less takes twice the iterations)."""
LANE_SHARE = 8
"""Part of the memory that the gradients of all lanes take at most, its inverse."""
LANE_PIXELS = 2
"""Pixels of patterns that each lane adds for one of its own sum."""


@dataclass
class _Part:
    """A batch of patterns, and what is kept of it together with the arrays it belongs to."""

    indices: NDArray[np.int64]
    own: slice | None = None
    """Which modes are those of its scan; None: all."""
    energy: float = 0.0
    measured: Measured | None = None
    places: tuple[Array, Array, Array, Array] | None = None
    placed: tuple[Array, ...] = ()
    corners: Any = None
    """First rows and columns on the device."""
    flux: Array | None = None
    ramps: Any = None
    transfer: Any = None
    probes: Any = None
    probed: tuple[Array, ...] = ()
    fields: Any = None
    patches: Any = None
    at: Point | None = None
    moves: Any = None
    probe_moves: Any = None


class _Look(NamedTuple):
    """A part at a point: far fields, moved probes, patches where they had to be cut, and where it lies."""

    fields: Any
    probes: Any
    patches: Any
    places: tuple[Array, Array, Array, Array]


@dataclass
class _Pull:
    """What a lane found of its parts: errors, and the gradients of object and probes, the latter by the first of their
    modes.
    """

    errors: list[Any] = field(default_factory=list)
    object: Any = None
    probes: dict[int, Any] = field(default_factory=dict)


class Passes:
    """Sums over the patterns of a scan, at a point.

    Args:
        kernels: of a backend.
        scan: read batch by batch; patterns stay on the device as float32 where they fit the budget.
        groups: the patterns of each mini-batch.
        unseen: patterns held out; no gradient sees them.
        modes: of the probe, and of its variation.
        memory: bytes for what is kept and, where kernels know no best number at once, what is worked on
            (`ptycho.core.refinement.memory`).
        fly_path: (n, S, 2) where the probe is while each pattern is counted, relative to its position.
        gap: the free space between the slices of a thick object; None: it is thin.
        slices: their number.
        scans: (n,) which of several scans each pattern is of, each with a probe of so many modes; None: it is one.
        processes: that share the patterns; each reads its own, and every sum is that of all.
    """

    def __init__(
        self,
        kernels: Kernels,
        scan: ScanData,
        groups: Sequence[NDArray[np.int64]],
        unseen: NDArray[np.int64],
        modes: int,
        memory: int,
        fly_path: FlyPath | None = None,
        gap: NearField | None = None,
        slices: int = 1,
        scans: NDArray[np.int64] | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.processes, self._counts = processes, [len(group) for group in groups]
        self._all_seen, self._all_unseen = np.concatenate(groups), unseen
        self._energy: float | None = None
        if processes.size > 1:
            own = own_patterns(scan.xcoords, scan.ycoords, processes)
            groups, unseen = [group[own[group]] for group in groups], unseen[own[unseen]]
        self.gap, self.scans, self.modes = gap, scans, modes
        self.sliced = None if gap is None else SlicedKernels(kernels, gap)
        self.kernels: Kernels = kernels if self.sliced is None else self.sliced
        self.scan, self.fly_path = scan, fly_path
        self._places_each = 1 if fly_path is None else fly_path.shape[1]
        self.n = int(scan.probeGuess.shape[-1])
        self.transfer_function = None if scan.near_field is None else scan.near_field.transfer_function(self.n)
        self.plan = MemoryPlan.made(
            *(memory, sum(map(len, groups)) + len(unseen), self.n, modes, kernels.complex_bytes),
            places=self._places_each,
            slices=slices,
            near=self.transfer_function is not None,
            batch_pixels=kernels.batch_pixels,
            lanes=kernels.lanes,
        )
        cut = partial(_cut, size=self.plan.batch, lanes=kernels.lanes, scans=scans, modes=self.modes)
        self.groups = [cut(group) for group in groups]
        self.seen = [part for parts in self.groups for part in parts]
        self.unseen = cut(unseen)
        self._reading = Lock()
        self._background: tuple[Array | None, Any] = None, None
        self._blur: tuple[Array | None, Any] = None, None
        self._vectors: tuple[tuple[Array, ...], Any] = (), None

    def error(self, point: Point, unseen: bool = False) -> float:
        """Likelihood of the patterns seen (or unseen), relative to the sum of their squared amplitudes."""
        image, probe = self._images(point)

        def error_of(part: _Part) -> Any:
            measured = self._measured(part, point)
            return self.kernels.error(self._look(part, point, image, probe).fields, measured)

        parts = self.unseen if unseen else self.seen
        total = self._total(self._each(parts, error_of))
        total, energy = self._of_all(total, sum(part.energy for part in parts))
        return total / energy

    def variance(self, point: Point) -> float:
        """Likelihood of the patterns seen per valid pixel: of the squared residuals of amplitudes the mean."""
        return self.error(point) * self.energy / max(self.values, 1)

    @cached_property
    def values(self) -> int:
        """Number of valid pixels of the patterns seen."""
        mask, seen = self.scan.mask, [part.indices for part in self.seen]
        if mask is None:
            return self.count() * self.n**2
        if mask.ndim == 2:
            return self.count() * int(np.count_nonzero(mask))
        return int(self._of_all(sum(int(np.count_nonzero(mask[some])) for some in seen))[0])

    def gradient(self, point: Point, with_probe: bool, group: int | None = None) -> tuple[float, Direction]:
        """Error as above, and the derivatives with respect to the conjugates of object and probe."""
        parts = self._parts(group)
        pulled = partial(self._pulled, point, with_probe, *self._images(point))
        pulls = self.kernels.together(pulled, self._shares(parts, self._sums_of(parts, point)))
        total = self._total(error for pull in pulls for error in pull.errors)
        energy = sum(part.energy for part in parts)
        sums = [self._image([pull.object for pull in pulls], point.object.shape)]
        if with_probe:
            sums.append(self._of_probes([pull.probes for pull in pulls], point))
        if self.processes.size > 1:
            numbers, *sums = self.processes.sum(np.array([total, energy]), *map(np.asarray, sums))
            total, energy = numbers.tolist()
        return total / energy, Direction(*sums, *(() if with_probe else (None,)))

    def _sums_of(self, parts: Sequence[_Part], point: Point) -> int:
        """Sums of the object's size that are worth it: as many as fit the memory and are less than what is summed."""
        room = self.plan.memory // (LANE_SHARE * point.object.nbytes)
        pixels = sum(len(part.indices) for part in parts) * self.n**2
        return max(1, min(room, pixels // (LANE_PIXELS * math.prod(point.object.shape))))

    def _pulled(self, point: Point, with_probe: bool, image: Any, probe: Any, parts: Sequence[_Part]) -> _Pull:
        """Errors and gradients of some parts, one after the other."""
        pull = _Pull()
        for part in parts:
            measured = self._measured(part, point)
            look = self._look(part, point, image, probe)
            error, waves, patch_gradient = self.kernels.pull(look.fields, measured, look.probes, self._transfer(part))
            pull.errors.append(error)
            pull.object = self.kernels.add(pull.object, point.object.shape, patch_gradient, part.corners)
            if with_probe:
                patches, mixed = self._patches(part, look, image), self._mixture(part, point)
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
            return np.zeros(shape, np.result_type(np.complex64, f"c{self.kernels.complex_bytes}"))
        return self.kernels.images.of(_added(summed))

    def _total(self, scalars: Iterable[Any]) -> float:
        """The sum of scalars of the kernels; 0 where this process has no patterns."""
        found = list(scalars)
        return self.kernels.total(found) if found else 0.0

    def _of_all(self, *numbers: float) -> tuple[float, ...]:
        """The sums of numbers over all processes."""
        return tuple(self.processes.sum(np.array(numbers, np.float64))[0].tolist())

    def curvature(self, point: Point, direction: Direction, group: int | None = None) -> float:
        """Gauss-Newton curvature `sum J^2` along a direction."""
        image, probe = self._images(point)
        image_move = self.kernels.image(direction.object)
        probe_move = None if direction.probe is None else self.kernels.image(direction.probe)

        def curvature_of(part: _Part) -> Any:
            look = self._look(part, point, image, probe)
            patch_moves = self.kernels.cut(image_move, part.corners, self.n)
            patches = probe_moves = None
            if probe_move is not None or self.sliced is not None:
                patches = self._patches(part, look, image)
            if probe_move is not None:
                moving = _own(part, probe_move)
                probe_moves = self.kernels.shifted(moving, self._ramps(part), self._mixture(part, point))
            moves = self.kernels.fields_along(look.probes, patches, probe_moves, patch_moves, self._transfer(part))
            linear = probe_move is None and self.sliced is None
            part.moves = moves if self.plan.fields and linear else None
            part.probe_moves = probe_moves if self.plan.probes else None
            return self.kernels.slopes(look.fields, moves, self._measured(part, point))

        return self._of_all(self._total(self._each(self._parts(group), curvature_of)))[0]

    def advance(self, point: Point, target: Point, length: float) -> None:
        """Take what is kept along to `target = point + length direction`, the direction of the last curvature.

        The far field is linear in the object, a moved probe in the probe: what moves alone need not be transformed
        again. Far fields of an object and a probe that both move are not kept.
        """

        def advance_of(part: _Part) -> None:
            if part.at is point and part.moves is not None:
                part.fields, part.at = self.kernels.advanced(part.fields, part.moves, length), target
                part.patches = None
            if part.probe_moves is not None and _same(part.probed, _belonging(point)):
                part.probes = self.kernels.moved(part.probes, part.probe_moves, length)
                part.probed = _belonging(target)
            part.moves = part.probe_moves = None

        for _ in self._each(self.seen, advance_of):
            pass

    def forget(self) -> None:
        """Drop far fields, patches and moved probes: what steps bring along differs in its last digits from what is
        worked out anew.
        """
        for part in (*self.seen, *self.unseen):
            part.fields = part.at = part.patches = part.moves = part.probes = part.probe_moves = None
            part.probed = ()

    @property
    def energy(self) -> float:
        """Sum of the squared amplitudes of the patterns seen."""
        if self._energy is None:
            for part in self.seen:
                if not part.energy:
                    self._patterns(part)
            self._energy = self._of_all(sum(part.energy for part in self.seen))[0]
        return self._energy

    def count(self, group: int | None = None) -> int:
        """Patterns seen, of one group or of all."""
        return sum(self._counts) if group is None else self._counts[group]

    @property
    def holds_out(self) -> bool:
        """Whether some patterns are held out."""
        return len(self._all_unseen) > 0

    def _parts(self, group: int | None) -> list[_Part]:
        return self.seen if group is None else self.groups[group]

    def _each(self, parts: Sequence[_Part], of: Callable[[_Part], Found]) -> Iterator[Found]:
        """What is found of every part, in their order, by the lanes at the same time."""
        for found in self.kernels.together(lambda share: [of(part) for part in share], self._shares(parts)):
            yield from found

    def _shares(self, parts: Sequence[_Part], most: int | None = None) -> list[Sequence[_Part]]:
        """The parts of every lane, neighbours in one, which is at most so many lists; none is empty."""
        count = min(self.kernels.lanes, len(parts), most or len(parts))
        bounds = np.linspace(0, len(parts), count + 1).round().astype(int).tolist()
        return [parts[begin:end] for begin, end in pairwise(bounds)]

    def _images(self, point: Point) -> tuple[Any, Any]:
        """Object and probe on the device; what else all parts share is brought there as well."""
        self._background_of(point)
        self._blur_of(point)
        if not _same(self._vectors[0], vectors := (point.probe, point.variation)):
            self._vectors = vectors, self.kernels.image(point.vectors)
        image = self.kernels.image(point.object)
        if self.sliced is not None:
            image = self.sliced.thick(image, float(point.stretch), self.n)
        return image, self._vectors[1]

    def _mixture(self, part: _Part, point: Point) -> Any:
        """The weights of a probe that varies in the patterns of a part; None where it is the same in all."""
        if not len(point.variation):
            return None
        return self.kernels.image(mixture(point.coefficients[part.indices]))

    def _measured(self, part: _Part, point: Point) -> Measured:
        """The patterns of a part, zero frequency first where they are far fields, with what a point adds."""
        return self._patterns(part)._replace(background=self._background_of(point), blur=self._blur_of(point))

    def _background_of(self, point: Point) -> Any:
        """The background on the device; None where there is none."""
        if self._background[0] is not point.background:
            b = self._ordered(point.background)
            self._background = point.background, self.kernels.background(b) if b.any() else None
        return self._background[1]

    def _blur_of(self, point: Point) -> Any:
        """The matrix of the blur on the device; None where the detector is sharp."""
        if self._blur[0] is not point.blur:
            sigma = float(point.blur)
            self._blur = point.blur, self.kernels.blur(self._ordered(blur_matrix(self.n, sigma))) if sigma else None
        return self._blur[1]

    def _patterns(self, part: _Part) -> Measured:
        """The patterns of a part in the order of the kernels."""
        if part.measured is not None:
            return part.measured
        with self._reading:  # files are read by one lane at a time
            amplitude = self._ordered(self.scan.amplitude(part.indices))
        mask, valid = self.scan.mask, None
        if mask is not None:
            valid = self._ordered(mask[part.indices] if mask.ndim == 3 else mask).astype(np.float32)
        part.energy = float(np.square(amplitude, dtype=np.float64).sum())
        _check_finite(part.energy)
        measured = self.kernels.measured(amplitude, valid)
        if self.plan.patterns:
            part.measured = measured
        return measured

    def _ordered(self, patterns: Array) -> Array:
        """Patterns as fields are: the zero frequency of far ones first."""
        return patterns if self.transfer_function is not None else np.fft.ifftshift(patterns, axes=(-2, -1))

    def _places(self, part: _Part, point: Point) -> tuple[Array, Array, Array, Array]:
        """First row, first column and remainders (dx, dy) of each patch."""
        if part.places is None or not _same(part.placed, (point.x, point.y)):
            part.places = places(point.x[part.indices], point.y[part.indices], self.n, point.object.shape[-2:])
            part.placed, part.ramps, part.transfer = (point.x, point.y), None, None
            part.corners = self.kernels.corners(*part.places[:2])
        if part.flux is not point.flux:
            part.flux, part.ramps = point.flux, None
        return part.places

    def _ramps(self, part: _Part) -> Any:
        """What moves a probe to the places of a part that has its place, times the root of the flux of each."""
        if part.ramps is not None or part.places is None or part.flux is None:
            return part.ramps
        ramps = self.kernels.ramps(
            *self._moved_by(part.places, part), np.sqrt(part.flux[part.indices] / self._places_each), self.n
        )
        if self.plan.probes:
            part.ramps = ramps
        return ramps

    def _moved_by(self, found: tuple[Array, Array, Array, Array], part: _Part) -> tuple[Array, Array]:
        """How far the probe is moved in its window `(b, S)`, x and y, at every place of a part that lies there."""
        path = AT_REST if self.fly_path is None else self.fly_path[part.indices]
        return found[2][:, None] + path[..., 0], found[3][:, None] + path[..., 1]

    def _transfer(self, part: _Part) -> Any:
        """What carries the waves of a part that has its place to a near detector; None where it is far away."""
        if self.transfer_function is None or part.transfer is not None or part.places is None:
            return part.transfer
        transfer = self.kernels.transfer(self.transfer_function, *self._moved_by(part.places, part))
        if self.plan.probes:
            part.transfer = transfer
        return transfer

    def _look(self, part: _Part, point: Point, image: Any, probe: Any) -> _Look:
        """The part at a point, from what is kept as far as it still holds."""
        found = self._places(part, point)
        belongs = _belonging(point)
        if part.probes is not None and _same(part.probed, belongs):
            probes = part.probes
        else:
            probes = self.kernels.shifted(_own(part, probe), self._ramps(part), self._mixture(part, point))
            part.probes, part.probed = (probes, belongs) if self.plan.probes else (None, ())
        if part.fields is not None and part.at is not None and _same(_field_parts(part.at), _field_parts(point)):
            return _Look(part.fields, probes, None, found)
        patches = self.kernels.cut(image, part.corners, self.n)
        fields = self.kernels.fields(probes, patches, self._transfer(part))
        part.fields, part.at, part.moves = (fields, point, None) if self.plan.fields else (None, None, None)
        part.patches = None
        return _Look(fields, probes, patches, found)

    def _patches(self, part: _Part, look: _Look, image: Any) -> Any:
        """The patches of a part that was looked at; those of a thick object are kept with the fields."""
        if self.sliced is not None:
            return look.fields.on_the_way
        patches = part.patches if look.patches is None else look.patches
        if patches is None:
            patches = self.kernels.cut(image, part.corners, self.n)
        part.patches = patches if self.plan.patches else None
        return patches

    def _terms(self, of: Callable[[_Part], Terms], numbers: int) -> Iterator[tuple[NDArray[np.int64], Terms]]:
        """Normal equations in so many numbers of each pattern seen, of all processes."""
        found = self._each(self.seen, lambda part: (part.indices, *of(part)))
        for indices, *terms in gathered(self.processes, found, self._all_seen, ((numbers,), (numbers, numbers))):
            yield indices, Terms(*terms)

    def position_terms(self, point: Point) -> Iterator[tuple[NDArray[np.int64], Terms]]:
        """Normal equations of the positions seen, batch by batch, with the patterns they belong to."""
        image, probe = self._images(point)

        def terms_of(part: _Part) -> Terms:
            self._places(part, point)
            patches = self.kernels.cut(image, part.corners, self.n)
            measured, ramps, transfer = self._measured(part, point), self._ramps(part), self._transfer(part)
            mixed = self._mixture(part, point)
            own = _own(part, probe)
            return self.kernels.position_terms(own, patches, measured, ramps, transfer, mixed)

        return self._terms(terms_of, 2)

    def variation_terms(self, point: Point) -> Iterator[tuple[NDArray[np.int64], Terms]]:
        """Normal equations of the coefficients seen of a probe that varies, the real parts first, batch by batch."""
        image, probe = self._images(point)
        variation = self.kernels.image(point.variation)

        def terms_of(part: _Part) -> Terms:
            look = self._look(part, point, image, probe)
            along = self.kernels.shifted(variation, self._ramps(part))
            moves = self.kernels.fields(along, self._patches(part, look, image), self._transfer(part))
            mixed, measured = self._mixture(part, point), self._measured(part, point)
            return self.kernels.variation_terms(look.fields, moves, self._places_each, mixed, measured)

        return self._terms(terms_of, 2 * len(point.variation))

    def stretch_terms(self, point: Point) -> Iterator[tuple[NDArray[np.int64], Terms]]:
        """Normal equations of a map M of positions that takes the object along, batch by batch, with their patterns:
        gradient (b, 4), curvature (b, 4, 4).

        Every patch O_j(u) then changes by `-M u . grad O`, whatever its place: the object under a patch is stretched
        about the patch's middle. The numbers are those of M, row by row.
        """
        image, probe = self._images(point)
        slopes = [self.kernels.image(each) for each in np.gradient(point.object, axis=(-2, -1))[::-1]]
        pixels = np.arange(self.n) - self.n // 2
        floor = self.processes.first(partial(intensity_floor, self.scan, "poisson"))

        def terms_of(part: _Part) -> Terms:
            look = self._look(part, point, image, probe)
            _, _, dx, dy = look.places
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

        def errors_of(part: _Part) -> tuple[NDArray[np.int64], Array]:
            measured, moves = self._measured(part, point), shifts[part.indices]
            look, errors = self._look(part, point, image, probe), []
            for k in range(moves.shape[1]):
                rows, cols = look.places[0] + moves[:, k, 1], look.places[1] + moves[:, k, 0]
                patches = self.kernels.cut(image, self.kernels.corners(rows, cols), self.n)
                fields = self.kernels.fields(look.probes, patches, self._transfer(part))
                errors.append(self.kernels.errors(fields, measured))
            return part.indices, np.stack(errors, axis=1)

        found = self._each(self.unseen, errors_of)
        return gathered(self.processes, found, self._all_unseen, (shifts.shape[1:2],))

    @property
    def greatest_stretch(self) -> float:
        """Of the distance between slices, that the pixels still sample."""
        return 1.0 if self.gap is None else abs(self.gap.fresnel_number) * self.n

    def stretch_slope(self, point: Point) -> tuple[float, float]:
        """Gradient and curvature in the distance between slices, relative to the one given."""
        image, probe = self._images(point)
        if (sliced := self.sliced) is None:
            return 0.0, 0.0

        def terms_of(part: _Part) -> Terms:
            look = self._look(part, point, image, probe)
            return sliced.stretch_terms(look.fields, self._measured(part, point), self._transfer(part))

        return self._number(self._each(self.seen, terms_of))

    def _number(self, found: Iterator[Terms]) -> tuple[float, float]:
        """Gradient and curvature in one number that all patterns share."""
        terms = list(found)
        gradient, curvature = (sum(float(each[k].sum(dtype=np.float64)) for each in terms) for k in (0, 1))
        gradient, curvature = self._of_all(gradient, curvature)
        return gradient, curvature

    def flux_terms(self, point: Point) -> Iterator[tuple[NDArray[np.int64], Array, Array]]:
        """Gradient and curvature (b,) in the logarithm of the root of the flux, batch by batch, with their patterns."""
        image, probe = self._images(point)

        def terms_of(part: _Part) -> tuple[NDArray[np.int64], Array, Array]:
            look = self._look(part, point, image, probe)
            return part.indices, *self.kernels.flux_terms(look.fields, self._measured(part, point))

        return gathered(self.processes, self._each(self.seen, terms_of), self._all_seen, ((), ()))

    def background_terms(self, point: Point) -> tuple[Array, Array]:
        """Gradient and curvature (N, N) of the patterns seen, in the background, zero frequency in the middle."""
        image, probe = self._images(point)

        def terms_of(parts: Sequence[_Part]) -> Array:
            sums = np.zeros((2, self.n, self.n))
            for part in parts:
                look = self._look(part, point, image, probe)
                sums += self.kernels.background_terms(look.fields, self._measured(part, point))
            return sums

        sums = self.kernels.together(terms_of, self._shares(self.seen)) or [np.zeros((2, self.n, self.n))]
        gradient, curvature = self.processes.sum(np.sum(sums, axis=0))[0]
        if self.transfer_function is not None:
            return gradient, curvature
        return np.fft.fftshift(gradient), np.fft.fftshift(curvature)

    def blur_slope(self, point: Point) -> tuple[float, float]:
        """Gradient and curvature of the patterns seen, in t of the blur (`ptycho.core.physics.detector_blur`)."""
        image, probe = self._images(point)
        sigma = float(point.blur)
        blur, slope = (self.kernels.blur(self._ordered(of(self.n, sigma))) for of in (blur_matrix, blur_slope))

        def terms_of(part: _Part) -> Terms:
            look = self._look(part, point, image, probe)
            return self.kernels.blur_terms(look.fields, self._measured(part, point), blur, slope)

        return self._number(self._each(self.seen, terms_of))


def _cut(group: NDArray[np.int64], size: int, lanes: int, scans: NDArray[np.int64] | None, modes: int) -> list[_Part]:
    """Batches of at most `size` patterns of one group, as large as each other, each of one scan; where they are several
    they are as many for every lane.
    """
    if scans is None:
        return [_Part(some) for some in _split(group, size, lanes)]
    parts = []
    for scan in np.unique(scans[group]):
        own = slice(scan * modes, (scan + 1) * modes)
        parts += [_Part(some, own) for some in _split(group[scans[group] == scan], size, lanes)]
    return parts


def _split(group: NDArray[np.int64], size: int, lanes: int) -> list[NDArray[np.int64]]:
    count = -(-len(group) // size)
    if count > 1:
        count = min(-(-count // lanes) * lanes, len(group))
    return np.array_split(group, count) if count else []


def _added(sums: Sequence[Any]) -> Any:
    """The sum over lanes, of every slice by itself where there are several."""
    if isinstance(sums[0], list):
        return [_added(each) for each in zip(*sums, strict=True)]
    return reduce(add, sums)


def _own(part: _Part, probes: Any) -> Any:
    """The modes of the scan of a part."""
    return probes if part.own is None else probes[part.own]


def places(x: Array, y: Array, n: int, shape: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
    """First row, first column, and remainders (dx, dy) of patches of n pixels: the `fourier` rule.

    Raises:
        DataError: a patch reaches beyond the object.
    """
    column, row = np.rint(x), np.rint(y)
    rows, cols = row.astype(np.int64) - n // 2, column.astype(np.int64) - n // 2
    if rows.min() < 0 or cols.min() < 0 or rows.max() + n > shape[0] or cols.max() + n > shape[1]:
        raise DataError(f"every patch must lie inside the object {shape}, found one outside: enlarge the object")
    return rows, cols, x - column, y - row


def _belonging(point: Point) -> tuple[Array, ...]:
    """What moved probes are made of."""
    return point.probe, point.x, point.y, point.flux, point.variation, point.coefficients


def _field_parts(point: Point) -> tuple[Array, ...]:
    """What far fields are made of: all but blur and background, which come after them."""
    return point.object, point.stretch, *_belonging(point)


def _same(some: tuple[Array, ...], others: tuple[Array, ...]) -> bool:
    """Whether these are the very same arrays; points are never changed in place."""
    return len(some) == len(others) and all(map(is_, some, others))


def intensity_floor(scan: ScanData, likelihood: Likelihood) -> float:
    """The floor e of a likelihood, from the mean intensity of a valid pixel of up to 32 patterns all over the scan.

    Raises:
        DataError: patterns without light.
    """
    chosen = np.unique(np.linspace(0, len(scan) - 1, 32).round().astype(int))
    values, mask = scan.amplitude(chosen), scan.mask
    valid = np.ones(1, bool) if mask is None else mask[chosen] if mask.ndim == 3 else mask
    mean = float(np.vdot(values, values)) / max(np.broadcast_to(valid, values.shape).sum(), 1)
    _check_finite(mean)
    if not mean > 0:
        raise DataError("diffraction: expected light in valid pixels, found none; check patterns and mask")
    return FLOORS[likelihood] * mean


def _check_finite(energy: float) -> None:
    if not np.isfinite(energy):
        raise DataError("diffraction: expected finite values in valid pixels, found NaN or infinity; mask them")
