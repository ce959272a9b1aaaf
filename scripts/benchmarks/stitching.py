"""Times stitching and phase synchronisation, and checks that planted phases come back.

    python scripts/benchmarks/stitching.py [--patches 1000 10000] [--size 64] [--phases 100000] [--step 6]

Each row runs in a process of its own, so that its peak memory is its own; `over data` is the peak above the
patches themselves and the imported libraries. `whole` is everything that a reconstruction does with patches whose
phases disagree: compare, solve, average with and without the phases, and the spread; its note says how many times the
plain average that takes, measured in the same process. `in PyTorch` is what a GPU does
(`ptycho_torch.device.stitching`), on a CPU and in turn with NumPy. Seconds are those of the processor, of that row
those of the clock.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from ptycho.core.geometry import object_frame
from ptycho.core.stitching.overlaps import overlap_pairs
from ptycho.core.stitching.phase_graph import agreement, solve_phases
from ptycho.core.stitching.stitch import stitch, stitch_variants
from ptycho.core.stitching.sums import MakeSums, NumpySums
from ptycho.core.stitching.synchronise import synchronise


def scan(n: int, step: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """N positions on a square lattice, displaced by up to a quarter of the step."""
    side = int(np.ceil(np.sqrt(n)))
    x, y = (step * a.ravel()[:n] for a in np.meshgrid(np.arange(side), np.arange(side)))
    return x + rng.uniform(-step / 4, step / 4, n), y + rng.uniform(-step / 4, step / 4, n)


def gaussian(size: int) -> np.ndarray:
    """Weight (N, N) of a Gaussian spot whose full width at half maximum is a fifth of the patch."""
    profile = np.exp(-((np.arange(size) - size / 2) ** 2) * 4 * np.log(2) / (size / 5) ** 2)
    return np.outer(profile, profile)


def planted_patches(n: int, size: int, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Patches of a random object times planted phases, their positions and the phases."""
    rng = np.random.default_rng(0)
    x, y = (np.rint(a).astype(int) for a in scan(n, step, rng))
    x, y = x - x.min(), y - y.min()
    phase = rng.uniform(-1, 1, (y.max() + size, x.max() + size))
    truth = np.exp(1j * phase).astype(np.complex64)
    planted = np.exp(2j * np.pi * rng.random(n)).astype(np.complex64)
    patches = np.empty((n, size, size), np.complex64)
    for j in range(n):
        patches[j] = truth[y[j] : y[j] + size, x[j] : x[j] + size] * planted[j]
    return patches, x + size / 2.0, y + size / 2.0, planted


def memory_mib() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def coherence(found: np.ndarray, expected: np.ndarray) -> float:
    """1 where the phases are equal but for a common one."""
    return float(abs(np.vdot(expected, found)) / len(found))


def time_stitching(n: int, size: int, step: float) -> str:
    """One row: the time to stitch n patches."""
    patches, x, y, _ = planted_patches(n, size, step)
    before, start = memory_mib(), time.process_time()
    result, _ = stitch(patches, x, y, gaussian(size), object_frame(x, y, size))
    return row("stitch", n, start, before, f"object {result.shape[0]} x {result.shape[1]}")


def time_synchronising(n: int, size: int, step: float) -> str:
    """One row: the time to compare n patches and solve their phases."""
    patches, x, y, planted = planted_patches(n, size, step)
    before, start = memory_mib(), time.process_time()
    found = synchronise(patches, x, y, gaussian(size))
    note = f"{found.n_edges / n:.1f} pairs each, coherence {coherence(found.solved.phases, planted.conj()):.5f}"
    return row("synchronise", n, start, before, note)


def time_whole(n: int, size: int, step: float) -> str:
    """One row: the time of the whole stitching of n patches, beside that of plain averaging."""
    patches, x, y, planted = planted_patches(n, size, step)
    frame, weight = object_frame(x, y, size), gaussian(size)
    start = time.process_time()
    stitch(patches, x, y, weight, frame)
    plain = time.process_time() - start
    before, start = memory_mib(), time.process_time()
    found = synchronise(patches, x, y, weight)
    stitch_variants(patches, x, y, weight, frame, [None, found.solved])
    ratio = (time.process_time() - start) / plain
    note = f"{ratio:.2f} x plain, coherence {coherence(found.solved.phases, planted.conj()):.5f}"
    return row("whole", n, start, before, note)


def time_torch(n: int, size: int, step: float) -> str:
    """One row: the time of `stitch` in PyTorch on a CPU, in turn with NumPy."""
    from ptycho_torch.device.stitching import TorchSums

    patches, x, y, _ = planted_patches(n, size, step)
    before = memory_mib()
    seconds: dict[MakeSums, list[float]] = {NumpySums: [], TorchSums: []}
    for _ in range(5):
        for sums, times in seconds.items():
            begun = time.perf_counter()
            stitch(patches, x, y, gaussian(size), object_frame(x, y, size), sums=sums)
            times.append(time.perf_counter() - begun)
    numpy, torch = (float(np.median(times)) for times in seconds.values())
    note = f"NumPy {numpy:.2f} s"
    return f"{'in PyTorch':13} {n:8d} {torch:9.2f} {memory_mib():10.0f} {memory_mib() - before:10.0f}  {note}"


def time_solving(n: int, size: int, step: float, noise: float) -> str:
    """One row: the time to solve n planted phases from noisy products."""
    rng = np.random.default_rng(0)
    x, y = scan(n, step, rng)
    pairs = overlap_pairs(x, y, gaussian(size))
    planted = np.exp(2j * np.pi * rng.random(n))
    error = rng.standard_normal((2, len(pairs)))
    products = planted[pairs[:, 0]] * planted[pairs[:, 1]].conj() + noise * (error[0] + 1j * error[1])
    before, start = memory_mib(), time.process_time()
    z = solve_phases(products, pairs, np.stack([x, y], axis=1))
    note = f"noise {noise:g}, coherence {coherence(z, planted):.5f}, residual {agreement(products, pairs, z):.5f}"
    return row("solve phases", n, start, before, note)


def row(name: str, n: int, start: float, before_mib: float, note: str) -> str:
    """A line of the table."""
    seconds = time.process_time() - start
    return f"{name:13} {n:8d} {seconds:9.2f} {memory_mib():10.0f} {memory_mib() - before_mib:10.0f}  {note}"


def alone(task: Callable[..., str], *arguments: float) -> None:
    """Run a task in a fresh process and print its row."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(task, arguments), flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, nargs="+", default=[1000, 4000, 10000], help="numbers of patches")
    parser.add_argument("--size", type=int, default=64, help="pixels along a side of a patch")
    parser.add_argument("--phases", type=int, default=100_000, help="number of planted phases to solve")
    parser.add_argument("--step", type=float, default=6.0, help="pixels between scan positions")
    arguments = parser.parse_args()
    print(f"{'step':13} {'n':>8} {'seconds':>9} {'peak MiB':>10} {'over data':>10}")
    for n in arguments.patches:
        alone(time_stitching, n, arguments.size, arguments.step)
        alone(time_synchronising, n, arguments.size, arguments.step)
        alone(time_whole, n, arguments.size, arguments.step)
        if find_spec("torch") is not None:
            alone(time_torch, n, arguments.size, arguments.step)
    for noise in (0.0, 0.1, 0.3):
        alone(time_solving, arguments.phases, arguments.size, arguments.step, noise)


if __name__ == "__main__":
    main()
