"""Refinement on small simulated scans: it converges, keeps units, honours masks and never ends worse than it began."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.stage import stage_of
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.device.engine import Engine
from ptycho.core.refinement.device.kernels import Point
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.sums.passes import Passes
from ptycho.core.simulation.plan import SimulatedScan, make_scan
from ptycho.errors import DataError
from ptycho.raw_data import RawData
from ptycho_torch.refine import ENGINE, refine
from ptycho_torch.refinement_kernels import RefinementKernels

N, SIZE = 16, 44
FRAME = ObjectFrame(SIZE, SIZE, 0, 0)


def scan_of(made: SimulatedScan, **changes) -> RawData:
    fields = {
        "xcoords": made.xcoords,
        "ycoords": made.ycoords,
        "xcoords_start": None,
        "ycoords_start": None,
        "diff3d": made.diffraction,
        "probeGuess": made.probe,
        "units": made.units,
    }
    return RawData(**{**fields, **changes})


@pytest.fixture(scope="module")
def made() -> SimulatedScan:
    return make_scan("lines", SIZE, N, 2.3, 0.5, 1e7, 4)


@pytest.fixture(scope="module")
def scan(made) -> RawData:
    return scan_of(made)


def relative_error(found: np.ndarray, truth: np.ndarray) -> float:
    inner = np.s_[14:-14, 14:-14]
    factor = np.vdot(found[inner], truth[inner])
    return float(np.linalg.norm(found[inner] * factor / abs(factor) - truth[inner]) / np.linalg.norm(truth[inner]))


def test_it_finds_the_object_in_the_units_of_the_probe(scan, made) -> None:
    result = refine(scan, None, 30, frame=FRAME, refine_probe=False, tolerance=0)
    assert relative_error(result.object, made.object) < 0.002
    assert result.error_history[-1] < 2e-5
    assert len(result.error_history) == 31
    assert (result.iterations, result.kept, result.unseen_history) == (30, 30, ())
    assert result.stopped == "the 30 iterations are done"


def test_the_error_that_is_reported_is_the_error_of_the_result(scan) -> None:
    result = refine(scan, None, 7)
    patches, dx, dy = extract_rounded(result.object.astype(complex), result.xcoords, result.ycoords, N)
    modulus = np.sqrt(diffract(result.probe.astype(complex), patches, dx, dy))
    error = np.sum((modulus - scan.amplitude()) ** 2) / np.sum(scan.amplitude().astype(float) ** 2)
    assert result.error_history[-1] == pytest.approx(error, rel=1e-4)


def test_a_wrong_probe_is_mended(scan) -> None:
    wrong = scan.probeGuess * np.exp(0.5j * np.linspace(-1, 1, N) ** 2)
    fixed, free = (refine(scan, None, 40, probe=wrong, refine_probe=moves) for moves in (False, True))
    assert free.error_history[-1] < 0.2 * fixed.error_history[-1]
    np.testing.assert_array_equal(fixed.probe[0], wrong.astype(np.complex64))


def test_scales_of_probe_and_amplitudes(scan, made) -> None:
    flat = np.ones((SIZE, SIZE))
    plain = refine(scan, flat, 10, frame=FRAME)
    brighter_probe = refine(scan_of(made, probeGuess=7 * made.probe), flat / 7, 10, frame=FRAME)
    brighter_data = refine(scan_of(made, diff3d=7 * made.diffraction), 7 * flat, 10, frame=FRAME)
    np.testing.assert_allclose(7 * brighter_probe.object, plain.object, atol=1e-3)
    np.testing.assert_allclose(brighter_data.object / 7, plain.object, atol=1e-3)


def test_it_never_ends_worse_than_it_began(scan, made) -> None:
    """From the truth there is nowhere to go; noise in single precision must not lead away."""
    for first in (made.object, np.ones((SIZE, SIZE)), np.full((SIZE, SIZE), 30)):
        result = refine(scan, first, 12, frame=FRAME, tolerance=0)
        assert result.error_history[result.kept] == min(result.error_history)
        assert all(later <= earlier for earlier, later in itertools.pairwise(result.error_history))


@pytest.mark.parametrize("per_frame", [False, True])
def test_masked_pixels_do_not_matter(scan, made, per_frame, rng) -> None:
    mask = rng.random(made.diffraction.shape if per_frame else (N, N)) > 0.1
    spoiled = np.where(mask, made.diffraction, 1e3).astype(np.float32)
    found = [refine(scan_of(made, diff3d=x, mask=mask), None, 5).object for x in (spoiled, made.diffraction)]
    np.testing.assert_array_equal(*found)
    result = refine(scan_of(made, diff3d=spoiled, mask=mask), None, 60, frame=FRAME, refine_probe=False)
    assert relative_error(result.object, made.object) < 0.01


def test_two_modes_explain_what_one_cannot(scan, made) -> None:
    first = made.probe.astype(complex)
    second = 0.7 * np.roll(first, 4, axis=1) * np.exp(1.5j * np.linspace(-2, 2, N))
    probe = np.stack([first, second])
    patches, dx, dy = extract_rounded(made.object, scan.xcoords, scan.ycoords, N)
    mixed = scan_of(made, diff3d=np.sqrt(diffract(probe, patches, dx, dy)), probeGuess=probe)
    both = refine(mixed, None, 30)
    assert both.probe.shape == (2, N, N)
    assert both.error_history[-1] < 0.1 * refine(mixed, None, 30, probe=first).error_history[-1]


@pytest.mark.parametrize(
    "moves", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["known probe", "probe moves"]
)
def test_planted_position_errors_are_found(moves, rng) -> None:
    """Errors of up to a pixel along each axis; the common drift, which no pattern sees, is left out."""
    made = make_scan("lines", 128, 64, 6.0, 2.0, 1e8, 3)
    errors = rng.uniform(-1, 1, (2, len(made.xcoords)))
    wrong = scan_of(made, xcoords=made.xcoords + errors[0], ycoords=made.ycoords + errors[1])
    result = refine(wrong, None, 40, refine_probe=moves, refine_positions=True, tolerance=0)
    for found, frame, true, planted in (
        (result.xcoords, result.frame.x0, made.xcoords, errors[0]),
        (result.ycoords, result.frame.y0, made.ycoords, errors[1]),
    ):
        left = found + frame - true
        assert np.abs(left - left.mean()).max() < 0.1
        assert (left - planted).mean() == pytest.approx(0, abs=1e-3)
    assert result.error_history[-1] < 0.05 * refine(wrong, None, 20).error_history[-1]


def test_positions_stay_within_their_bound(made, rng) -> None:
    errors = rng.uniform(-1, 1, (2, len(made.xcoords)))
    wrong = scan_of(made, xcoords=made.xcoords + errors[0], ycoords=made.ycoords + errors[1])
    result = refine(wrong, None, 20, refine_positions=True, position_bound_px=0.25)
    shift = np.stack([result.xcoords - wrong.xcoords, result.ycoords - wrong.ycoords], axis=1)
    shift += result.frame.x0, result.frame.y0
    own = shift - stage_of(wrong.xcoords, wrong.ycoords, shift).displacement(wrong.xcoords, wrong.ycoords)
    assert np.abs(own).max() == pytest.approx(0.25, abs=0.05)


def test_poisson_beats_amplitude_at_few_counts() -> None:
    made = make_scan("lines", SIZE, N, 2.3, 0.5, 300, 4)
    found = {
        kind: refine(scan_of(made), None, 30, frame=FRAME, refine_probe=False, likelihood=kind)
        for kind in ("amplitude", "poisson")
    }
    error = {kind: relative_error(each.object, made.object) for kind, each in found.items()}
    assert error["poisson"] < error["amplitude"]
    assert relative_error(np.ones((SIZE, SIZE)), made.object) > error["poisson"]


def test_held_out_patterns_keep_noise_from_being_fitted() -> None:
    made = make_scan("lines", 64, N, 4.5, 0.5, 300, 4)
    everything = refine(scan_of(made), None, 60, refine_probe=False, tolerance=0)
    chosen = refine(scan_of(made), None, 60, refine_probe=False, tolerance=0, holdout=0.15)
    assert chosen.kept == int(np.argmin(chosen.unseen_history))
    assert 0 < chosen.kept < len(chosen.unseen_history) - 1
    assert chosen.stopped.startswith("the error of the unseen patterns")
    frame = chosen.frame
    truth = made.object[frame.y0 : frame.y0 + frame.height, frame.x0 : frame.x0 + frame.width]
    assert relative_error(chosen.object, truth) < relative_error(everything.object, truth)


def test_mini_batches_get_there_too(scan, made) -> None:
    result = refine(scan, None, 20, frame=FRAME, refine_probe=False, batch_size=20, tolerance=0)
    assert relative_error(result.object, made.object) < 0.005
    whole = refine(scan, None, 1, frame=FRAME, refine_probe=False)
    assert result.error_history[1] < whole.error_history[1]


def test_the_same_seed_gives_the_same_numbers(scan) -> None:
    one, again, other = (refine(scan, None, 3, batch_size=20, holdout=9, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.object, again.object)
    assert one.unseen_history != other.unseen_history


def test_what_is_kept_in_memory_changes_nothing(scan) -> None:
    slow, fast = (refine(scan, None, 6, device_memory=budget) for budget in (0, 1 << 30))
    np.testing.assert_allclose(slow.object, fast.object, atol=1e-4)


@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
@pytest.mark.parametrize("most, dtype", [(200, torch.uint8), (60_000, torch.uint16), (None, torch.float16)])
def test_packed_patterns_give_the_same_bits(most, dtype, likelihood, scan, made, monkeypatch) -> None:
    """A budget for patterns in less than four bytes a pixel, and nothing else."""
    if most is None:
        amplitude = scan.amplitude().astype(np.float16).astype(np.float32)
    else:
        amplitude = np.sqrt(np.rint(most * scan.amplitude() ** 2 / scan.amplitude().max() ** 2), dtype=np.float32)
    counted, types, found = scan_of(made, diff3d=amplitude), set(), []
    usual = RefinementKernels.measured

    def measured(kernels, values, valid):
        kept = usual(kernels, values, valid)
        types.add(kept.amplitude.dtype)
        return kept

    monkeypatch.setattr(RefinementKernels, "measured", measured)
    for packs in (True, False):
        monkeypatch.setattr(RefinementKernels, "packs", packs)
        found.append(refine(counted, None, 6, likelihood=likelihood, device_memory=3 * amplitude.size))
        assert types == {dtype if packs else torch.float32}
        types.clear()
    np.testing.assert_array_equal(found[0].object, found[1].object)
    assert found[0].error_history == found[1].error_history


class Counting:
    """A scan that knows how many patterns were asked for at once."""

    def __init__(self, scan: RawData) -> None:
        self.scan, self.largest = scan, 0

    def __getattr__(self, name):
        return getattr(self.scan, name)

    def __len__(self) -> int:
        return len(self.scan)

    def amplitude(self, indices=None):
        self.largest = max(self.largest, len(self.scan) if indices is None else len(indices))
        return self.scan.amplitude(indices)


def test_patterns_are_read_by_the_batch(scan, monkeypatch) -> None:
    monkeypatch.setattr("ptycho_torch.refinement_kernels.CACHED_PIXELS", 40 * N * N)
    counted = Counting(scan)
    found = refine(counted, None, 2, device_memory=0)
    assert 20 < counted.largest <= 40
    monkeypatch.undo()
    np.testing.assert_allclose(found.object, refine(scan, None, 2).object, atol=1e-4)


def test_an_earlier_result_is_a_start(scan) -> None:
    first = refine(scan, None, 6)
    assert first.frame != FRAME
    on = refine(scan, first, 6)
    assert on.frame == first.frame
    assert on.error_history[0] == pytest.approx(first.error_history[-1], rel=1e-3)
    assert on.error_history[-1] < first.error_history[-1]
    product = Reconstruction(
        object=first.object, coverage=np.ones(first.frame.shape, np.float32), probe=first.probe,
        xcoords=first.xcoords, ycoords=first.ycoords, frame=first.frame,
        backend="pytorch", method="network", subpixel="bilinear", network_object=None, error_history=(), timings={},
        synchronised=False, agreement=(0.0, 0.0),
    )  # fmt: skip
    np.testing.assert_array_equal(refine(scan, product, 6).object, on.object)


def test_it_stops_by_itself(scan, made) -> None:
    result = refine(scan_of(made, diff3d=made.diffraction), None, 500, refine_probe=False, tolerance=0.05)
    assert result.iterations < 100
    assert result.stopped == "the error of the patterns fell by less than 0.05 in 5 iterations"


def test_a_frame_too_small_is_an_error(scan) -> None:
    with pytest.raises(DataError, match="enlarge the object"):
        refine(scan, np.ones((30, 30)), 1, frame=ObjectFrame(30, 30, 0, 0))


@pytest.fixture
def threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    yield
    torch.set_num_threads(usual)


@pytest.mark.parametrize("moves", ["object", "probe and positions"])
def test_batches_on_several_threads_make_one_answer(moves, scan, monkeypatch, threads) -> None:
    """The same digits again, the same answer as on one thread, and the program's own threads as they were."""
    monkeypatch.setattr("ptycho_torch.refinement_kernels.CACHED_PIXELS", 5 * N * N)
    settings = {"refine_probe": False} if moves == "object" else {"refine_positions": True}
    found = []
    for count in (3, 3, 1):
        torch.set_num_threads(count)
        found.append(refine(scan, None, 9, tolerance=0, **settings))
        assert torch.get_num_threads() == count
        assert not [each for each in threading.enumerate() if each.name.startswith("refinement")]
    first, again, alone = found
    np.testing.assert_array_equal(first.object, again.object)
    assert first.error_history == again.error_history
    assert first.error_history != alone.error_history
    np.testing.assert_allclose(first.object, alone.object, atol=2e-4)
    np.testing.assert_allclose(first.error_history, alone.error_history, rtol=1e-3)


