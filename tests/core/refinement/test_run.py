"""Refinement without a framework: the driver on a toy, the laws of the preconditioner, the oracle's derivatives."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.diffraction import fourier_shift
from ptycho.core.refinement.descent import Limits, descend
from ptycho.core.refinement.device.kernels_numpy import ENGINE, NumpyKernels
from ptycho.core.refinement.device.numbers import PlainNumbers
from ptycho.core.refinement.run import run
from ptycho.core.refinement.settings import Settings
from ptycho.core.refinement.steps.preconditioner import Preconditioner, modulation_curvature
from ptycho.core.simulation.plan import make_scan
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData

N, SIZE = 16, 44
SETTINGS = Settings(
    iterations=8,
    likelihood="amplitude",
    refine_probe=True,
    refine_positions=False,
    position_bound_px=2.0,
    refine_flux=False,
    batch_size=None,
    holdout=0.0,
    patience=5,
    tolerance=0.0,
    seed=0,
    device_memory=1 << 30,
)


class Bowl:
    """`|x - target|^2_H / 2` with two mini-batches, the halves of H; it counts what is asked of it."""

    holds_out, numbers = False, PlainNumbers()

    def __init__(self, curvatures: list[float], batches: int = 1, reach: float = math.inf) -> None:
        self.h = np.array(curvatures)
        self.target = np.arange(1.0, len(self.h) + 1)
        self.batches, self.reach, self.gradients = batches, reach, 0

    def _part(self, batch):
        return self.h if batch is None else self.h / self.batches

    def error(self, point):
        far = np.abs(point).max() > self.reach
        return math.inf if far else float((self.h * (point - self.target) ** 2).sum() / 2)

    def gradient(self, point, batch=None):
        self.gradients += 1
        return self.error(point), self._part(batch) * (point - self.target)

    def precondition(self, point, gradient, iteration):
        return gradient.copy()

    def curvature(self, point, direction, batch=None):
        return float((self._part(batch) * direction**2).sum())

    def dot(self, a, b):
        return float(a @ b)

    def combine(self, a, factor, b):
        return factor * b - a

    def step(self, point, direction, length):
        return point + length * direction

    def adjust(self, point, iteration):
        return point


def down(problem, iterations=20, patience=50, tolerance=0.0, **options):
    start = np.zeros(len(problem.h))
    return descend(problem, start, Limits(iterations, patience, tolerance), np.random.default_rng(0), **options)


def test_conjugate_directions_need_as_many_steps_as_there_are_curvatures() -> None:
    problem = Bowl([1.0, 7.0, 50.0])
    found = down(problem, 3)
    np.testing.assert_allclose(found.point, problem.target, rtol=1e-9)
    assert problem.gradients == 4
    assert found.kept == 3
    assert found.stopped == "the 3 iterations are done"


def test_every_iteration_is_reported_and_the_error_never_rises() -> None:
    seen: list[tuple[int, float]] = []
    found = down(Bowl([1.0, 2.0, 3.0, 900.0]), 3, report=lambda k, e: seen.append((k, e)))
    assert [k for k, _ in seen] == [0, 1, 2, 3]
    assert [e for _, e in seen] == found.errors
    assert all(later < earlier for earlier, later in zip(found.errors, found.errors[1:], strict=False))


def test_it_stops_when_nothing_is_gained() -> None:
    found = down(Bowl([1.0, 7.0]), 40, patience=3, tolerance=0.01)
    assert found.stopped.startswith(("no step lowers", "the error of the patterns fell by less than 0.01", "nothing"))
    assert len(found.errors) < 10


def test_it_stops_at_the_noise_with_the_point_whose_error_is_nearer_to_it() -> None:
    """Errors of a bowl fall by a known factor each step: what is kept follows from the noise alone."""
    problem, nothing = Bowl([1.0, 7.0, 50.0]), np.zeros(3)
    errors = down(problem, 3).errors
    assert errors[0] > errors[1] > errors[2] > errors[3]
    middle = np.sqrt(errors[1] * errors[2])
    for noise, kept, entries in ((1.01 * middle, 1, 3), (0.99 * middle, 2, 3), (1.1 * errors[0], 0, 1)):
        found = descend(problem, nothing, Limits(9, 9, 0.0, noise), np.random.default_rng(0))
        assert (found.kept, len(found.errors)) == (kept, entries)
        assert found.stopped == f"the patterns are explained to the noise, after {entries - 1} iterations"
        assert problem.error(found.point) == found.errors[kept]


def test_a_step_too_far_is_taken_back_and_shortened() -> None:
    problem = Bowl([1.0, 1.0], reach=1.2)
    found = down(problem, 30)
    assert found.restarts > 0
    assert np.abs(found.point).max() <= 1.2
    assert found.errors[found.kept] < found.errors[0]


def test_a_start_at_the_answer_stays_there() -> None:
    problem = Bowl([1.0, 5.0])
    found = descend(problem, problem.target, Limits(5, 5, 0.0), np.random.default_rng(0))
    np.testing.assert_array_equal(found.point, problem.target)
    assert found.stopped.startswith("nothing is left to explain")


def test_sweeps_over_batches_hand_over_to_full_steps() -> None:
    problem = Bowl([1.0, 30.0, 4.0], batches=4)
    found = down(problem, 40)
    np.testing.assert_allclose(found.point, problem.target, rtol=1e-6)
    assert found.errors[1] < found.errors[0]


class Ruined(Bowl):
    """After some gradients every further one is not a number, and so is what a step along it leads to."""

    def __init__(self, curvatures: list[float], sound: int, batches: int = 1) -> None:
        super().__init__(curvatures, batches)
        self.sound = sound

    def gradient(self, point, batch=None):
        error, gradient = super().gradient(point, batch)
        return error, gradient if self.gradients <= self.sound else gradient * math.nan


@pytest.mark.parametrize("batches", [1, 4])
@pytest.mark.parametrize("sound", [0, 1, 2])
def test_what_is_not_finite_is_never_the_result(sound: int, batches: int) -> None:
    """The best point so far is, the start included."""
    problem = Ruined([1.0, 7.0, 50.0], sound, batches)
    found = down(problem)
    assert np.isfinite(found.point).all()
    assert problem.error(found.point) == min(error for error in found.errors if math.isfinite(error))
    assert found.stopped.startswith("no step lowers the error any more")


@pytest.mark.parametrize("beyond", [math.nan, math.inf])
@pytest.mark.parametrize("batches", [1, 3])
def test_what_is_not_finite_is_taken_back(beyond, batches) -> None:
    """A step that leads where the error cannot be told ends at the best point before it."""

    class Cliff(Bowl):
        def error(self, point):
            return beyond if np.abs(point).max() > self.reach else super().error(point)

    found = down(Cliff([1.0, 40.0, 900.0], batches=batches, reach=1.5), 30)
    assert np.isfinite(found.point).all()
    assert np.isfinite(found.errors).all()
    assert found.errors[found.kept] == min(found.errors) < found.errors[0]
    assert found.restarts > 0
    assert found.stopped.startswith("no step lowers the error")


def test_a_start_that_is_not_finite_ends_at_once() -> None:
    problem = Bowl([1.0, 5.0])
    found = descend(problem, np.full(2, np.nan), Limits(5, 5, 0.0), np.random.default_rng(0))
    assert found.stopped == "the error of the start is not finite"
    assert problem.gradients == 1


class Unseen(Bowl):
    """What is unseen wants another answer, half-way."""

    holds_out = True

    def unseen_error(self, point):
        return float(((point - self.target / 2) ** 2).sum())


def test_the_point_that_explains_unseen_data_best_is_kept() -> None:
    found = down(Unseen([1.0, 9.0, 81.0]), 30, patience=4)
    best = int(np.argmin(found.unseen))
    assert found.kept == best
    assert 0 < best < len(found.unseen) - 1
    assert "unseen" in found.stopped


def test_slow_phases_are_soft_and_fast_ones_are_not() -> None:
    probe = make_scan("lines", SIZE, N, 4.0, 0.0, 1e6, 0).probe
    frequency, phase, amplitude = modulation_curvature(probe)
    assert frequency[0] == 0
    assert phase[0] == pytest.approx(0, abs=1e-6)
    assert amplitude[0] == pytest.approx(2, rel=1e-5)
    assert phase[frequency < 0.01].max() < 0.02
    assert phase[-1] == pytest.approx(1, abs=0.15)
    np.testing.assert_allclose(phase + amplitude, 2, atol=1e-4)  # one mode: what one loses the other gains


def test_the_curvature_of_a_modulation_is_that_of_the_likelihood() -> None:
    """A slow phase and a slow amplitude on a flat object, against the oracle's own curvature along them."""
    probe = make_scan("lines", SIZE, N, 4.0, 0.0, 1e6, 0).probe.astype(complex)
    kernels, y = NumpyKernels("amplitude", 1e-12), np.mgrid[:N, :N][0] - N // 2
    valid = kernels.measured(np.zeros((1, N, N)), None)
    flat, probes = np.ones((1, N, N)), probe[None, None]
    frequency, *expected = modulation_curvature(probe)
    for wave, curve in zip((1j, 1.0), expected, strict=True):
        found = np.zeros(2)
        for turn in ([0, 0.5], [0.5, 0]):
            for axis in range(2):
                for phase in np.pi * np.arange(4) / 4:
                    r = y if axis == 0 else y.T
                    angle = 2 * np.pi * frequency[20] * (r + 2 * turn[0]) + phase
                    move = kernels.fields_along(probes, flat, None, wave * np.cos(angle)[None])
                    found += [kernels.slopes(kernels.fields(probes, flat), move, valid), (abs(move) ** 2).sum()]
        assert found[0] / found[1] * 2 == pytest.approx(np.interp(frequency[20], frequency, curve), rel=0.1)


