"""The patterns of a scan in batches, and what is kept of them at a point within a stated budget.

What is done to a batch stands in `Kernels` (`ptycho.core.refinement.device.kernels`), which
`ptycho.core.refinement.device.kernels_numpy` writes down in NumPy and each backend in its own tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial, reduce
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.memory import available_bytes
from ptycho.core.physics.detector_blur import blur_matrix
from ptycho.core.physics.fly_scan import AT_REST, FlyPath
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.variable_probe import mixture
from ptycho.core.refinement.device.kernels import Kernels, Measured, Point, ScanData
from ptycho.core.refinement.device.likelihood import check_finite
from ptycho.core.refinement.device.memory import MemoryPlan
from ptycho.core.refinement.device.numbers import Number
from ptycho.core.refinement.device.packing import SINGLE, fitted, packed, smallest_type
from ptycho.core.refinement.device.slices import SlicedKernels
from ptycho.core.refinement.sums.object_share import WHOLE, ObjectShare
from ptycho.core.refinement.sums.parts import Look, Part, belonging, cut_parts, field_parts, own_modes, places, same
from ptycho.core.refinement.sums.streaming import Streamed
from ptycho.core.scaling import frame_blocks

__all__ = ["Batches"]

Array = NDArray[Any]

HOST_SHARE = 2
"""Part of the free memory of the host that patterns are held in on their way to a device, its inverse."""


class Batches:
    """What sums over the patterns of a scan are made of.

    Args:
        kernels: of a backend.
        scan: read batch by batch; patterns stay on the device where they fit the budget, in the smallest type that
            holds them where more fits then (`ptycho.core.refinement.device.packing`).
        groups: the patterns of each mini-batch.
        unseen: patterns held out; no gradient sees them.
        modes: of the probe, and of its variation.
        memory: bytes for what is kept and, where kernels know no best number at once, what is worked on
            (`ptycho.core.refinement.device.memory`).
        fly_path: (n, S, 2) where the probe is while each pattern is counted, relative to its position.
        gap: the free space between the slices of a thick object; None: it is thin.
        slices: their number.
        scans: (n,) which of several scans each pattern is of, each with a probe of so many modes; None: it is one.
        share: what this process has of the object, and of the patterns; every sum is that of all.
        once: whether there is one pass alone, so that nothing is kept for the next.
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
        share: ObjectShare = WHOLE,
        once: bool = False,
    ) -> None:
        self.share, self.processes, self._counts = share, share.processes, [len(group) for group in groups]
        self._all_seen, self._all_unseen = np.concatenate(groups), unseen
        self._energy: float | None = None
        if self.processes.size > 1:
            own = share.own_patterns(scan.xcoords, scan.ycoords)
            groups, unseen = [group[own[group]] for group in groups], unseen[own[unseen]]
        self.gap, self.scans, self.modes = gap, scans, modes
        self.sliced = None if gap is None else SlicedKernels(kernels, gap)
        self.kernels: Kernels = kernels if self.sliced is None else self.sliced
        self.scan, self.fly_path = scan, fly_path
        self._places_each = 1 if fly_path is None else fly_path.shape[1]
        self.n = int(scan.probeGuess.shape[-1])
        self.transfer_function = None if scan.near_field is None else scan.near_field.transfer_function(self.n)
        self._reading = Lock()
        count = sum(map(len, groups)) + len(unseen)
        plan = partial(
            MemoryPlan.made,
            *(memory, count, self.n, modes, kernels.complex_bytes),
            places=self._places_each,
            slices=slices,
            near=self.transfer_function is not None,
            batch_pixels=kernels.batch_pixels,
            lanes=kernels.lanes,
            once=once,
        )
        self.plan, self._type = plan(), SINGLE
        if kernels.packs and not once:
            every = np.concatenate([*groups, unseen])
            blocks = (np.sort(every[block]) for block in frame_blocks(count, self.n**2))
            find = partial(smallest_type, blocks, self.scan.amplitude)
            self.plan, self._type = fitted(plan, find, streams=kernels.stream is not None)
        cut = partial(cut_parts, size=self.plan.batch, lanes=kernels.lanes, scans=scans, modes=self.modes)
        self.groups = [cut(group) for group in groups]
        self.seen = [part for parts in self.groups for part in parts]
        self.unseen = cut(unseen)
        self._background: tuple[Array | None, Any] = None, None
        self._blur: tuple[Array | None, Any] = None, None
        self._vectors: tuple[tuple[Array, ...], Any] = (), None
        self._streamed: Streamed | None = None
        if kernels.stream is not None and not self.plan.patterns:
            self._streamed = Streamed(kernels.stream, self._read, not once and self._fits_the_host(count))
        self._all_parts = [*self.seen, *self.unseen]
        for parts in (self.seen, self.unseen):
            for before, part in pairwise(parts):
                part.begin = before.begin + len(before.indices)
        self._sizes = [len(part.indices) for part in self._all_parts]
        self._order = np.concatenate([part.indices for part in self._all_parts] or [np.arange(0)])
        self._propagator = None if self.transfer_function is None else self.kernels.image(self.transfer_function)
        self._placed: tuple[Array, ...] = ()
        self._flux: Array | None = None
        self._coefficients: Array | None = None

    @cached_property
    def values(self) -> int:
        """Number of valid pixels of the patterns seen."""
        mask, seen = self.scan.mask, [part.indices for part in self.seen]
        if mask is None:
            return self.count() * self.n**2
        if mask.ndim == 2:
            return self.count() * int(np.count_nonzero(mask))
        return int(self._of_all(sum(int(np.count_nonzero(mask[some])) for some in seen))[0])

    @property
    def energy(self) -> float:
        """Sum of the squared amplitudes of the patterns seen."""
        if self._energy is None:
            for part in self.seen:
                if not part.energy:
                    self._read(part)
            self._energy = self._of_all(sum(part.energy for part in self.seen))[0]
        return self._energy

    def count(self, group: int | None = None) -> int:
        """Patterns seen, of one group or of all."""
        return sum(self._counts) if group is None else self._counts[group]

    @property
    def holds_out(self) -> bool:
        """Whether some patterns are held out."""
        return len(self._all_unseen) > 0

    def forget(self) -> None:
        """Drop far fields, patches and moved probes: what steps bring along differs in its last digits from what is
        worked out anew.
        """
        for part in self._all_parts:
            part.fields = part.at = part.patches = part.moves = part.probes = part.probe_moves = None
            part.probed = ()

    def _parts(self, group: int | None) -> list[Part]:
        return self.seen if group is None else self.groups[group]

    def _sum(self, parts: Sequence[Part], of: Callable[[Part], Any]) -> Number:
        """The sum of a scalar of every part; it is added up on the way, so that no part leaves anything behind."""

        def sum_of(share: Sequence[Part]) -> Any:
            return reduce(self.kernels.summed, map(of, self._in_turn(share)), None)

        return self._total(self.kernels.together(sum_of, self._shares(parts)))

    def _rows(
        self, parts: Sequence[Part], of: Callable[[Part], Any], shape: tuple[int, ...]
    ) -> tuple[NDArray[np.int64], Array]:
        """The patterns of all parts, seen or unseen ones, and an array (n, ...) of what `of` finds of each, fetched at
        once. The room is there before: small pieces that stay, each made between large ones that go, would keep the
        room of these from being used again.
        """
        rows = self.kernels.rows((sum(len(part.indices) for part in parts), *shape))

        def fill(share: Sequence[Part]) -> None:
            for part in self._in_turn(share):
                self.kernels.put(rows, slice(part.begin, part.begin + len(part.indices)), of(part))

        self.kernels.together(fill, self._shares(parts))
        return np.concatenate([np.zeros(0, np.int64), *(part.indices for part in parts)]), self.kernels.numpy(rows)

    def _shares(self, parts: Sequence[Part], most: int | None = None) -> list[Sequence[Part]]:
        """The parts of every lane, neighbours in one, which is at most so many lists; none is empty."""
        count = min(self.kernels.lanes, len(parts), most or len(parts))
        bounds = np.linspace(0, len(parts), count + 1).round().astype(int).tolist()
        return [parts[begin:end] for begin, end in pairwise(bounds)]

    def _fits_the_host(self, count: int) -> bool:
        """Whether so many patterns and their masks may stay in the memory of the host, which has other things, too."""
        masks = () if self.scan.mask is None or self.scan.mask.ndim == 2 else (SINGLE.itemsize,)
        batch, available = self.plan.batch, available_bytes()
        held = sum(_block(batch * self.n**2 * size) for size in (self._type.itemsize, *masks))
        return available is not None and -(-count // batch) * held <= available // HOST_SHARE

    def _total(self, scalars: Iterable[Any]) -> Number:
        """The sum of scalars of the kernels; 0 where this process has no patterns."""
        found = list(scalars)
        return self.kernels.total(found) if found else 0.0

    def _of_all(self, *numbers: Number) -> tuple[Number, ...]:
        """The sums of numbers over all processes; alone, these numbers, wherever they are."""
        if self.processes.size == 1:
            return numbers
        return tuple(self.processes.sum(np.array([float(each) for each in numbers]))[0].tolist())

    def _images(self, point: Point) -> tuple[Any, Any]:
        """Object and probe on the device; what else a point has is brought there as well."""
        self._bring(point)
        self._background_of(point)
        self._blur_of(point)
        if not same(self._vectors[0], vectors := (point.probe, point.variation)):
            self._vectors = vectors, self.kernels.image(point.vectors)
        image = self.kernels.image(point.object)
        if self.sliced is not None:
            image = self.sliced.thick(image, float(point.stretch), self.n)
        return image, self._vectors[1]

    def _measured(self, part: Part, point: Point) -> Measured:
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

    def _patterns(self, part: Part) -> Measured:
        """The patterns of a part in the order of the kernels."""
        if part.measured is not None:
            return part.measured
        measured = self.kernels.measured(*self._read(part)[:2])
        if self.plan.patterns:
            part.measured = measured
        return measured

    def _read(self, part: Part) -> Measured:
        """The same in NumPy, in the type that they are kept in."""
        with self._reading:  # files are read by one lane at a time
            amplitude = self._ordered(self.scan.amplitude(part.indices))
        mask, valid = self.scan.mask, None
        if mask is not None:
            valid = self._ordered(mask[part.indices] if mask.ndim == 3 else mask).astype(np.float32)
        part.energy = float(np.square(amplitude, dtype=np.float64).sum())
        check_finite(part.energy)
        return Measured(packed(amplitude, self._type), valid)

    def _in_turn(self, share: Sequence[Part]) -> Iterator[Part]:
        """The parts of a share, one after the other; patterns that the device has no room for come in time."""
        if self._streamed is None:
            yield from share
            return
        for part, measured in self._streamed.over(share):
            part.measured = measured
            yield part
            part.measured = None

    def _ordered(self, patterns: Array) -> Array:
        """Patterns as fields are: the zero frequency of far ones first."""
        return patterns if self.transfer_function is not None else np.fft.ifftshift(patterns, axes=(-2, -1))

    def _bring(self, point: Point) -> None:
        """Bring what a point has of each pattern to the device, all at once, as far as it is not there."""
        if not same(self._placed, (point.x, point.y)):
            self._placed = point.x, point.y
            self._place(point)
            if self.plan.patterns:  # what stays is there before any part is worked on, as in `_rows`
                for part in self._all_parts:
                    self._patterns(part)
        if self._flux is not point.flux:
            self._flux = point.flux
            self._give("root_flux", np.sqrt(point.flux / self._places_each))
        if self._coefficients is not point.coefficients:
            self._coefficients = point.coefficients
            if point.coefficients.shape[1]:
                self._give("mixture", mixture(point.coefficients))

    def _place(self, point: Point) -> None:
        """Where all patches lie, and how far their probes are moved."""
        x, y = point.x[self._order], point.y[self._order] - self.share.first_row
        found = places(x, y, self.n, point.object.shape[-2:])
        path = AT_REST if self.fly_path is None else self.fly_path[self._order]
        path = np.concatenate([np.zeros((len(path), 1, 2)), path], axis=1)
        away = np.stack([each[:, None] + path[..., k] for k, each in enumerate(found[2:])], axis=1)
        corners, moved = (self.kernels.pieces(each, self._sizes) for each in (np.stack(found[:2], axis=1), away))
        here = zip(*(np.split(each, np.cumsum(self._sizes)[:-1]) for each in found), strict=True)
        for part, there, corner, move in zip(self._all_parts, here, corners, moved, strict=True):
            part.places, part.corners = there, self.kernels.corners(corner[:, 0], corner[:, 1])
            part.remainder, part.moved = (move[:, 0, 0], move[:, 1, 0]), (move[:, 0, 1:], move[:, 1, 1:])
            part.ramps = part.transfer = None

    def _give(self, name: str, values: Array) -> None:
        """Give every part its own of what belongs to all patterns (n, ...); ramps are then others."""
        for part, piece in zip(self._all_parts, self.kernels.pieces(values[self._order], self._sizes), strict=True):
            setattr(part, name, piece)
            part.ramps = None

    def _mixture(self, part: Part) -> Any:
        """The weights of a probe that varies in the patterns of a part; None where it is the same in all."""
        return None if part.mixture is None else self.kernels.image(part.mixture)

    def _ramps(self, part: Part) -> Any:
        """What moves a probe to the places of a part, times the root of the flux of each."""
        if part.ramps is not None:
            return part.ramps
        dx, dy = part.moved
        ramps = self.kernels.ramps(dx, dy, part.root_flux, self.n)
        if self.plan.probes:
            part.ramps = ramps
        return ramps

    def _transfer(self, part: Part) -> Any:
        """What carries the waves of a part to a near detector; None where it is far away."""
        if self._propagator is None or part.transfer is not None:
            return part.transfer
        transfer = self.kernels.transfer(self._propagator, *part.moved)
        if self.plan.probes:
            part.transfer = transfer
        return transfer

    def _look(self, part: Part, point: Point, image: Any, probe: Any) -> Look:
        """The part at a point, from what is kept as far as it still holds."""
        belongs = belonging(point)
        if part.probes is not None and same(part.probed, belongs):
            probes = part.probes
        else:
            probes = self.kernels.shifted(own_modes(part, probe), self._ramps(part), self._mixture(part))
            part.probes, part.probed = (probes, belongs) if self.plan.probes else (None, ())
        if part.fields is not None and part.at is not None and same(field_parts(part.at), field_parts(point)):
            return Look(part.fields, probes, None)
        patches = self.kernels.cut(image, part.corners, self.n)
        fields = self.kernels.fields(probes, patches, self._transfer(part))
        part.fields, part.at, part.moves = (fields, point, None) if self.plan.fields else (None, None, None)
        part.patches = None
        return Look(fields, probes, patches)

    def _patches(self, part: Part, look: Look, image: Any) -> Any:
        """The patches of a part that was looked at; those of a thick object are kept with the fields."""
        if self.sliced is not None:
            return look.fields.on_the_way
        patches = part.patches if look.patches is None else look.patches
        if patches is None:
            patches = self.kernels.cut(image, part.corners, self.n)
        part.patches = patches if self.plan.patches else None
        return patches


def _block(size: int) -> int:
    """Bytes of page-locked memory that so many take: PyTorch asks for powers of two."""
    return 1 << (size - 1).bit_length()