class Transfers(TorchDispatchMode):
    """Counts what goes to the kernels and comes from them, and every number that is read from a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            self.seen["numbers"] += 1
        return function(*args, **(kwargs or {}))

    def kernels(self, batch: int) -> type[RefinementKernels]:
        """Kernels that are counted and take so many patterns at once."""
        seen = self.seen

        class Counted(RefinementKernels):
            def __init__(self, *options, **named) -> None:
                super().__init__(*options, **named)
                self.lanes, self.batch_pixels = 1, batch * N * N

            def _stays(self) -> bool:
                return True  # a CPU stands in for a device

        def counted(name):
            usual = getattr(RefinementKernels, name)

            def method(*arguments):
                seen[name] += name == "numpy" or any(isinstance(each, np.ndarray) for each in arguments)
                return usual(*arguments)

            return method

        for name in ("image", "numpy", "measured", "background", "blur", "pieces", "corners", "ramps", "transfer"):
            setattr(Counted, name, counted(name))
        return Counted


def transfers_of(scan: RawData, batch: int, **settings) -> list[Counter[str]]:
    """What crosses in each of nine iterations, with so many patterns at once."""
    counts, transfers = [], Transfers()
    engine = Engine("counted", transfers.kernels(batch))

    def report(iteration: int, error: float) -> None:
        counts.append(Counter(transfers.seen))

    with transfers:
        refine_scan(scan, None, 9, engine=engine, tolerance=0, report=report, **settings)
    return [after - before for before, after in itertools.pairwise(counts)]


MOVES: dict[str, tuple[dict, dict | None]] = {
    "object": ({"refine_probe": False}, {}),
    "probe": ({}, {}),
    "two modes": ({"probe": "modes"}, {}),
    "flux": ({"refine_probe": False, "refine_flux": True}, {}),
    "background": ({"refine_probe": False, "refine_background": "smooth"}, {"background": 1, "numpy": 1}),
    "blur": ({"refine_probe": False, "refine_blur": True, "blur": 0.5}, {"blur": 2, "numpy": 1}),
    "positions": ({"refine_positions": True, "refine_flux": True}, {"pieces": 2, "numpy": 1}),
    "variable probe": ({"variable_probe": 1}, None),
}
"""What moves, and what else crosses in the ninth iteration, as far as it is looked at: flux does not move there."""


@pytest.mark.parametrize("moves", MOVES)
def test_what_crosses_to_the_device_in_an_iteration_does_not_grow_with_the_batches(scan, moves) -> None:
    """One number comes back. No image goes or comes, but where a probe that moves is brought back to its place, the
    preconditioner is made anew, and the stage or a mode of variation is looked for.
    """
    settings, expected = MOVES[moves]
    if "probe" in settings:
        settings = {"probe": np.stack([scan.probeGuess, 0.3 * np.roll(scan.probeGuess, 2, axis=0)])}
    one, many = (transfers_of(scan, batch, **settings) for batch in (len(scan), 6))
    assert one[1:] == many[1:]
    assert [each["numbers"] for each in many] == [1] * 9
    assert expected is None or +many[8] == {"numbers": 1, **expected}
    if moves == "flux":
        assert [+each == {"numbers": 1, "pieces": 1, "numpy": 1} for each in many[3:]] == [True, False] * 3


@pytest.mark.parametrize("moves", ["object", "probe and positions"])
def test_numbers_that_stay_on_a_device_lead_the_same_way(moves, scan) -> None:
    settings = {"refine_probe": False} if moves == "object" else {"refine_positions": True, "refine_flux": True}
    engine = Engine("counted", Transfers().kernels(40))
    there, here = (refine_scan(scan, None, 9, engine=one, tolerance=0, **settings) for one in (engine, ENGINE))
    np.testing.assert_allclose(there.error_history, here.error_history, rtol=1e-4)
    np.testing.assert_allclose(there.object, here.object, atol=1e-4)


class WholeNumbers(RefinementKernels):
    """What a GPU does where the same bits are asked for, on a CPU."""

    def __init__(self, *options, **named) -> None:
        super().__init__(*options, **named)
        self.whole_numbers, self.lanes, self.batch_pixels = True, 1, 40 * N * N


@pytest.mark.parametrize("moves", ["object", "probe and positions"])
def test_sums_of_whole_numbers_lead_the_same_way(moves, scan) -> None:
    settings = {"refine_probe": False} if moves == "object" else {"refine_positions": True}
    one, usual = (
        refine_scan(scan, None, 9, engine=engine, tolerance=0, **settings)
        for engine in (Engine("whole numbers", WholeNumbers), ENGINE)
    )
    np.testing.assert_allclose(one.error_history, usual.error_history, rtol=1e-4)
    np.testing.assert_allclose(one.object, usual.object, atol=2e-4)
    # the last digits are others: it was not the usual way that was gone
    assert not np.array_equal(one.object, usual.object)


def test_kernels_that_add_whole_numbers_add_in_every_order(rng) -> None:
    kernels = WholeNumbers("amplitude", 0.0)
    rows, cols = rng.integers(0, 20, (2, 60))
    patches = torch.as_tensor(rng.standard_normal((60, N, N)) * 10 ** rng.uniform(-6, 0, (60, 1, 1))).to(
        torch.complex64
    )
    one, other = (
        kernels.add(None, (40, 37), patches[k], kernels.corners(rows[k], cols[k]))
        for k in (np.arange(60), rng.permutation(60))
    )
    assert torch.equal(one, other) and one.any()


@pytest.mark.parametrize("whole", [True, False])
def test_a_gradient_that_is_not_finite_is_told(whole, scan, monkeypatch) -> None:
    """However patches are added: what the search has found by then is kept."""
    usual, asked = RefinementKernels.pull, []

    def pull(kernels, *arguments):
        error, waves, gradient = usual(kernels, *arguments)
        asked.append(gradient)
        if len(asked) > 5:
            gradient[0, 3, 4] = np.nan
        return error, waves, gradient

    monkeypatch.setattr(RefinementKernels, "pull", pull)
    engine = Engine("whole numbers", WholeNumbers) if whole else ENGINE
    found = refine_scan(scan, None, 9, engine=engine, refine_probe=False, tolerance=0)
    assert np.isfinite(found.object).all() and np.isfinite(found.error_history).all()
    assert found.stopped.startswith("no step lowers the error any more") and 0 < found.iterations < 9


def test_a_cpu_adds_in_the_order_of_the_patterns_whatever_the_batches(scan) -> None:
    """On one thread, to the bit, and not as whole numbers."""
    assert not RefinementKernels("amplitude", 0.0, deterministic=True).whole_numbers
    assert RefinementKernels("amplitude", 0.0, device="meta", deterministic=True).whole_numbers

    def found(batch: int) -> np.ndarray:
        kernels = RefinementKernels("amplitude", 1e-3)
        kernels.lanes, kernels.batch_pixels = 1, batch * N * N
        passes = Passes(kernels, scan, [np.arange(len(scan))], np.arange(0), 1, 0)
        flat, count = np.ones(FRAME.shape, np.complex64), len(scan)
        point = Point(
            flat,
            scan.probeGuess[None].astype(np.complex64),
            scan.xcoords,
            scan.ycoords,
            np.ones(count),
            np.zeros((N, N)),
        )
        return np.asarray(passes.gradient(point, False)[1].object)

    np.testing.assert_array_equal(found(7), found(50))


def test_a_gpu_takes_as_many_patterns_at_once_as_it_holds(scan, monkeypatch) -> None:
    """Not run on one: its free memory is told."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 20, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 << 20)  # by refinements before
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4 << 20)
    kernels = RefinementKernels("amplitude", 0.0, device="cuda")
    assert (kernels.memory, kernels.batch_pixels, kernels.lanes) == (3 << 19, None, 1)
    every = Passes(kernels, scan, [np.arange(len(scan))], np.arange(0), 1, 1 << 30)
    some = Passes(kernels, scan, [np.arange(len(scan))], np.arange(0), 1, kernels.memory)
    assert every.plan.batch == len(every.seen[0].indices) == len(scan)
    assert some.plan.batch == (3 << 19) // 4 // (15 * 8 * N**2) == 12
    assert max(len(part.indices) for part in some.seen) <= 12
    assert some.plan.fields and not some.plan.probes
