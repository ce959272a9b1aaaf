"""Is the j-th position that of the j-th pattern, or of the one before or after?

On a straight line of a scan a pattern too late is as good as an object displaced. It shows where the steps differ:
at the ends of lines, between lines there and back, on bends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ptycho.core.doctor.findings import Finding
from ptycho.core.doctor.held_out import Prediction, foretell, inner_points
from ptycho.core.doctor.position_scale import scaled
from ptycho.core.doctor.positions import neighbour_distance
from ptycho.core.doctor.samples import Sampler
from ptycho.core.physics.probes import probe_diameter
from ptycho.core.result import plural

__all__ = ["ShiftTest", "Slip", "check_shift", "rank_among", "rank_shifts", "uneven_places"]

Array = NDArray[Any]

_REACH = 2
"""Frames by which patterns are moved at most."""
_COUNT, _FEWEST = 25, 12
"""Places that are tried together, and without which nothing is said."""
_CENTRES = 400
"""Places around which uneven steps are looked for."""
_ITERATIONS = 6
_CLEAR = 0.7
"""Error relative to that of the order as it is, below which another is better; its inverse where it is worse."""
_UNRIVALLED = 0.8
"""The same relative to that of every other order, which tells forwards from backwards."""
_FORETOLD = 0.6
"""Error relative to that of a flat object from which on nothing is foretold."""
_SURE = 5.0
"""Standard deviations by which another order has to be better."""


@dataclass(frozen=True)
class ShiftTest:
    """How well patterns foretell their neighbours when all are moved by some frames along the positions."""

    errors: tuple[tuple[int, float], ...]
    """(k, error): position j + k for pattern j, the relative Fourier error beyond noise of patterns kept back."""
    deviations: float
    """Standard deviations by which the best k is better than 0, or 0 than the next best."""
    flat: float
    """The error beyond noise of an object without contrast."""
    places: int
    """Places of the two regions together."""
    points: int
    """Points of the scan."""

    @property
    def best(self) -> int:
        """The k with the lowest error; 0 where nothing was tried."""
        return min(self.errors, key=lambda entry: entry[1])[0] if self.errors else 0

    @property
    def right(self) -> bool:
        """Whether each pattern has its own position beyond doubt."""
        errors = dict(self.errors)
        rival = min((error for k, error in self.errors if k), default=0.0)
        return bool(errors) and errors[0] <= min(_CLEAR * rival, _FORETOLD * self.flat) and self.deviations >= _SURE

    @property
    def wrong(self) -> bool:
        """Whether positions belong to other patterns."""
        errors = dict(self.errors)
        others = [error for k, error in self.errors if k != self.best]
        return (
            self.best != 0
            and errors[self.best] < _UNRIVALLED * min(others)
            and errors[self.best] < _CLEAR * errors[0]
            and errors[self.best] < _FORETOLD * self.flat
            and self.deviations > _SURE
        )


def rank_shifts(sampler: Sampler, scale: float) -> ShiftTest:
    """Compare the order as it is with patterns one frame earlier and later, and two where it foretells nothing.

    The places are the same each time, so that they overlap alike; the probe moves, since a wrong one does not look
    like a wrong order.
    """
    return rank_among(sampler, scale, np.arange(len(sampler.positions[0])))


@dataclass(frozen=True)
class Slip:
    """Frames that were lost or doubled on the way."""

    first: int
    """The pattern from which on each belongs to position j + frames."""
    frames: int
    last: int | None = None
    """The last one for which that is so; None: all up to the end of the scan."""

    @property
    def mend(self) -> str:
        """The step of `ptycho dataset` that moves them."""
        until = "" if self.last is None else f" --last={self.last}"
        return f"move --frames={self.frames} --first={self.first}{until}"

    @property
    def sentence(self) -> str:
        """What it is and what mends it."""
        apart = f"positions and patterns are {abs(self.frames)} apart: pattern j belongs to position j "
        apart += f"{'-+'[self.frames > 0]} {abs(self.frames)} there"
        command = f"ptycho dataset {self.mend}"
        if self.last is not None:
            return (
                f"From pattern {self.first} to {self.last} {apart}, and not before and after: frames were lost and "
                f"doubled, or part of the scan was mended. Move them: {command}."
            )
        lost = "lost" if self.frames > 0 else "recorded twice"
        return (
            f"From pattern {self.first} on {apart}; {plural(abs(self.frames), 'frame')} was {lost}. Move them, and "
            f"leave out what stays without a position: {command}."
        )


def rank_among(sampler: Sampler, scale: float, among: NDArray[np.intp]) -> ShiftTest:
    """`rank_shifts` among successive points of the scan."""
    total, regions = len(sampler.positions[0]), _regions(sampler, among)
    if not regions:
        return ShiftTest((), 0.0, 0.0, 0, total)

    def tried(k: int) -> list[Prediction]:
        return [_foretold(sampler, scale, places, k) for places in regions]

    found = {k: tried(k) for k in (0, -1, 1)}
    errors = {k: _mean([p.excess for p in predictions]) for k, predictions in found.items()}
    best = min(errors, key=errors.__getitem__)
    if best != 0 or errors[0] > _FORETOLD * _flat(found[0]):
        found |= {k: tried(k) for k in (-2, 2)}
        errors = {k: _mean([p.excess for p in predictions]) for k, predictions in found.items()}
    first, second = sorted(errors, key=errors.__getitem__)[:2]
    other = 0 if first != 0 else second
    spread = np.hypot(_deviation(found[first]), _deviation(found[other]))
    deviations = (errors[other] - errors[first]) / max(float(spread), 1e-30)
    return ShiftTest(tuple(sorted(errors.items())), deviations, _flat(found[first]), sum(map(len, regions)), total)


def may_be_off(sampler: Sampler, scale: float, among: NDArray[np.intp], right: ShiftTest) -> bool:
    """Whether points in their order foretell each other so much worse than those that are right that another may win.

    A third of the time of `rank_among`, which need not be asked otherwise.
    """
    found = [_foretold(sampler, scale, places, 0) for places in _regions(sampler, among)]
    error = _mean([prediction.excess for prediction in found]) if found else 0.0
    return bool(found) and error * right.flat > dict(right.errors)[0] * _flat(found) / _CLEAR


def _regions(sampler: Sampler, among: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Places among some points where steps differ, and where patterns overlap: others foretell nothing.

    Successive points of a path that leaps about need not overlap, and an object that holds them all is as large as
    that of the scan.
    """
    x, y = sampler.positions
    diameter = probe_diameter(sampler.probe)
    regions = [among[places] for places in uneven_places(x[among], y[among], diameter)]
    return [places for places in regions if neighbour_distance(x[places], y[places]) < diameter]


