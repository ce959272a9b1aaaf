"""Bursts of iterations on whichever patterns there are bring the object of the scan."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.config.options import IterationOptions
from ptycho.core.refinement.trust import ON_HOST
from ptycho.raw_data import RawData
from ptycho.workflows.live.canvas import Canvas
from ptycho.workflows.live.solver import LiveSolver, on_the_way
from ptycho.workflows.solver import Solver
from ptycho_torch.refine import refine

SOLVER = Solver(refine, ON_HOST)


def some(data: RawData, which: slice | np.ndarray) -> RawData:
    return data.part(np.arange(len(data))[which])


def test_a_scan_that_comes_in_parts_has_its_object_in_the_end(plain: RawData) -> None:
    canvas = Canvas()
    solver = LiveSolver(SOLVER, IterationOptions(), canvas)
    solver.begin(plain.probeGuess)
    assert plain.objectGuess is not None
    begun = 0
    for end in (20, 50, 90, len(plain)):
        canvas.reach(plain.xcoords[begun:end], plain.ycoords[begun:end], plain.probeGuess)
        begun = end
        for first in range(0, end, 40):
            solver.advance(some(plain, slice(first, min(first + 60, end))))
    for _ in range(3):
        solver.advance(plain)
    frame = canvas.frame
    rows, columns = slice(18 - frame.y0, 58 - frame.y0), slice(18 - frame.x0, 58 - frame.x0)
    one, truth = canvas.object[rows, columns], plain.objectGuess[18:58, 18:58]
    turn = np.vdot(one, truth)
    assert np.linalg.norm(one * turn / abs(turn) - truth) < 0.03 * np.linalg.norm(truth)
    assert solver.error < 1e-3


def test_a_burst_has_as_many_patterns_as_there_is_time_for() -> None:
    solver = LiveSolver(SOLVER, IterationOptions(), Canvas())
    assert solver.burst(64, 1000) == (96, 4) and solver.burst(256, 0) == (16, 4)
    solver.seconds = 0.8 / 1000
    assert solver.burst(64, 200) == (250, 4)
    assert solver.burst(64, 300) == (500, 2)  # more wait than there is time for
    solver.seconds = 1e-7
    assert solver.burst(64, 9999) == (1024, 4)
    solver.seconds = 10.0
    assert solver.burst(64, 0) == (96, 4)


def test_what_needs_the_whole_scan_waits_for_the_end() -> None:
    asked = IterationOptions(iterations=7, slices=3, refine_positions=True, fly_points=5, variable_probe=2, modes=2)
    made = on_the_way(asked)
    assert (made.slices, made.refine_positions, made.fly_points, made.variable_probe) == (1, False, None, 0)
    assert made.modes == 2 and made.likelihood == "amplitude"
    assert on_the_way(IterationOptions(likelihood="poisson")).likelihood == "poisson"
    held = IterationOptions(object_prior="network", prior_strength=1.0, prior_seconds=5.0)
    assert on_the_way(held).object_prior is None


@pytest.mark.parametrize(("moves", "made", "free"), [(True, False, True), (False, False, False), ("auto", True, True)])
def test_the_probe_moves_when_it_is_to(plain: RawData, moves: bool | str, made: bool, free: bool) -> None:
    canvas = Canvas()
    solver = LiveSolver(SOLVER, IterationOptions(refine_probe=moves, modes=2), canvas, made_probe=made)
    first = solver.begin(plain.probeGuess)
    assert first.shape == (2, 32, 32)
    canvas.reach(plain.xcoords[:30], plain.ycoords[:30], first)
    solver.advance(some(plain, slice(30)).with_probe(first))
    assert solver.probe is not None
    assert bool((solver.probe != first).any()) is free
