"""A small scan with masks and two modes, and passes over it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from ptycho.core.refinement.device.kernels import Point
from ptycho.core.refinement.device.kernels_numpy import NumpyKernels
from ptycho.core.refinement.device.likelihood import intensity_floor
from ptycho.core.refinement.sums.passes import Passes
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData

N, SIZE = 16, 44


@dataclass
class Small:
    """A simulated scan, a point of the search, and passes over it."""

    scan: RawData
    point: Point

    def passes(self, likelihood="amplitude", keep=0, groups=None, unseen=()):
        kernels = NumpyKernels(likelihood, intensity_floor(self.scan, likelihood))
        groups = [np.arange(len(self.scan))] if groups is None else groups
        return Passes(kernels, self.scan, groups, np.asarray(unseen, int), len(self.point.probe), keep)

    def slope(self, passes: Passes, move: Point, step: float = 1e-5) -> float:
        """Derivative of the error along a move, by a central difference."""
        pairs = [(a, step * b) for a, b in zip(self.point, move, strict=True)]
        ends = [Point(*(a + sign * b for a, b in pairs)) for sign in (1, -1)]
        return (passes.error(ends[0]) - passes.error(ends[1])) / (2 * step)


@pytest.fixture(params=[None, "one", "each"], ids=["no mask", "a mask", "masks"])
def small(request, rng) -> Small:
    made = make_scan("lines", SIZE, N, 6.0, 0.5, 1e4, 4)
    mask = None
    if request.param is not None:
        mask = rng.random(made.diffraction.shape if request.param == "each" else (N, N)) > 0.2
    scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, mask=mask, units="amplitude")
    noise = rng.standard_normal((2, 2, SIZE, SIZE))
    image = made.object + 0.1 * (noise[0, 0] + 1j * noise[0, 1])
    probe = np.stack([made.probe, 0.3 * np.roll(made.probe, 2, axis=0)]).astype(complex)
    return Small(scan, Point(image, probe, scan.xcoords, scan.ycoords, np.ones(len(scan)), np.zeros((N, N))))


@dataclass
class _Table:
    """What the threads share."""

    size: int
    barrier: threading.Barrier
    places: list[Any]
    sent: int = 0


@dataclass
class _Thread:
    """`ptycho.core.refinement.sums.processes.Processes` of one of several threads."""

    rank: int
    table: _Table

    @property
    def size(self):
        return self.table.size

    def sum(self, *arrays):
        everyones = self._exchanged(arrays)
        assert len({tuple((one.shape, one.dtype) for one in each) for each in everyones}) == 1
        return tuple(sum(each[1:], start=each[0].copy()) for each in zip(*everyones, strict=True))

    def first(self, make):
        return self._exchanged(make() if self.rank == 0 else None)[0]

    def exchange(self, pieces, shapes):
        everyones = self._exchanged([np.array(piece) for piece in pieces])
        assert len({piece.dtype for each in everyones for piece in each}) == 1
        found = [each[self.rank] for each in everyones]
        assert all(piece.shape == tuple(shape) for piece, shape in zip(found, shapes, strict=True) if piece.size)
        return found

    def _exchanged(self, value):
        self.table.places[self.rank] = value
        self.table.barrier.wait()
        found = list(self.table.places)
        self.table.barrier.wait()
        return found


def run_in_threads(size, work):
    """`work(processes)` of every one of several threads."""
    table = _Table(size, threading.Barrier(size, timeout=20), [None] * size)

    def one(rank):
        try:
            return work(_Thread(rank, table))
        except BaseException:
            table.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))


@pytest.fixture
def in_threads():
    """Runs several threads as processes that share a refinement; see `run_in_threads`."""
    return run_in_threads
