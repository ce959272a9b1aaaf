"""Iteration leg by leg: probes held first, doses, starts, positions, time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ptycho.config.options import IterationOptions
from ptycho.core.physics.stage import stage_of
from ptycho.core.progress import Progress
from ptycho.core.refinement.device.kernels_numpy import NumpyKernels
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.result import reconstruction_of
from ptycho.core.refinement.steps.gauge import Gauge
from ptycho.core.refinement.trust import ON_HOST, TrustEngine
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.iterate import iterate
from ptycho.workflows.solver import Solver
from ptycho_torch.refine import refine

SOLVER = Solver(refine, ON_HOST)

N = 32
Simulated = Callable[..., RawData]


def error_of_the_object(found: Refinement, data: RawData) -> float:
    """`|R - T| / |T|` where it is well lit, without the global phase alone: scale, ramp and place are held."""
    assert data.objectGuess is not None
    one, truth = (image[18:-18, 18:-18] for image in (found.object, data.objectGuess))
    turn = np.vdot(one, truth)
    return float(np.linalg.norm(one * turn / abs(turn) - truth) / np.linalg.norm(truth))


def test_a_good_probe_is_not_destroyed_by_freeing_it_at_once(simulated: Simulated) -> None:
    """Strong phases under a sharp disk: free at once, the probe takes over what is the object's and stays wrong."""
    difficult = simulated(kind="siemens_star", phase=(-3.0, 3.0), probe="disk", photons=1e9)
    free, decided = (
        iterate(difficult, SOLVER, IterationOptions(iterations=60, modes=None, refine_probe=how)).refinement
        for how in (True, "auto")
    )
    assert error_of_the_object(decided, difficult) < 0.2 * error_of_the_object(free, difficult)


def test_counts_are_fitted_once_amplitudes_are_explained(plain: RawData, simulated: Simulated) -> None:
    """At 5 photons a pixel and less, amplitudes make the object too dark; counts do not."""
    dim = simulated(photons=2e3)
    amplitude, decided = (
        iterate(dim, SOLVER, IterationOptions(iterations=40, modes=None, likelihood=kind))
        for kind in ("amplitude", "auto")
    )
    assert any(note.startswith("Counts were fitted at the end") for note in decided.notes)
    inside = np.abs(dim.objectGuess[18:-18, 18:-18]).mean()
    brightness = [np.abs(each.refinement.object[18:-18, 18:-18]).mean() / inside for each in (amplitude, decided)]
    assert abs(brightness[1] - 1) < 0.5 * abs(brightness[0] - 1)
    assert decided.refinement.iterations == len(decided.refinement.error_history) - 1 <= 40
    assert amplitude.refinement.counts_from is None
    assert 0 < decided.refinement.counts_from < decided.refinement.iterations
    told = reconstruction_of(decided.refinement)
    assert told.counts_from == decided.refinement.counts_from
    assert reconstruction_of(replace(decided.refinement, kept=1)).counts_from is None  # what is kept is of amplitudes


def test_a_scan_that_is_not_explained_keeps_to_amplitudes(simulated: Simulated) -> None:
    """Positions that are wrong by a pixel: what is left is no photon noise."""
    found = iterate(simulated(position_error=1.0), SOLVER, IterationOptions(iterations=20, modes=None))
    assert not any("Counts" in note for note in found.notes)


def test_the_bound_of_positions_is_an_option_and_their_mean_stays(simulated: Simulated) -> None:
    made = simulated(position_error=1.5, photons=1e7)
    moved = {}
    for bound in (0.5, 4.0):
        options = IterationOptions(
            iterations=60, modes=None, refine_probe=False, refine_positions=True, position_bound_px=bound
        )
        result = iterate(made, SOLVER, options)
        found = result.refinement
        x, y = found.frame.local(made.xcoords, made.ycoords)
        shift = np.stack([found.xcoords - x, found.ycoords - y])
        own = shift - stage_of(x, y, shift.T).displacement(x, y).T
        assert np.abs(own).max() <= 1.1 * bound
        np.testing.assert_allclose(shift.mean(axis=1), 0, atol=0.05)
        assert f"at their bound of {bound:g}" in result.notes[-1]
        moved[bound] = found.error_history[found.kept], float(np.abs(shift).max())
    assert moved[4.0][0] < 0.7 * moved[0.5][0] and moved[4.0][1] > 1


