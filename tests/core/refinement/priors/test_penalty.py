"""The term of what is known: differences of the whole error, in every split of object and probe, and what it does."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame
from ptycho.core.quality.registration import remove_plane
from ptycho.core.refinement.device.kernels import Direction, Point
from ptycho.core.refinement.device.kernels_numpy import NumpyKernels
from ptycho.core.refinement.device.likelihood import intensity_floor
from ptycho.core.refinement.priors.object_prior import Belief, ObjectPrior, Sample
from ptycho.core.refinement.priors.penalty import Penalty
from ptycho.core.refinement.problem import ScanProblem
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.steps.gauge import scale_factor
from ptycho.core.refinement.sums.passes import Passes
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.raw_data import RawData

N, SIZE = 16, 40


def scan_of(photons: float, kind: str = "siemens_star", **settings: Any) -> RawData:
    plan, rng = plan_scan(
        ScanSettings(kind=kind, N=N, shape=(SIZE, SIZE), step=4.0, photons=photons, seed=3, **settings)
    )
    made = expose(plan, rng)
    x, y = made.xcoords, made.ycoords
    return RawData(x, y, None, None, made.diffraction, made.probe, objectGuess=made.object, units=made.units)


def middle() -> Sample:
    inside = np.zeros((SIZE, SIZE), bool)
    inside[12:-12, 9:-9] = True
    return Sample(inside, ObjectFrame(SIZE, SIZE, 0, 0))


def prior(name: str, strength: float) -> ObjectPrior:
    belief = None
    if name == "network":
        frame = ObjectFrame(SIZE - 9, SIZE - 5, 5, 9)
        y, x = np.indices(frame.shape)
        belief = Belief(np.exp(0.03j * x), 0.5 + 0.01 * y, frame)
    return ObjectPrior(name, strength, middle() if name == "support" else None, belief)  # type: ignore[arg-type]


@pytest.fixture
def scan() -> RawData:
    return scan_of(1e4)


@pytest.fixture
def point(scan, rng) -> Point:
    noise = rng.standard_normal((2, SIZE, SIZE))
    image = 1.05 + 0.1 * (noise[0] + 1j * noise[1])
    count = len(scan)
    nothing = np.ones(count), np.zeros((N, N))
    return Point(image, 1.3 * np.asarray(scan.probeGuess, complex)[None], scan.xcoords, scan.ycoords, *nothing)


def problem_of(scan: RawData, known: ObjectPrior | None, parts: int = 1) -> ScanProblem:
    """With the probe that moves, and in so many mini-batches."""
    kernels = NumpyKernels("amplitude", intensity_floor(scan, "amplitude"), dtype=np.float64)
    groups = [np.arange(k, len(scan), parts) for k in range(parts)]
    passes = Passes(kernels, scan, groups, np.arange(0), 1, 0)
    factor = partial(scale_factor, given=scan.probeGuess, scale="probe", moves_probe=True)
    frame = ObjectFrame(SIZE, SIZE, 0, 0)
    penalty = None if known is None else Penalty(known.on(frame), known.strength, passes, factor)
    return ScanProblem(passes, None, True, False, None, None, scan.probeGuess, penalty=penalty)


@pytest.mark.parametrize("name", ["tv", "l1", "absorbing", "phase", "support", "network"])
def test_gradients_are_differences_of_the_whole_error(name, scan, point, rng) -> None:
    problem, step = problem_of(scan, prior(name, 0.5)), 1e-5
    error, gradient = problem.gradient(point)
    assert error == pytest.approx(problem.error(point)) and problem.penalty(point) > 0.2 * error
    energy = float((scan.amplitude().astype(float) ** 2).sum())
    image, probe = (rng.standard_normal(each.shape) + 1j * rng.standard_normal(each.shape) for each in point[:2])
    for move in (Direction(image, 0 * probe), Direction(0 * image, probe)):
        ends = [problem.error(problem.step(point, move, sign * step)) for sign in (1, -1)]
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(2 * problem.dot(gradient, move) / energy, rel=1e-5)


def test_a_probe_that_varies_has_the_term_in_its_own_modes_alone(scan, point, rng) -> None:
    count = len(scan)
    modes = rng.standard_normal((2, N, N)) + 1j * rng.standard_normal((2, N, N))
    coefficients = 0.2 * (rng.standard_normal((count, 2)) + 1j * rng.standard_normal((count, 2)))
    point = point._replace(variation=modes, coefficients=coefficients)
    problem, step = problem_of(scan, prior("tv", 0.5)), 1e-5
    _, gradient = problem.gradient(point)
    energy = float((scan.amplitude().astype(float) ** 2).sum())
    for k in range(3):
        move = Direction(0 * point.object, np.zeros((3, N, N), complex))
        move.probe[k] = rng.standard_normal((N, N)) + 1j * rng.standard_normal((N, N))
        ends = [problem.error(problem.step(point, move, sign * step)) for sign in (1, -1)]
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(2 * problem.dot(gradient, move) / energy, rel=1e-5)
        assert problem.curvature(point, move) > 0


def test_mini_batches_share_the_term(scan, point) -> None:
    """Their gradients and curvatures add up to those of all patterns."""
    whole, parts = (problem_of(scan, prior("tv", 0.5), count) for count in (1, 3))
    _, expected = whole.gradient(point)
    gradients = [parts.gradient(point, batch)[1] for batch in range(3)]
    np.testing.assert_allclose(sum(each.object for each in gradients), expected.object, atol=1e-9)
    curvature = sum(parts.curvature(point, expected, batch) for batch in range(3))
    assert curvature == pytest.approx(whole.curvature(point, expected))
    assert curvature > problem_of(scan, None).curvature(point, expected)


def test_no_split_between_object_and_probe_makes_it_smaller(scan, point) -> None:
    problem = problem_of(scan, prior("tv", 0.5))
    other = point._replace(object=point.object / 7, probe=7 * point.probe)
    assert problem.penalty(other) == pytest.approx(problem.penalty(point))
    assert problem.error(other) == pytest.approx(problem.error(point))


def test_the_map_of_gradients_stays_symmetric_and_positive(scan, point, rng) -> None:
    problem = problem_of(scan, prior("phase", 5.0))
    _, gradient = problem.gradient(point)
    shape = point.object.shape
    some, other = (
        Direction(rng.standard_normal(shape) + 1j * rng.standard_normal(shape), 0 * point.probe) for _ in range(2)
    )
    mapped = [problem.precondition(point, each, 0) for each in (some, other)]
    assert problem.dot(mapped[0], other) == pytest.approx(problem.dot(some, mapped[1]))
    assert all(problem.dot(one, two) > 0 for one, two in zip(mapped, (some, other), strict=True))
    plain = problem_of(scan, None).precondition(point, gradient, 0)
    assert np.linalg.norm(problem.precondition(point, gradient, 0).object) < 0.5 * np.linalg.norm(plain.object)


def error_of(scan: RawData, known: ObjectPrior | None = None) -> tuple[float, Any]:
    found = refine_scan(scan, None, 25, likelihood="poisson", dtype=np.float32, object_prior=known)
    f, inner = found.frame, slice(N // 2, -N // 2)
    truth = scan.objectGuess[f.y0 : f.y0 + f.height, f.x0 : f.x0 + f.width][inner, inner]
    image = remove_plane(found.object[inner, inner], truth)
    image = image * np.vdot(image, truth) / np.vdot(image, image)
    return float(np.linalg.norm(image - truth) / np.linalg.norm(truth)), found


def test_of_few_photons_it_keeps_the_noise_out() -> None:
    """A sample that takes no light, by 200 photons a pattern: what is known of it says much of it."""
    scan = scan_of(200, amplitude=(1.0, 1.0))
    (plain, found), (flat, smooth), (phase, held) = (
        error_of(scan, known) for known in (None, ObjectPrior("tv", 0.01), ObjectPrior("phase", 0.3))
    )
    assert flat < 0.85 * plain and phase < 0.85 * plain
    assert found.penalty == 0 < smooth.penalty < 0.2 * smooth.error_history[-1]
    assert np.std(abs(held.object)) < 0.3 * np.std(abs(found.object))


def test_a_strength_of_nothing_changes_nothing() -> None:
    scan = scan_of(1e3)
    plain, none = (refine_scan(scan, None, 4, object_prior=known) for known in (None, ObjectPrior("tv", 0.0)))
    np.testing.assert_array_equal(plain.object, none.object)
    assert plain.error_history == none.error_history
