"""Kernels on a device that is not the CPU: torch's `meta`, which has shapes and no values, stands in for one.

What is on a CPU cannot meet what is there, so that a tensor that was forgotten is an error; no value is checked.
"""

import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.recording import Recording
from ptycho.core.physics.variable_probe import ProbeVariation
from ptycho.core.refinement.device.kernels import Direction, Point
from ptycho.core.refinement.device.memory import MemoryPlan
from ptycho.core.refinement.sums.passes import Passes
from ptycho.core.refinement.trust import TrustEngine, measure_trust
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData
from ptycho_torch.refinement_kernels import RefinementKernels

N, SIZE = 16, 44


class Elsewhere(RefinementKernels):
    """What comes back is 0."""

    def numpy(self, values: torch.Tensor) -> np.ndarray:
        assert values.device.type == "meta"
        return np.zeros(values.shape, torch.empty(0, dtype=values.dtype).numpy().dtype)


@pytest.fixture
def scan(rng) -> RawData:
    made = make_scan("lines", SIZE, N, 5.0, 0.5, 1e3, 4)
    masks = rng.random(made.diffraction.shape) > 0.2
    return RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, mask=masks, units="amplitude")


@pytest.mark.parametrize("near", [False, True], ids=["far", "near"])
@pytest.mark.parametrize("memory", [1 << 30, 120_000, 0], ids=["all kept", "packed", "nothing kept"])
@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
def test_nothing_that_is_worked_on_is_on_the_cpu(likelihood, memory, near, scan, rng) -> None:
    if near:
        scan.metadata = NearField(0.2).noted()
    probe = np.stack([scan.probeGuess, 0.3 * np.roll(scan.probeGuess, 2, axis=0)]).astype(np.complex64)
    count, floor = len(scan), 1e-4
    point = Point(
        np.ones((SIZE, SIZE), np.complex64), probe, scan.xcoords, scan.ycoords, np.ones(count), np.ones((N, N)),
        blur=np.array(0.5), variation=probe[:1], coefficients=np.full((count, 1), 0.1j),
    )  # fmt: skip
    kernels = Elsewhere(likelihood, floor, device="meta", deterministic=True)
    path = rng.uniform(-1, 1, (count, 2, 2))
    passes = Passes(kernels, scan, [np.arange(count)], np.arange(0), 3, memory, fly_path=path)
    assert (passes.plan.pattern_bytes == 1) == (memory == 120_000)
    error, gradient = passes.gradient(point, True)
    assert error.device.type == gradient.object.value.device.type == gradient.probe.value.device.type == "meta"
    length = kernels.numbers.ratio(-error, passes.curvature(point, gradient))
    images = kernels.images
    target = point._replace(object=images.blend(1.0, point.object, length, gradient.object))
    passes.advance(point, target, length)
    assert passes.curvature(target, Direction(gradient.object, None)).device.type == "meta"
    assert images.dot([(gradient.object, gradient.object), (gradient.probe, gradient.probe)]).device.type == "meta"
    (moved,), (stretched,) = passes.position_terms(point), passes.stretch_terms(point)
    for (indices, terms), numbers in ((moved, 2), (passes.variation_terms(point), 2), (stretched, 4)):
        assert terms.curvature.shape == (len(indices), numbers, numbers) == (count, numbers, numbers)
    ((_, slopes, _),) = passes.flux_terms(point)
    assert slopes.shape == (count,)
    assert passes.background_terms(point)[0].shape == (N, N)
    assert passes.blur_slope(point) == (0.0, 0.0)


def test_a_thick_object_is_elsewhere_too(scan) -> None:
    count, probe = len(scan), scan.probeGuess[None].astype(np.complex64)
    point: Any = Point(np.ones((2, SIZE, SIZE), np.complex64), probe, scan.xcoords, scan.ycoords, np.ones(count),
                       np.zeros((N, N)))  # fmt: skip
    kernels = Elsewhere("amplitude", 1e-4, device="meta")
    passes = Passes(kernels, scan, [np.arange(count)], np.arange(0), 1, 1 << 30, gap=NearField(0.3), slices=2)
    ((_, terms),) = passes.position_terms(point)
    assert terms.gradient.shape == (count, 2)
    assert passes.stretch_slope(point) == (0.0, 0.0)


class Unread(Elsewhere):
    """What comes back is 1, and counted."""

    fetched = 0

    def numpy(self, values: torch.Tensor) -> np.ndarray:
        Unread.fetched += 1
        return super().numpy(values) + 1


@pytest.mark.parametrize("thick", [False, True])
def test_trust_is_fetched_once_whatever_the_batches(thick, scan, rng) -> None:
    count, probe = len(scan), np.stack([scan.probeGuess, 0.3 * scan.probeGuess])
    known = Recording(np.ones(count), rng.uniform(-1, 1, (count, 2, 2)), np.ones((N, N)), blur=0.5)
    image = np.ones((SIZE, SIZE), complex)
    if thick:
        image, known = np.stack([image, image]), replace(known, gap=NearField(0.3))
    else:
        known = replace(known, variation=ProbeVariation(probe[:1], np.full((count, 1), 0.1j)))
    made: list[RefinementKernels] = []

    def kernels() -> RefinementKernels:
        made.append(Unread("amplitude", 0.0, device="meta", dtype=torch.float64))
        return made[0]

    where = image, probe, scan.xcoords, scan.ycoords, scan.amplitude
    Unread.fetched = 0
    found = measure_trust(*where, 3.0, "stated", scan.mask, known, TrustEngine(kernels, memory=1))
    assert (Unread.fetched, len(found.deviance)) == (1, count)


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, and their most."""

    def __init__(self) -> None:
        super().__init__()
        self.most, self._sizes = 0, dict[int, int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in tree_leaves(out):
            if isinstance(one, torch.Tensor) and (key := (kept := one.untyped_storage())._cdata) not in self._sizes:
                self._sizes[key] = kept.nbytes()
                weakref.finalize(kept, self._sizes.pop, key)
                self.most = max(self.most, sum(self._sizes.values()))
        return out


@pytest.mark.parametrize("known", [Recording(), Recording(background=np.ones((N, N)), blur=0.5)], ids=["plain", "lit"])
def test_trust_takes_no_more_memory_than_its_forecast(known, scan) -> None:
    count, alive = len(scan), Alive()
    engine = TrustEngine(lambda: Unread("amplitude", 0.0, device="meta", dtype=torch.float64))
    where = np.ones((SIZE, SIZE)), scan.probeGuess, scan.xcoords, scan.ycoords, scan.amplitude
    with alive:
        measure_trust(*where, 1.0, "stated", scan.mask, known, engine)
    plan = MemoryPlan.made(1 << 30, count, N, 1, 16, once=True)
    assert plan.batch == count and 0.4 * plan.working < alive.most < plan.working