@pytest.mark.parametrize("how", ["flickers", "drops"])
def test_a_beam_that_changes_is_found(plain: RawData, how: str, rng: np.random.Generator) -> None:
    """From 60 to 100 % at random, and down to 30 % halfway: worse without a factor for each pattern, right with it."""
    count = len(plain)
    left = rng.uniform(0.6, 1, count) if how == "flickers" else np.where(np.arange(count) < count // 2, 1.0, 0.3)
    counts = rng.binomial(plain.diff3d.astype(np.int64), left[:, None, None]).astype(np.uint32)
    changed = RawData(plain.xcoords, plain.ycoords, None, None, counts, plain.probeGuess, objectGuess=plain.objectGuess)
    errors, asked = {}, True if how == "flickers" else "auto"
    for refine_flux in (False, asked):
        options = IterationOptions(
            iterations=60, likelihood="amplitude", modes=None, refine_probe=False, refine_flux=refine_flux
        )
        made = iterate(changed, SOLVER, options)
        errors[refine_flux] = made.refinement.error_history[made.refinement.kept]
    assert errors[asked] < 0.25 * errors[False]
    flux = made.refinement.flux
    assert flux.mean() == pytest.approx(1)
    assert np.corrcoef(flux, left)[0, 1] > 0.95
    assert any("The flux of the beam" in note for note in made.notes)
    again = iterate(changed, SOLVER, replace(options, iterations=2), made.refinement).refinement
    assert again.error_history[0] == pytest.approx(errors[asked], rel=1e-2)


def test_of_a_steady_beam_nothing_is_found(plain: RawData) -> None:
    found = {
        refine_flux: iterate(plain, SOLVER, IterationOptions(iterations=40, modes=None, refine_flux=refine_flux))
        for refine_flux in (False, "auto", True)
    }
    assert (found["auto"].refinement.flux == 1).all() and not any("flux" in note for note in found["auto"].notes)
    still, moved = (error_of_the_object(found[how].refinement, plain) for how in (False, True))
    assert moved < 1.05 * still
    assert np.abs(found[True].refinement.flux - 1).max() < 0.02


@pytest.mark.parametrize("family", [True, "constant"])
def test_a_background_is_found_and_told_of(simulated: Simulated, family: Any) -> None:
    """10 counts in every pixel beside 10 counts of the object."""
    lit = simulated(photons=1e4, background=10.0)
    options = IterationOptions(iterations=40, likelihood="amplitude", modes=None, refine_probe=True)
    plain, made = (iterate(lit, SOLVER, replace(options, background=how)) for how in (False, family))
    assert error_of_the_object(made.refinement, lit) < 0.5 * error_of_the_object(plain.refinement, lit)
    assert not plain.refinement.background.any() and not any("background" in note for note in plain.notes)
    note = next(note for note in made.notes if note.startswith("The background of every pattern is "))
    counts = made.refinement.background.mean()
    assert counts == pytest.approx(10, rel=0.1) and f"is {counts:.3g} counts per pixel, " in note
    again = iterate(lit, SOLVER, replace(options, iterations=2, background=family), made.refinement).refinement
    assert again.error_history[0] == pytest.approx(made.refinement.error_history[-1], rel=1e-2)


def test_what_was_subtracted_is_known_and_told_of(simulated: Simulated) -> None:
    lit = simulated(photons=1e4, background=10.0)
    counts = np.square(lit.amplitude(), dtype=np.float64).round() - 10
    left = RawData(lit.xcoords, lit.ycoords, None, None, counts, lit.probeGuess, units="counts")
    made = iterate(left, SOLVER, IterationOptions(iterations=4, likelihood="amplitude", modes=None))
    np.testing.assert_array_equal(made.refinement.background, left.background)
    assert next(note for note in made.notes if "background" in note).startswith("Patterns go below 0, as after a")


def test_a_grid_that_went_to_the_probe_is_told_of(plain: RawData) -> None:
    for grid, told in ((0.0, 0), (0.025, 1)):

        def gridded(*args: Any, grid: float = grid, **settings: Any) -> Refinement:
            return replace(refine(*args, **settings), gauge=Gauge(grid=grid))

        found = iterate(plain, Solver(gridded, ON_HOST), IterationOptions(iterations=2, refine_probe=True, modes=None))
        notes = [note for note in found.notes if note.startswith("A grid with the period of the raster's steps, 2.5 %")]
        assert len(notes) == told


def test_the_result_lies_on_the_object_of_the_scan(plain: RawData) -> None:
    found = iterate(plain, SOLVER, IterationOptions(iterations=2, modes=None, refine_probe=True)).refinement
    assert (found.frame.height, found.frame.width, found.frame.x0, found.frame.y0) == (76, 76, 0, 0)


def test_it_goes_on_from_a_result_and_tells_of_every_iteration(plain: RawData) -> None:
    seen: list[int] = []
    options = IterationOptions(iterations=8, likelihood="amplitude", modes=None)
    first = iterate(plain, SOLVER, options, watch=lambda progress: seen.append(int(progress.done))).refinement
    assert seen == list(range(9)) and first.iterations == 8
    second = iterate(plain, SOLVER, options, first)
    assert second.refinement.error_history[0] == pytest.approx(first.error_history[first.kept], rel=1e-3)
    assert not any("held" in note and "unseen" in note for note in second.notes)


@pytest.mark.parametrize(
    ("rate", "asked", "likelihood", "to_the_end", "expected"),
    [
        (0.97, None, "amplitude", False, 400),
        (0.97, 60, "amplitude", False, 60),
        (0.995, None, "amplitude", False, 400),
        (0.9985, None, "amplitude", False, 80),
        (0.975, None, "auto", False, 400),
        (0.97, None, "auto", False, 320),
        (0.7, None, "auto", False, 80),
        (0.7, None, "auto", True, 400),
        (0.7, 60, "auto", True, 60),
    ],
)
def test_iterations_go_on_while_they_gain_much_and_nobody_said_how_many(
    plain: RawData, rate: float, asked: int | None, likelihood: str, to_the_end: bool, expected: int
) -> None:
    """Errors that fall by a rate: to 74 % in ten iterations, to 95 or 98.5 %, or down to the noise and further."""
    told: list[Progress] = []
    options = IterationOptions(iterations=asked, likelihood=likelihood, refine_probe=True, modes=None)
    falling = errors_that_fall(plain, {"amplitude": rate, "poisson": rate})
    found = iterate(plain, Solver(falling, ON_HOST), options, watch=told.append, to_the_end=to_the_end).refinement
    assert found.iterations == expected == len(found.error_history) - 1
    assert [progress.done for progress in told] == list(range(expected + 1))
    assert all(progress.done <= progress.total for progress in told) and told[-1].total == expected


@pytest.mark.parametrize(("rate", "asked", "expected"), [(0.9, None, 400), (0.9985, None, 100), (0.9, 80, 100)])
def test_iterations_with_a_network_s_prior_go_on_while_they_gain(
    plain: RawData, rate: float, asked: int | None, expected: int
) -> None:
    """80 without it gain little, 20 with it by the rate."""
    options = IterationOptions(iterations=asked, likelihood="amplitude", modes=None, refine_probe=True)
    options = replace(options, object_prior="network", prior_strength=1.0)
    without, held = (errors_that_fall(plain, {"amplitude": each}) for each in (0.9985, rate))

    def refine(*where: Any, **settings: Any) -> Refinement:
        return (without if settings["object_prior"] is None else held)(*where, **settings)

    told: list[Progress] = []
    found = iterate(plain, Solver(refine, ON_HOST), options, watch=told.append).refinement
    assert found.iterations == expected == len(found.error_history) - 1
    assert told[-1].done == expected and all(progress.done <= progress.total for progress in told)


@pytest.mark.parametrize(("rate", "expected"), [(0.9998, 80), (0.9995, 400)])
def test_counts_end_where_they_gain_hardly_anything(plain: RawData, rate: float, expected: int) -> None:
    """0.2 and 0.5 % of the error in ten iterations."""
    options = IterationOptions(refine_probe=True, modes=None)
    falling = errors_that_fall(plain, {"amplitude": 0.7, "poisson": rate})
    assert iterate(plain, Solver(falling, ON_HOST), options, to_the_end=True).refinement.iterations == expected


def errors_that_fall(scan: RawData, rates: dict[str, float]) -> Callable[..., Refinement]:
    """A refinement whose error falls in every iteration to so much of it, by the likelihood that is fitted."""
    real = refine(scan, None, 1, refine_probe=False)

    def falling(scan: Any, start: Any, iterations: int, *, report: Any, likelihood: str, **settings: Any) -> Refinement:
        begin = start.error_history[-1] if isinstance(start, Refinement) else 1.0
        errors = tuple(float(begin * rates[likelihood] ** step) for step in range(iterations + 1))
        for step, error in enumerate(errors if report else ()):
            report(step, error)
        return replace(real, error_history=errors, kept=iterations, iterations=iterations)

    return falling


def test_a_network_s_object_is_given_up_no_further_than_the_noise_demands(plain: RawData) -> None:
    """Which the engine says that is given."""
    asked: list[NumpyKernels] = []

    def kernels() -> NumpyKernels:
        asked.append(NumpyKernels("amplitude", 0.0))
        return asked[-1]

    assert plain.objectGuess is not None
    options, solver = IterationOptions(iterations=20, modes=None), Solver(refine, TrustEngine(kernels))
    found = iterate(plain, solver, options, plain.objectGuess).refinement
    assert found.iterations < 8 and "noise" in found.stopped and asked
    longer = iterate(plain, solver, options, found).refinement
    assert longer.iterations > found.iterations


def test_time_is_a_limit(plain: RawData) -> None:
    found = iterate(plain, SOLVER, IterationOptions(iterations=5000, seconds=0.4, modes=None)).refinement
    assert "s are over" in found.stopped and 0 < found.iterations < 1000


def test_modes_by_number_begin_from_one_probe(plain: RawData) -> None:
    found = iterate(plain, SOLVER, IterationOptions(iterations=3, modes=3)).refinement
    assert found.probe.shape == (3, N, N)
    with pytest.raises(ConfigError, match="modes=2: expected a probe that moves"):
        iterate(plain, SOLVER, IterationOptions(modes=2, refine_probe=False))


def test_options_refuse_what_cannot_work() -> None:
    for wrong in ({"modes": 0}, {"likelihood": "chi"}, {"seconds": 0.0}, {"refine_probe": "later"}, {"modes": True}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            IterationOptions(**wrong)
