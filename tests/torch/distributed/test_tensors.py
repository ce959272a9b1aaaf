"""Tensors that several processes add up and give each other, with threads for processes; `test_crew` has processes."""

import itertools
import queue
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ptycho.core.refinement.device.engine import Engine
from ptycho.core.refinement.device.images import Resident
from ptycho.core.refinement.run import refine_scan
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData
from ptycho_torch.distributed import crew, tensors
from ptycho_torch.distributed.crew import Crew
from ptycho_torch.distributed.tensors import TensorExchange, alike, tensor_of
from ptycho_torch.refinement_kernels import RefinementKernels

SIZES = [2, 3]


class Wires:
    """What is used of torch.distributed, between threads; sums begin with another process in each of them."""

    isend, irecv = "send", "receive"

    def __init__(self, size):
        self.size, self.here = size, threading.local()
        self.under_way = {pair: queue.Queue() for pair in itertools.product(range(size), repeat=2)}

    def P2POp(self, what, tensor, rank):  # as torch.distributed has it
        assert tensor.is_contiguous() and not tensor.is_complex() and tensor.ndim == 1 and len(tensor)
        return what, tensor, rank

    def batch_isend_irecv(self, steps):
        for what, tensor, rank in steps:
            if what == "send":
                self.under_way[self.here.rank, rank].put(tensor.clone())
        for what, tensor, rank in steps:
            if what == "receive":
                tensor.copy_(self.under_way[rank, self.here.rank].get(timeout=20))
        return []

    def all_reduce(self, tensor):
        every = [tensor.clone() for _ in range(self.size)]
        self.batch_isend_irecv([("send", tensor, k) for k in range(self.size) if k != self.here.rank])
        self.batch_isend_irecv([("receive", every[k], k) for k in range(self.size) if k != self.here.rank])
        tensor.copy_(sum(every[self.here.rank :] + every[: self.here.rank]))


@pytest.fixture
def together(monkeypatch):
    """`work(rank)` of every one of several threads."""

    def run(size, work):
        wires = Wires(size)
        monkeypatch.setattr(tensors, "dist", wires)

        def one(rank):
            wires.here.rank = rank
            return work(rank)

        with ThreadPoolExecutor(size) as pool:
            return list(pool.map(one, range(size)))

    return run


def resident(values):
    return Resident(torch.from_numpy(values), values.dtype, Tensor.numpy)


def test_images_and_arrays_come_back_as_what_they_were():
    image = resident(np.arange(6, dtype=np.complex64).reshape(2, 3))
    assert tensor_of(image) is image.value
    made = alike(image, image.value + 1)
    assert isinstance(made, Resident) and made.dtype == np.complex64 and np.array_equal(made, np.asarray(image) + 1)
    kept = np.arange(4.0)
    assert np.shares_memory(tensor_of(kept).numpy(), kept)
    kept.setflags(write=False)
    for given in (kept, kept[::-1], np.float64(2.5)):
        assert np.array_equal(alike(given, tensor_of(given)), given)


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_sums_are_of_all_where_each_is(size, in_order, together, rng):
    """One number before complex ones of its precision, more processes than numbers, and parts that lie apart."""
    given = [
        (np.array(k + 0.5), rng.standard_normal((5, 4))[:, ::2] + 1j * k, np.full(3, 1j, np.complex64), np.full(7, k))
        for k in range(size)
    ]

    def work(rank):
        exchange = TensorExchange(rank, size, in_order=("cpu",) if in_order else ())
        mine = [torch.tensor(given[rank][0]), torch.from_numpy(given[rank][1]), *map(torch.from_numpy, given[rank][2:])]
        before = [each.clone() for each in mine]
        found = exchange.sum(mine)
        assert all(torch.equal(one, other) for one, other in zip(mine, before, strict=True))
        return found, exchange.sent

    for found, sent in together(size, work):
        for one, other in zip(found, map(sum, zip(*given, strict=True)), strict=True):
            assert one.shape == np.shape(other)
            np.testing.assert_allclose(one.numpy(), other, rtol=1e-14)
        most = 8 + 16 * 10 + 8 * 3 + 8 * 7
        assert sent == most if not in_order else 0.6 * most < sent < 1.7 * most


def test_in_order_means_the_same_bits_in_all_processes(together):
    """1 is lost beside 1e8 in single precision, unless 1e8 has gone before."""
    given = torch.tensor([[1e8, 1.0, 1e8], [1.0, -1e8, -1e8], [-1e8, 1e8, 1.0]]).repeat(1, 5)
    expected = (given[0] + given[1]) + given[2]

    def sums(rank, in_order):
        return TensorExchange(rank, 3, in_order=in_order).sum([given[rank]])[0]

    assert expected[:3].tolist() == [0.0, 0.0, 1.0]
    assert all(torch.equal(found, expected) for found in together(3, lambda rank: sums(rank, ("cpu",))))
    plain = together(3, lambda rank: sums(rank, ("cuda",)))
    assert not all(torch.equal(found, expected) for found in plain)


