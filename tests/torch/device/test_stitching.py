"""Sums of patches on a device: NumPy's, with nothing fetched meanwhile."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ptycho.config.config import PyTorchExecutionConfig
from ptycho.core.geometry import ObjectFrame
from ptycho.core.stitching.overlaps import Turns
from ptycho.core.stitching.stitch import Stitched, stitch_variants
from ptycho.core.stitching.sums import Layout, NumpySums, Piece
from ptycho.workflows.run_options import RunOptions
from ptycho_torch import backend
from ptycho_torch.device.stitching import TorchSums

N, COUNT = 14, 90
FRAME = ObjectFrame(height=37, width=51, x0=-3, y0=4)


class Whole(TorchSums):
    """What a GPU does where the same bits are asked for, on a CPU."""

    def __init__(self, *args, **settings) -> None:
        super().__init__(*args, **settings)
        self.whole_numbers, self.pixels = True, COUNT * N * N


class Small(TorchSums):
    """Few patches at once."""

    def __init__(self, *args, **settings) -> None:
        super().__init__(*args, **settings)
        self.pixels = 7 * N * N


@pytest.fixture
def scan(rng) -> tuple[np.ndarray, ...]:
    """Patches between pixels, some of them partly or wholly beyond the frame, and a weight that is cropped oddly."""
    patches = (rng.standard_normal((COUNT, N, N, 2)) @ [1, 1j]).astype(np.complex64)
    weight = rng.uniform(0.1, 2, (N, N))
    weight[:3], weight[:, 9:] = 0, 0
    weight[5, 4] = 0
    return patches, rng.uniform(-25, 60, COUNT), rng.uniform(-10, 50, COUNT), weight


@pytest.fixture
def variants(rng) -> list[Turns | None]:
    phases = np.exp(2j * np.pi * rng.random(COUNT)).astype(np.complex64)
    return [None, Turns(phases), Turns(phases, rng.uniform(-0.4, 0.4, (COUNT, 2)))]


def assert_alike(found: list[Stitched], expected: list[Stitched], tolerance: float) -> None:
    """Spreads by their squares, which are differences of sums of squares."""
    for one, other in zip(found, expected, strict=True):
        for name, power in (("object", 1), ("coverage", 1), ("spread", 2)):
            values = (getattr(each, name).astype(complex) ** power for each in (one, other))
            np.testing.assert_allclose(*values, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("made", [TorchSums, Small, Whole])
@pytest.mark.parametrize("middle", [None, 5])
@pytest.mark.parametrize("which", [slice(0, 1), slice(0, 2), slice(0, 3)], ids=["plain", "phases", "ramps"])
def test_object_coverage_and_spread_are_those_of_numpy(scan, variants, which, middle, made) -> None:
    arguments = *scan, FRAME, variants[which], middle
    assert_alike(stitch_variants(*arguments, sums=made), stitch_variants(*arguments, sums=NumpySums), 1e-6)


def test_batches_in_double_precision_are_those_of_numpy(scan, variants) -> None:
    """To the rounding of sums in another order."""
    patches, *rest = scan

    def stitched(sums) -> list[Stitched]:
        batches = (patches[k : k + 13].astype(complex) for k in range(0, COUNT, 13))
        return stitch_variants(batches, *rest, FRAME, variants, sums=sums)

    assert_alike(stitched(Whole), stitched(NumpySums), 3e-7)  # results are in single precision


@pytest.mark.parametrize("whole_numbers", [False, True])
def test_sums_of_whole_numbers_are_the_same_bits_in_every_order(rng, whole_numbers) -> None:
    """Those of floating-point numbers are not."""
    patches = rng.standard_normal((COUNT, 4, 5, 2)) @ [1, 1j]
    rows, cols = rng.integers(0, 9, (2, COUNT))
    dx, dy = rng.random((2, COUNT))

    def summed(order: np.ndarray | slice) -> np.ndarray:
        sums = TorchSums(Layout((14, 15), np.ones((4, 5)), variants=1, seconds=1))
        sums.whole_numbers = whole_numbers
        sums.add(Piece(*(each[order] for each in (patches, rows, cols, dx, dy)), turns=[None]))
        return np.stack([*sums.totals().first, *sums.totals().second])

    assert np.array_equal(summed(slice(None)), summed(rng.permutation(COUNT))) is whole_numbers


@pytest.mark.parametrize("deterministic", [False, True])
def test_nothing_that_is_worked_on_is_on_the_cpu(scan, variants, deterministic) -> None:
    """`meta` has shapes and no values: what is on a CPU cannot meet what is there, and nothing can be read."""

    class Elsewhere(Small):
        def numpy(self, values: torch.Tensor) -> np.ndarray:
            assert values.device.type == "meta"
            return np.zeros(values.shape, torch.empty(0, dtype=values.dtype).numpy().dtype)

    sums = partial(Elsewhere, device="meta", deterministic=deterministic)
    assert (stitch_variants(*scan, FRAME, variants, sums=sums)[0].coverage == 0).all()


class Fetched(TorchDispatchMode):
    """Counts the numbers that are read from tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.numbers += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_what_comes_back_does_not_grow_with_the_batches(scan, variants) -> None:
    """Four arrays at the end, and no number."""
    fetched: list[torch.Size] = []

    class Counted(Whole):
        def __init__(self, *args, **settings) -> None:
            super().__init__(*args, **settings)
            self.pixels = N * N

        def numpy(self, values: torch.Tensor) -> np.ndarray:
            fetched.append(values.shape)
            return super().numpy(values)

    with Fetched() as counted:
        stitch_variants(*scan, FRAME, variants, sums=Counted)
    assert len(fetched) == 4
    assert counted.numbers == 0


def test_memory_of_a_device_is_that_of_canvases_and_a_batch(rng) -> None:
    """The largest tensor is a canvas, or what is made of a batch, however many patches come."""
    largest = []

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            largest.append(made.numel() if isinstance(made, torch.Tensor) else 0)
            return made

    x, y = rng.uniform(0, 40, (2, 400))
    with Watched():
        stitch_variants(np.ones((400, N, N), np.complex64), x, y, np.ones((N, N)), FRAME, [None], sums=Small)
    assert max(largest) <= max(7 * (N + 1) ** 2, (37 + 2 * (N + 1)) * (51 + 2 * (N + 1)))


@pytest.mark.parametrize(("accelerator", "expected"), [("cpu", NumpySums), ("mps", NumpySums), ("cuda", TorchSums)])
def test_the_device_of_the_run_adds(accelerator, expected, monkeypatch, card) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with card():
        made = backend.canvas_sums(RunOptions(execution=PyTorchExecutionConfig(accelerator=accelerator)))
    assert getattr(made, "func", made) is expected
    if accelerator == "cuda":
        assert made.keywords == {"device": "cuda", "deterministic": True}