def test_the_preconditioner_is_symmetric_and_positive(rng) -> None:
    def draw(*shape):
        return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)

    image, probe = draw(23, 31), draw(2, 8, 8) * np.hanning(8)
    image[3, 4] = 0
    rows, cols = rng.integers(0, 15, 20), rng.integers(0, 23, 20)
    mapping = Preconditioner(image, probe, rows, cols, with_probe=True)
    for apply, at in ((mapping.object_step, image), (mapping.probe_step, probe)):
        a, b = draw(*at.shape), draw(*at.shape)
        mapped_a, mapped_b = apply(a, at), apply(b, at)
        assert np.vdot(a, mapped_b).real == pytest.approx(np.vdot(mapped_a, b).real, rel=1e-10)
        assert np.vdot(a, mapped_a).real > 0


def refined(scan: RawData, start=None, probe=None, frame=None, **change):
    return run(ENGINE, scan, start, probe, frame, replace(SETTINGS, **change))


def test_the_oracle_refines() -> None:
    made = make_scan("lines", SIZE, N, 2.3, 0.5, 1e7, 4)
    scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")
    found = refined(scan, frame=ObjectFrame(SIZE, SIZE, 0, 0), iterations=12, refine_probe=False)
    inner = np.s_[14:-14, 14:-14]
    a, b = found.object[inner], made.object[inner]
    turn = np.vdot(a, b) / abs(np.vdot(a, b))
    assert np.linalg.norm(a * turn - b) < 0.02 * np.linalg.norm(b)
    assert found.error_history[-1] < 1e-3 * found.error_history[0]
    assert (found.iterations, found.kept, len(found.error_history)) == (12, 12, 13)