def _foretold(sampler: Sampler, scale: float, places: NDArray[np.intp], k: int) -> Prediction:
    sample = scaled(sampler.read(places, places - k), scale)
    return foretell(sample, inner_points(sample.xcoords, sample.ycoords), _ITERATIONS, refine_probe=True)


def check_shift(test: ShiftTest, slip: Slip | None = None) -> Finding:
    """Do positions and patterns belong together one by one?"""
    errors = dict(test.errors)
    if slip is not None:
        told = {"frames": slip.frames, "first": slip.first} | ({} if slip.last is None else {"last": slip.last})
        return Finding("frame shift", "fault", slip.sentence, told, (slip.mend,))
    numbers: dict[str, Any] = {
        "frames": test.best if test.wrong else 0,
        "errors": {f"{k:+d}" if k else "0": error for k, error in errors.items()},
        "deviations": test.deviations,
        "error_flat_object": test.flat,
        "places": test.places,
    }
    if not errors:
        return Finding(
            "frame shift",
            "note",
            f"Not tested: {test.points} points with even steps, too few or too far apart.",
            numbers,
        )
    if test.wrong:
        k = test.best
        far = "one frame" if abs(k) == 1 else f"{abs(k)} frames or more"
        sentence = (
            f"Positions and patterns are {far} apart: pattern j belongs to position j {'-+'[k > 0]} {abs(k)}. In "
            f"{test.places} places where steps differ the error beyond noise is {errors[k]:.3g} then, as they are "
            f"{errors[0]:.3g}. Move them, and leave out what stays without a position: ptycho dataset move "
            f"--frames={k}."
        )
        return Finding("frame shift", "fault", sentence, numbers, (f"move --frames={k}",))
    rival, rival_error = min(((k, error) for k, error in errors.items() if k), key=lambda entry: entry[1])
    text = f"error beyond noise {errors[0]:.3g} as they are, {rival_error:.3g} with position j {rival:+d} for pattern j"
    if not test.right:
        sentence = (
            f"Whether positions and patterns are a frame apart cannot be told ({text}): "
            "too few photons, too little overlap or too even steps."
        )
        return Finding("frame shift", "note", sentence, numbers)
    return Finding("frame shift", "ok", f"Each position belongs to its pattern: {text}.", numbers)


def uneven_places(xcoords: Array, ycoords: Array, diameter: float) -> list[NDArray[np.intp]]:
    """Two regions, indices of neighbouring points each, where steps from and to a point differ most; one or none.

    Args:
        xcoords, ycoords: (n,) in the order of the scan, pixels.
        diameter: of the probe, pixels; differences beyond a quarter of it count no more than that.
    """
    points = np.column_stack([xcoords, ycoords])
    inner = np.arange(_REACH, len(points) - _REACH)
    if len(inner) < _FEWEST:
        return []
    _, near = KDTree(points[inner]).query(
        points[inner[:: max(1, len(inner) // _CENTRES)]], k=min(_COUNT, len(inner)), workers=1
    )
    regions: list[NDArray[np.intp]] = []
    for steps in (points[inner + 1] - points[inner], points[inner] - points[inner - 1]):
        around = steps[near]
        apart = np.hypot(*np.moveaxis(around - np.median(around, axis=1, keepdims=True), -1, 0))
        uneven = np.mean(np.minimum(apart, diameter / 4) ** 2, axis=1)
        places = np.sort(inner[near[int(np.argmax(uneven))]])
        if uneven.max() > 0 and not any(np.array_equal(places, region) for region in regions):
            regions.append(places)
    return regions


def _flat(predictions: list[Prediction]) -> float:
    return _mean([p.flat - p.floor for p in predictions])


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def _deviation(predictions: list[Prediction]) -> float:
    """Standard deviation of the mean of their errors, from how far single pixels are off."""
    variances = [float(np.sum(p.squares.astype(np.float64) ** 2)) / p.energy**2 for p in predictions]
    return float(np.sqrt(sum(variances))) / len(predictions)
