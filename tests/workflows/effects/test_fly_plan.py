"""How far the stage goes during a pattern, found by patterns that were not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ptycho
from ptycho.config.options import IterationOptions
from ptycho.core.physics.fly_scan import fly_path, line_ways
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.trust import ON_HOST
from ptycho.errors import DataError
from ptycho.raw_data import RawData
from ptycho.workflows.effects.fly_plan import asked_to_fly, found_flight
from ptycho.workflows.iteration.iterate import iterate
from ptycho.workflows.iteration.iteration_plan import planned
from ptycho.workflows.solver import Solver
from ptycho_torch.refine import refine

SOLVER = Solver(refine, ON_HOST)

Simulated = Callable[..., RawData]


def of_way(best: float) -> Callable[[Any], float]:
    """An error with its minimum where the way is `best` pixels, 1.5 times that at rest."""

    def error(path: Any) -> float:
        way = 1e-6 if path is None else np.sqrt(12 * np.square(path[len(path) // 2]).sum(axis=-1).mean())
        return float(1 + 0.5 * ((way / best) ** 2 - 1) ** 2)

    return error


@pytest.mark.parametrize("best", [4.0, 3.4, 2.4])
def test_the_way_with_the_least_error_is_found(plain: RawData, best: float) -> None:
    """From a few tries."""
    found = found_flight(plain, IterationOptions(fly_points="auto"), plain.probeGuess[None], of_way(best), "8 patterns")
    assert found.path is not None and found.path.shape[::2] == (len(plain), 2)
    way = np.sqrt(12 * np.square(found.path).sum(axis=-1).mean(axis=-1))
    assert np.median(way) == pytest.approx(best, rel=0.05)
    assert found.note.startswith("The stage goes") and found.gain > 1.05


def test_where_nothing_is_gained_the_stage_is_at_rest(plain: RawData) -> None:
    asked = IterationOptions(fly_points=3)
    found = found_flight(plain, asked, plain.probeGuess[None], lambda path: 1.0 if path is None else 0.97, "8 patterns")
    assert found.path is None and found.note.startswith("The stage is at rest")
    few = found_flight(plain, asked, plain.probeGuess[None], None, "5 patterns")
    assert few.path is None and "too few" in few.note


def test_what_is_said_is_not_tried(plain: RawData) -> None:
    asked = IterationOptions(fly_points=3, fly_duty=0.5)
    found = found_flight(plain, asked, plain.probeGuess[None], None, "")
    expected = fly_path(line_ways(plain.xcoords, plain.ycoords), 3, 0.5)
    np.testing.assert_array_equal(found.path, expected)
    assert asked_to_fly(asked) and asked_to_fly(IterationOptions(fly_duty=1.0)) and not asked_to_fly(IterationOptions())


def test_a_scan_without_lines_is_refused(simulated: Simulated) -> None:
    scattered = simulated(path="random", step=8.0)
    with pytest.raises(DataError, match="fly: expected positions along lines"):
        planned(scattered, refine, IterationOptions(fly_points="auto"), scattered.probeGuess[None], flat=True)


@pytest.mark.slow
def test_a_planted_fly_scan_is_found_and_undone(simulated: Simulated) -> None:
    """The stage never stops: the object is wrong without it and right with it, and a result brings its path along."""
    flown = simulated(kind="siemens_star", fly=1.0, step=5.0)
    free = {"iterations": 40, "modes": None, "likelihood": "amplitude"}
    still, moved = (iterate(flown, SOLVER, IterationOptions(**free, fly_points=how)) for how in (None, "auto"))
    errors = [made.refinement.error_history[made.refinement.kept] for made in (still, moved)]
    assert errors[1] < 0.5 * errors[0]
    assert still.refinement.fly_path is None and not any("stage" in note for note in still.notes)
    path = moved.refinement.fly_path
    assert path is not None and "The stage goes" in moved.notes[0]
    assert np.median(np.sqrt(12 * np.square(path).sum(axis=-1).mean(axis=-1))) == pytest.approx(5, rel=0.15)
    again = iterate(flown, SOLVER, IterationOptions(**{**free, "iterations": 2}), moved.refinement).refinement
    assert again.error_history[0] == pytest.approx(errors[1], rel=1e-2)


def test_a_steady_scan_is_as_good_with_it(plain: RawData) -> None:
    """Nothing is found where there is nothing, and the very same object comes out."""
    free = {"iterations": 3, "modes": None, "likelihood": "amplitude"}
    still, asked = (iterate(plain, SOLVER, IterationOptions(**free, fly_points=how)) for how in (None, "auto"))
    assert asked.refinement.fly_path is None and asked.notes[0].startswith("The stage is at rest")
    np.testing.assert_array_equal(still.refinement.object, asked.refinement.object)


@pytest.mark.slow
def test_a_fly_scan_of_the_near_field_is_undone() -> None:
    """Under a diffuser; as many places as pixels of the way, whose fringes a near detector sees. Slow structure takes
    longer than this.
    """
    sample = {"kind": "siemens_star", "amplitude": (0.7, 1.0), "phase": (-0.8, 0.8), "seed": 1, "photons": 1e6}
    optics = {"probe": "diffuser", "N": 32, "shape": (64, 64), "step": 6.0, "path": "raster"}
    flown = ptycho.simulate(fresnel_number=0.3, fly=1.0, **sample, **optics)
    free = {"iterations": 20, "modes": None, "likelihood": "amplitude", "refine_probe": False}
    still, moved = (
        iterate(flown, SOLVER, IterationOptions(**free, **how)).refinement
        for how in ({}, {"fly_points": "auto", "fly_duty": 1.0})
    )
    assert moved.fly_path is not None and moved.fly_path.shape[1] == 8
    assert moved.error_history[-1] < 0.3 * still.error_history[-1]
    x, y = (slice(int(each.min()), int(each.max())) for each in (flown.xcoords, flown.ycoords))
    assert flown.objectGuess is not None
    truth = abs(flown.objectGuess[y, x])

    def distance(found: Refinement) -> float:
        image = found.object[y.start - found.frame.y0 :, x.start - found.frame.x0 :][: truth.shape[0], : truth.shape[1]]
        return float(np.linalg.norm(truth - abs(image)))

    assert distance(moved) < 0.8 * distance(still)