def test_patterns_held_out_are_some_of_the_scan(small) -> None:
    for wrong in ([], [len(small.scan)], [-1, 0]):
        with pytest.raises(ConfigError, match="holdout: expected"):
            refined(small.scan, holdout=np.array(wrong, int))
    with pytest.raises(ConfigError, match="holdout=99: expected 1 to"):
        refined(small.scan, holdout=99)


def test_a_dark_scan_is_an_error(small) -> None:
    small.scan.diff3d = np.zeros_like(small.scan.diff3d)
    with pytest.raises(DataError, match="expected light in valid pixels"):
        refined(small.scan)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_data_that_are_not_finite_are_one_line(small, value) -> None:
    patterns = small.scan.amplitude()
    lit = np.argwhere(patterns[1] > 0)[0]
    patterns[1][tuple(lit)] = value
    small.scan.amplitude = lambda indices: patterns[indices]
    with pytest.raises(DataError, match="diffraction: expected finite values in valid pixels"):
        refined(small.scan)


def test_a_start_too_large_for_its_numbers_is_one_line(small) -> None:
    """Finite itself, its intensities are not."""
    frame = refined(small.scan, iterations=1).frame
    huge = np.full(frame.shape, 1e200)
    with (
        np.errstate(all="ignore"),
        pytest.raises(DataError, match="start: expected a finite error of the"),
    ):
        refined(small.scan, huge, frame=frame)


def test_the_oracle_moves_a_probe_as_the_physics_does(rng) -> None:
    probe = rng.standard_normal((2, N, N)) + 1j * rng.standard_normal((2, N, N))
    kernels, (dx, dy) = NumpyKernels("amplitude", 0.0), rng.uniform(-0.5, 0.5, (2, 5))
    factor = rng.uniform(0.5, 1.5, 5)
    found = kernels.shifted(probe, kernels.ramps(dx[:, None], dy[:, None], factor, N))
    expected = factor[:, None, None, None] * fourier_shift(probe[None], dx[:, None], dy[:, None])
    np.testing.assert_allclose(found, expected, atol=1e-12)