@pytest.mark.parametrize("carried", [("cpu",), ()])
@pytest.mark.parametrize("size", SIZES)
def test_each_gets_what_the_others_have_for_it(size, carried, together):
    def work(rank):
        exchange = TensorExchange(rank, size, carried)
        wide = torch.full((rank, 2 * size), 10j * rank, dtype=torch.complex64)
        pieces = [wide[:, k : 2 * k + 1] for k in range(size)]
        return exchange.exchange(pieces, [(k, rank + 1) for k in range(size)]), exchange.sent

    for rank, (found, sent) in enumerate(together(size, work)):
        for k, piece in enumerate(found):
            assert piece.shape == (k, rank + 1) and bool((piece == 10j * k).all())
        assert sent == 8 * rank * sum(k + 1 for k in range(size) if k != rank)


def test_whoever_begins_an_exchange_waits_for_its_device(together):
    waited = []
    exchange = TensorExchange(0, 1, arrived=waited.append)
    together(1, lambda _: exchange.sum([torch.ones(2), torch.ones(3, dtype=torch.float64)]))
    together(1, lambda _: exchange.exchange([torch.ones(2)], [(2,)]))
    assert waited == [torch.device("cpu")] * 3


@dataclass
class Silent:
    """What is used of torch.distributed, where all others say 0; what goes out and comes in, by its device."""

    isend, irecv = "send", "receive"
    sums: Counter[str] = field(default_factory=Counter)
    largest: int = 0
    """Numbers of the host that were added at once, or given to others, at most."""
    pieces: Counter[str] = field(default_factory=Counter)

    def _seen(self, count, tensor):
        count[tensor.device.type] += 1
        if tensor.device.type == "cpu":
            self.largest = max(self.largest, tensor.numel())

    def all_reduce(self, tensor):
        self._seen(self.sums, tensor)

    def P2POp(self, what, tensor, rank):  # as torch.distributed has it
        self._seen(self.pieces, tensor)
        return tensor.zero_() if what == "receive" else tensor

    def batch_isend_irecv(self, steps):
        return []

    def new_group(self, **settings):
        return None

    def broadcast_object_list(self, shown, **settings):
        return None


class Elsewhere(RefinementKernels):
    """Kernels of a device without values: what is fetched from it is 1 everywhere, and counted."""

    fetched = 0

    def numpy(self, values: Tensor) -> np.ndarray:
        Elsewhere.fetched += 1
        return np.ones(values.shape, torch.empty(0, dtype=values.dtype).numpy().dtype)


class Numbers(TorchDispatchMode):
    """Counts the numbers that are read; each is less than the one before, as an error that falls."""

    read = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            self.read += 1
            return 0.5**self.read
        return function(*args, **(kwargs or {}))


FIRST, LAST = 6, 9
"""Iterations in which nothing is made anew."""
# error and curvature; of strips the slopes and what is dark, too
READ = {False: 2, True: 6}
# of object and probe together; along the seams of two strips and back, and for the filter there and back
ON_THE_DEVICE = {False: (1, 0), True: (1, 8)}


@pytest.mark.parametrize("refine_probe", [True, False])
@pytest.mark.parametrize("strips", [False, True])
def test_an_iteration_of_several_fetches_numbers_alone(strips, refine_probe, monkeypatch):
    """Nothing of the object's size, nor of the probe's: 2 processes, of which this is the first, on torch's `meta`."""
    made = make_scan("lines", 96, 16, 6.0, 0.5, 1e6, 4)
    scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")
    wires = Silent()
    monkeypatch.setattr(tensors, "dist", wires)
    monkeypatch.setattr(crew, "dist", wires)
    processes = Crew(None, 0, 2, 60.0, carried=("cpu", "meta"))
    counts: list[list[int]] = []
    largest: list[int] = []

    def seen(*_):
        device = wires.sums["meta"], wires.pieces["meta"]
        counts.append([Elsewhere.fetched, numbers.read, *device, wires.pieces["cpu"], processes.sent])
        largest.append(wires.largest)
        wires.largest = 0

    engine = Engine("counted", Elsewhere, ("device",))
    settings = {"refine_probe": refine_probe, "tolerance": 0.0, "device_memory": 1 << 30, "strips": strips}
    with Numbers() as numbers:
        refine_scan(scan, None, LAST + 1, engine=engine, processes=processes, report=seen, device="meta", **settings)
    probes, along_seams = ON_THE_DEVICE[strips]
    for before, after in itertools.pairwise(np.array(counts)[FIRST : LAST + 1]):
        fetched, read, sums, pieces, of_host, sent = after - before
        assert fetched == of_host == 0
        assert read == READ[strips]
        assert sums == (probes if refine_probe or not strips else 0) and pieces == along_seams
        assert sent > 0.05 * 8 * 96 * 96
    assert max(largest[FIRST + 1 : LAST + 1]) == 2  # an error, and the light that it is relative to
