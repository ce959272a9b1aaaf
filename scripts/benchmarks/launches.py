"""Operations that the solver asks a GPU for, an iteration and a batch: counted, on a machine without one.

    python scripts/benchmarks/launches.py [--most 12] [--json OUT.json]

The solver runs in PyTorch on `meta` tensors, which have shapes and no values and take the ways of a GPU. An operation
that makes or changes values is a launch at least (a transform or a sum of many numbers may be a few), some 5
microseconds of the host's time; views and room for values are none. Counted are iterations in which nothing is made
anew, with a number of batches and with twice as many: the difference is a batch's, what is left the iteration's. With
`--most`, how often the most frequent operations are asked for.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ptycho.core.files.atomic import atomic_path
from ptycho.core.refinement.device.engine import Engine
from ptycho.core.refinement.run import refine_scan
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData
from ptycho_torch.refinement_kernels import RefinementKernels

N, SIZE, STEP = 16, 96, 2.0
"""Of the patterns, of the object, and of a step, pixels."""
BATCHES = 2
FIRST, LAST = 11, 13
"""Iterations that are counted: the preconditioner is made before the first, and anew after the last."""
NO_KERNEL = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "lift_fresh")
"""Operations that are not views and launch nothing."""
CASES: dict[str, dict[str, Any]] = {
    "known probe": {"refine_probe": False},
    "moving probe": {},
    "three moving modes": {"modes": 3},
    "moving probe and positions": {"refine_positions": True},
}


class Count(NamedTuple):
    """Operations of an iteration."""

    once: int
    """Whatever the number of batches."""
    batch: int
    """Of every batch."""
    frequent: dict[str, int]
    """Those of an iteration with `BATCHES` batches, by name, the most frequent first."""


class Operations(TorchDispatchMode):
    """Counts operations by name; a number that is read is less than the one before, as an error that falls."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            self.seen["number that is waited for"] += 1
            return 0.5 ** self.seen["number that is waited for"]
        found, name = function(*args, **(kwargs or {})), function.overloadpacket.__name__
        # not those of a CPU, of which an operation here and there makes what a batch gets
        if name not in NO_KERNEL and not is_view(function) and not on_cpu(found):
            self.seen[name] += 1
        return found


def is_view(function: Any) -> bool:
    """Whether an operation only looks at values in another way."""
    aliases = [each.alias_info for each in function._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def on_cpu(found: Any) -> bool:
    """Whether a result is a tensor of the CPU."""
    return isinstance(found, Tensor) and found.device.type == "cpu"


class Elsewhere(RefinementKernels):
    """Kernels of a device without values; what is fetched from it is 1 everywhere."""

    def __init__(self, likelihood: Any, floor: float, *, batch: int, **options: Any) -> None:
        super().__init__(likelihood, floor, device="meta", **options)
        self.batch_pixels = batch

    def numpy(self, values: Tensor) -> Any:
        """Ones, on the host."""
        return np.ones(values.shape, torch.empty(0, dtype=values.dtype).numpy().dtype)


@lru_cache
def simulated(modes: int) -> tuple[RawData, np.ndarray]:
    """A scan, and a probe of so many modes."""
    made = make_scan("lines", SIZE, N, STEP, 0.5, 1e6, 4)
    scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units=made.units)
    return scan, np.stack([0.5**k * np.roll(made.probe, k, axis=0) for k in range(modes)])


def operations(batches: int, deterministic: bool, modes: int = 1, **settings: Any) -> Counter[str]:
    """Those of the iteration that has most, with so many batches of equal size."""
    scan, probe = simulated(modes)
    counter = Operations()
    counts: list[Counter[str]] = []
    options: dict[str, Any] = {
        "batch": -(-len(scan) // batches) * modes * N * N,
        "deterministic": deterministic,
    }
    engine = Engine("counted", Elsewhere, tuple(options))
    with counter:
        refine_scan(
            scan,
            None,
            LAST,
            engine=engine,
            probe=probe,
            tolerance=0,
            device_memory=1 << 30,
            report=lambda *_: counts.append(Counter(counter.seen)),
            **settings,
            **options,
        )
    each = [after - before for before, after in itertools.pairwise(counts)]
    return max(each[FIRST:LAST], key=Counter.total)


def counted(deterministic: bool, **settings: Any) -> Count:
    """Operations of an iteration, once and for each batch."""
    few, many = (operations(batches, deterministic, **settings) for batches in (BATCHES, 2 * BATCHES))
    batch, rest = divmod(many.total() - few.total(), BATCHES)
    assert rest == 0, "expected every batch to ask for as much"
    return Count(few.total() - BATCHES * batch, batch, dict(few.most_common()))


def table(found: dict[tuple[str, bool], Count]) -> str:
    """The counts as Markdown."""
    lines = ["| | sums | once an iteration | each batch |", "| --- | --- | --- | --- |"]
    for (case, deterministic), count in found.items():
        sums = "the same bits" if deterministic else "in no order"
        lines.append(f"| {case} | {sums} | {count.once} | {count.batch} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=0, help="how many of the most frequent operations to name")
    parser.add_argument("--json", type=Path, help="also write the counts here")
    args = parser.parse_args(argv)
    found = {
        (case, deterministic): counted(deterministic, **settings)
        for case, settings in CASES.items()
        for deterministic in (False, True)
    }
    print(table(found))
    for (case, deterministic), count in found.items() if args.most else ():
        named = [f"{name} {number}" for name, number in list(count.frequent.items())[: args.most]]
        print(f"{case}{', the same bits' if deterministic else ''}: {', '.join(named)}")
    if args.json is not None:
        rows = [{"case": case, "deterministic": sums, **count._asdict()} for (case, sums), count in found.items()]
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
