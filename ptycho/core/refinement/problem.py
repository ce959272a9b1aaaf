"""The problem that a refinement solves: errors, gradients, steps and preconditioner for a whole scan."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.fly_scan import places_on_the_way
from ptycho.core.physics.variable_probe import mixture
from ptycho.core.refinement.device.kernels import Direction, Point
from ptycho.core.refinement.device.numbers import Number, Numbers
from ptycho.core.refinement.priors.penalty import Damping, Penalty
from ptycho.core.refinement.settings import Settings
from ptycho.core.refinement.steps.background import Family, stepped
from ptycho.core.refinement.steps.detector_blur import refocused
from ptycho.core.refinement.steps.gauge import Gauge, scale_factor, straightened
from ptycho.core.refinement.steps.placement import Placement
from ptycho.core.refinement.steps.preconditioner import Preconditioner
from ptycho.core.refinement.steps.sliced_preconditioner import SlicedPreconditioner
from ptycho.core.refinement.steps.spectrum import SpectrumPreconditioner, equal_brightness, evenly_lit
from ptycho.core.refinement.steps.thickness import stretched
from ptycho.core.refinement.steps.variable_probe import Variability
from ptycho.core.refinement.steps.variation_gauge import principal
from ptycho.core.refinement.sums.parts import places
from ptycho.core.refinement.sums.passes import Passes

__all__ = ["ScanProblem", "scan_problem"]

Array = NDArray[Any]
AnyPreconditioner = Preconditioner | SlicedPreconditioner | SpectrumPreconditioner

REFRESH = (0, 2, 5, 10, 20, 40, 80)
"""Iterations before which the preconditioner is made anew while probe or positions move."""
FLUX_WAIT, FLUX_EVERY = 3, 2
"""The flux moves once the object has taken shape, and then every other iteration; its step is exact for amplitudes."""
FLUX_TRUST = (0.5, 2.0)
"""Least and greatest factor of the amplitude of a pattern in one step."""
BACKGROUND_WAIT, BACKGROUND_EVERY = 1, 1
"""The background likewise."""
STRAIGHTEN = (4, 9)
"""Iterations after which a probe that moves is brought back to its place, while every step still gains more than that
may cost, and just before the preconditioner is made anew."""


class ScanProblem:
    """`ptycho.core.refinement.descent.Problem` of points and directions.

    Args:
        passes: over the patterns.
        placement: what moves the positions; None: they stay.
        refine_probe: whether the probe moves.
        refine_flux: whether the flux of every pattern moves.
        background: the family of the background that moves; None: it stays.
        variability: what moves the coefficients of a probe that varies; None: they stay.
        given: the probe `(M, N, N)` that says where a probe that moves is to lie (`gauge.straightened`).
        refine_thickness: whether the distance between slices moves.
        penalty: what is known of the object; None: nothing.
        pupil: `(K, N, N)` functions of a probe that is a pupil (`spectrum`); None: it is a probe in space.
        refine_blur: whether the blur of the detector moves.
    """

    def __init__(
        self,
        passes: Passes,
        placement: Placement | None,
        refine_probe: bool,
        refine_flux: bool,
        background: Family | None,
        variability: Variability | None,
        given: Array,
        refine_thickness: bool = False,
        penalty: Penalty | None = None,
        pupil: Array | None = None,
        refine_blur: bool = False,
    ) -> None:
        self._passes, self._placement, self._given = passes, placement, given
        self._share = passes.share
        self._images = self._share.images(passes.kernels.images)
        self._refine_probe, self._refine_flux, self._family = refine_probe, refine_flux, background
        self._variability, self._refine_blur = variability, refine_blur
        self._refine_thickness, self._penalty, self._pupil = refine_thickness, penalty, pupil
        self._changes = refine_probe or placement is not None or passes.gap is not None or penalty is not None
        self._preconditioner: AnyPreconditioner | None = None
        self._damping: Damping | None = None
        self.prepared: tuple[int, Point] | None = None
        """The iteration and the point that the preconditioner was made for."""
        self._tried: tuple[Point, Gauge] | None = None
        self.gauge = Gauge()
        """How object and probe were split anew up to the last point that `gauge_at` was asked about."""

    @property
    def numbers(self) -> Numbers:
        """Those of the engine."""
        return self._passes.kernels.numbers

    @property
    def batches(self) -> int:
        """Number of mini-batches."""
        return len(self._passes.groups)

    def gauge_at(self, point: Point) -> Gauge:
        """How object and probe were split anew on the way to a point that the descent went on from."""
        if self._tried is not None and self._tried[0] is point:
            self.gauge = self.gauge.then(self._tried[1])
        self._tried = None
        return self.gauge

    @property
    def holds_out(self) -> bool:
        """Whether some patterns stay unseen."""
        return self._passes.holds_out

    def error(self, point: Point) -> float:
        """Relative likelihood of the patterns seen, with the penalty."""
        error = self._passes.error(point)
        return error + self._added(point, error)

    def penalty(self, point: Point) -> float:
        """What the prior, and the price of a probe that varies, add to the error."""
        priced = self._known(point) is not None or self._price(point) > 0
        return self._added(point, self._passes.error(point)) if priced else 0.0

    def _added(self, point: Point, error: float) -> float:
        """The same, where the likelihood is known already."""
        known = self._known(point)
        return error * self._price(point) + (0.0 if known is None else known.value(point))

    def _price(self, point: Point) -> float:
        """Of a probe that varies, relative to the error."""
        return 0.0 if self._variability is None else self._variability.charged(point)

    def _known(self, point: Point) -> Penalty | None:
        """What is known of the object, in the scale of where the preconditioner was made."""
        if self._penalty is not None:
            self._penalty.refer(point if self.prepared is None else self.prepared[1])
        return self._penalty

    def unseen_error(self, point: Point) -> float:
        """Relative likelihood of the patterns held out."""
        return self._passes.error(point, unseen=True)

    def gradient(self, point: Point, batch: int | None = None) -> tuple[Number, Direction]:
        """Relative likelihood, with the penalty, and its gradient."""
        error, gradient = self._passes.gradient(point, self._refine_probe, batch)
        known, error = self._known(point), error * (1 + self._price(point))
        if known is None:
            return error, gradient
        more, gradient = known.added(point, gradient, batch)
        return error + more, gradient

    def curvature(self, point: Point, direction: Direction, batch: int | None = None) -> Number:
        """Gauss-Newton curvature along a direction."""
        curvature, known = self._passes.curvature(point, direction, batch), self._known(point)
        return curvature if known is None else curvature + known.curvature(point, direction, batch)

    def precondition(self, point: Point, gradient: Direction, iteration: int) -> Direction:
        """Map a gradient to a step."""
        self.gauge_at(point)
        due = max((k for k in REFRESH if k <= iteration), default=0)
        if self.prepared is None or (self._changes and self.prepared[0] < due):
            self.prepared, self._preconditioner, self._damping = (due, point), None, None
        if self._preconditioner is None:
            self._preconditioner = self._made_at(self.prepared[1])
        probe_step = None
        if gradient.probe is not None:
            probe_step = self._probe_step(self._preconditioner, gradient.probe, point)
        return Direction(self._object_step(self._preconditioner, gradient.object, point.object), probe_step)

    @staticmethod
    def _probe_step(preconditioner: AnyPreconditioner, gradient: Array, point: Point) -> Array:
        """Of the modes of the probe, and of those of variation."""
        count = len(point.probe)
        if len(gradient) == count or not isinstance(preconditioner, Preconditioner):
            return preconditioner.probe_step(gradient, point.probe)
        step = preconditioner.probe_step(gradient[:count], point.probe)
        shares = (np.abs(mixture(point.coefficients)[:, 1:]) ** 2).mean(axis=0)
        return np.concatenate([step, preconditioner.variation_step(gradient[count:], shares)])

    def _object_step(self, preconditioner: AnyPreconditioner, gradient: Array, image: Array) -> Array:
        known = None if self.prepared is None else self._known(self.prepared[1])
        if self.prepared is None or known is None or not isinstance(preconditioner, Preconditioner):
            return preconditioner.object_step(gradient, image)
        if self._damping is None:
            self._damping = known.damping(self.prepared[1], preconditioner.light)
        # on both sides, so that the map stays symmetric
        damped = self._damping.apply(gradient, image)
        return self._damping.apply(preconditioner.object_step(damped, image), image)

    def _made_at(self, point: Point) -> AnyPreconditioner:
        n, shape, share = point.probe.shape[-1], self._share.shape(point.object), self._share
        path, transfer = self._passes.fly_path, self._passes.transfer_function
        x, y, each = point.x[share.patterns], point.y[share.patterns], 1.0
        if path is not None:
            x, y = places_on_the_way(x, y, path[share.patterns])
            x, y = (np.clip(at, n // 2, size - n + n // 2) for at, size in zip((x, y), shape[::-1], strict=True))
            each = 1 / np.sqrt(path.shape[1])
        rows, cols, _, _ = places(x, y, n, shape)
        rows = rows - share.first_row
        if self._pupil is not None:
            return SpectrumPreconditioner(point.object, point.probe, rows, cols, self._pupil)
        image, probe, scans = each * point.object, each * point.probe, self._passes.scans
        if self._passes.gap is not None:
            gap = self._passes.gap.stretched(float(point.stretch)).transfer_function(n)
            return SlicedPreconditioner(image, probe, rows, cols, self._refine_probe, gap, share)
        if scans is not None:
            probe, scans = probe.reshape(-1, self._passes.modes, n, n), scans[share.patterns]
            scans = scans if path is None else np.repeat(scans, path.shape[1])
        at = rows, cols
        return Preconditioner(image, probe, *at, self._refine_probe, transfer, self._images, share, scans)

    def forget(self) -> None:
        """Drop what the passes keep from step to step."""
        self._passes.forget()

    def dot(self, a: Direction, b: Direction) -> Number:
        """Real inner product."""
        pairs = [(a.object, b.object)]
        if a.probe is not None and b.probe is not None:
            pairs.append((a.probe, b.probe))
        return self._share.dot(self._images, pairs)

    def combine(self, a: Direction, factor: Number, b: Direction) -> Direction:
        """`-a + factor b`."""
        blend = self._images.blend
        probe = None if a.probe is None or b.probe is None else blend(-1.0, a.probe, factor, b.probe)
        return Direction(blend(-1.0, a.object, factor, b.object), probe)

    def step(self, point: Point, direction: Direction, length: Number) -> Point:
        """`point + length direction`, far fields and all."""
        blend = self._images.blend
        target = point._replace(object=blend(1.0, point.object, length, direction.object))
        if direction.probe is not None:
            target = target.with_vectors(blend(1.0, point.vectors, length, direction.probe))
        self._passes.advance(point, target, length)
        return target

    def adjust(self, point: Point, iteration: int) -> Point:
        """Move the positions, the flux, the background and the blur, and hold what the patterns do not tell."""
        if self._placement is not None:
            point = self._placement.moved(point, iteration)
        if self._refine_thickness:
            point = stretched(point, self._passes, iteration)
        point = self._backed(self._lit(point, iteration), iteration)
        if self._refine_blur:
            point = refocused(point, self._passes, iteration)
        if self._variability is not None and isinstance(self._preconditioner, Preconditioner):
            point = self._variability.moved(point, iteration, self._preconditioner)
        # near fields tell the place of the probe, and a pupil has its own
        placed = self._passes.transfer_function is not None or self._pupil is not None
        if self._refine_probe and iteration in STRAIGHTEN and not placed:
            self._tried = straightened(point, self._given, self._share)
            point = self._tried[0]
        return point

    def settled(self, point: Point) -> Point:
        """The point as a result has it: of a probe that varies the modes that tell, by their shares."""
        return point if self._variability is None else principal(self._variability.without_noise(point))

    def _lit(self, point: Point, iteration: int) -> Point:
        """Set the flux of every pattern to where the likelihood has its minimum; the mean goes to the object."""
        late = iteration - FLUX_WAIT
        if not self._refine_flux or late < 0 or late % FLUX_EVERY:
            return point
        flux, seen = point.flux.copy(), []
        pull = 0.0 if self._pupil is None else equal_brightness(point.probe, self._passes.variance(point))
        for indices, gradient, curvature in self._passes.flux_terms(point):
            if pull:
                gradient, curvature = gradient + pull * np.log(point.flux[indices]) / 2, curvature + pull
            flux[indices] *= np.clip(1 - gradient / curvature, *FLUX_TRUST) ** 2
            seen.append(indices)
        known = np.concatenate(seen)
        if self._pupil is not None and self._refine_probe:
            point, flux = evenly_lit(point, flux)
        gain = float(flux[known].sum() / point.flux[known].sum())
        flux[known] /= gain
        image = point.object
        share = gain ** (0.5 if image.ndim == 2 else 0.5 / len(image))  # every slice of a thick object has its own
        return point._replace(object=self._images.blend(share, image, 0.0, image), flux=flux)

    def _backed(self, point: Point, iteration: int) -> Point:
        """Move the background to the best of its family, as far as a parabola tells."""
        late = iteration - BACKGROUND_WAIT
        if self._family is None or late < 0 or late % BACKGROUND_EVERY:
            return point
        terms = self._passes.background_terms(point)
        added = self._passes.scan.background
        return point._replace(background=stepped(point.background, *terms, self._family, added))


def scan_problem(
    passes: Passes, settings: Settings, home: tuple[Array, Array], frame: ObjectFrame, given: Array
) -> ScanProblem:
    """What moves, and what is known of it."""
    singles = settings.position_bound_px if settings.refine_positions in (True, "search") else None
    pupil = settings.pupil
    return ScanProblem(
        passes,
        Placement(passes, home, singles, pupil is None) if settings.refine_positions else None,
        settings.refine_probe,
        settings.refine_flux,
        settings.refine_background,
        _variability(settings, passes),
        given,
        refine_thickness=settings.refine_thickness and passes.gap is not None,
        penalty=_penalty(settings, passes, given, frame),
        pupil=pupil,
        refine_blur=settings.refine_blur,
    )


def _variability(settings: Settings, passes: Passes) -> Variability | None:
    """What moves the coefficients of a probe that varies; None: nothing."""
    kinds = settings.variable_probe
    return Variability(passes, kinds, settings.iterations, settings.variable_probe_smooth) if kinds else None


def _penalty(settings: Settings, passes: Passes, given: Array, frame: ObjectFrame) -> Penalty | None:
    """What is known of the object, as a term of the error; None: nothing."""
    prior = settings.object_prior
    if prior is None or not prior.strength:
        return None
    share = passes.share
    factor = partial(scale_factor, given=given, scale=settings.scale, moves_probe=settings.refine_probe, share=share)
    return Penalty(prior.on(share.frame(frame)), prior.strength, passes, factor)
