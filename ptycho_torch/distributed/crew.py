"""Several processes at one run, by torch.distributed; what they do together says `ptycho.workflows.sharing.team`.

They are started here, on this machine, or by torchrun or SLURM (srun), whose environment then says who is who. Arrays
of the host go by gloo, tensors on GPUs by NCCL (`ptycho_torch.distributed.tensors`). Whatever a process is lost by ends
all: a connection that closes is an error in all others at once, and the first tells which it was. One that hangs closes
nothing: the others give up after a stated time, each notes that it waited, and the one that has not is told.

NCCL tells nothing of a process that is gone: what its GPU should have sent is waited for, by the GPU, and by a host
that asks for any number of it. So whoever shares sums begins with some that go by gloo, where a process that is gone is
found; and of one that goes later the others find by looking, while they wait for their GPU, at what became of the
processes and at what these have noted (`Crew._until`). Without that NCCL's own watch would end the program without a
line, which it still does where it sees a network fail before they do.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist

from ptycho.config.config import PyTorchExecutionConfig
from ptycho.core.refinement.device.images import Image
from ptycho.errors import BackendError, LostProcessError, PtychoError
from ptycho.workflows.sharing.place import Place, place_of, size_of
from ptycho.workflows.sharing.started import Started, end, fate_of, in_a_line, leave_signals_to_the_first, start
from ptycho.workflows.sharing.team import SINGLE, Team, while_it_runs
from ptycho_torch.device.cuda import why_unusable
from ptycho_torch.distributed.tensors import TensorExchange, alike, cut_off, meet, tensor_of

__all__ = ["Crew", "serve_local", "team"]

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

WAITING = timedelta(days=30)
"""The others wait for work as long as the first has other things to do; that it is gone they see by its connection."""
TIMED_OUT = "timed out"
"""What an exchange says that was given up."""
JOINING_SECONDS = 300
"""Until all are there."""
TOLD_SECONDS = 3.0
"""How long the first waits to hear what became of a process whose connection has closed."""
LATE_SECONDS = 30.0
"""How much later than the first to give up another may at most be, before it is taken to hang itself."""
LOOK_SECONDS, ASK_SECONDS = 0.5, 5e-5
"""Between two looks at the other processes, and between two questions to a GPU, while it waits for theirs."""
_HOST = torch.device("cpu")


class Terms(NamedTuple):
    """What all processes of a team know."""

    on_gpu: bool
    """Whether each has a GPU of its own."""
    deterministic: bool
    """Whether the same run gives the same bits there."""
    timeout: float
    """Seconds after which an exchange is given up."""


class Crew:
    """`ptycho.workflows.sharing.team.Team` by the process group of torch.distributed.

    Args:
        store: that all processes have.
        rank, size: of this process.
        timeout: seconds after which an exchange is given up.
        started: the others, by rank, where this process has started them, with what they say.
        carried, in_order: as of `TensorExchange`.
    """

    def __init__(
        self,
        store: Any,
        rank: int,
        size: int,
        timeout: float,
        started: Started | None = None,
        carried: Collection[str] = ("cpu",),
        in_order: Collection[str] = (),
    ) -> None:
        self._store, self._rank, self._size, self._started = store, rank, size, started or {}
        self._timeout, self._first_hangs = timeout, False
        self.failed = False
        """Whether an exchange was not to be had."""
        self._idle = dist.new_group(backend="gloo", timeout=WAITING)
        self._tensors = TensorExchange(rank, size, carried, in_order, self._arrived)

    @property
    def sent(self) -> int:
        """Bytes that this process has added to sums and given to others, so far."""
        return self._tensors.sent

    @property
    def rank(self) -> int:
        """The number of this process."""
        return self._rank

    @property
    def size(self) -> int:
        """How many there are."""
        return self._size

    def sum(self, *arrays: Image) -> tuple[Image, ...]:
        """The sums over all processes, each where it is; arrays of one type go together."""
        with self.watched():
            summed = self._tensors.sum([tensor_of(array) for array in arrays])
        return tuple(map(alike, arrays, summed))

    def exchange(self, pieces: Sequence[Image], shapes: Sequence[tuple[int, ...]]) -> list[Image]:
        """What all processes have for this one."""
        with self.watched():
            found = self._tensors.exchange([tensor_of(piece) for piece in pieces], shapes)
        return [alike(pieces[self._rank], each) for each in found]

    def _arrived(self, device: torch.device) -> None:
        """Wait for what was exchanged on a device; the host waits for its own tensors as it goes."""
        if device.type == "cuda":
            behind = torch.cuda.Event()
            behind.record()
            self._until(behind.query)

    def _until(self, done: Callable[[], bool]) -> None:
        """Wait for what a GPU does with those of the others, and see whether these are there."""
        begun = looked = time.monotonic()
        while not done():
            time.sleep(ASK_SECONDS)
            now = time.monotonic()
            if now - begun > self._timeout:
                raise RuntimeError(f"an exchange of GPUs {TIMED_OUT}")
            if now - looked > LOOK_SECONDS:
                looked = now
                self._look()

    def _look(self) -> None:
        """Raise RuntimeError where one of the others has ended, has failed, or has found that one is gone."""
        for rank in range(self._size):
            if rank == self._rank:
                continue
            # a store that is gone is an error by itself: so is the first, or who started all
            noted = self._store.check([_fault_of(rank)]) or self._store.check([_wait_of(rank)])
            if noted or fate_of(self._started, rank):
                raise RuntimeError(f"process {rank} is gone or waits no more")

    def first(self, make: Callable[[], Value]) -> Value:
        """What the first process makes."""
        return self._shown(make)

    def _shown(self, make: Callable[[], Value], group: Any = None) -> Value:
        """What the first process makes; of which group decides how long it may take."""
        shown = [make() if self._rank == 0 else None]
        self._told(dist.broadcast_object_list, shown, src=0, group=group, device=_HOST)
        return cast(Value, shown[0])

    def begin(self, work: Callable[..., None], *arguments: Any) -> None:
        """Have all others call a function."""
        self._shown(lambda: (work, arguments), self._idle)

    def send(self, value: Any, rank: int) -> None:
        """Give a value to another."""
        self._told(dist.send_object_list, [value], dst=rank, device=_HOST)

    def receive(self, rank: int = 0) -> Any:
        """What another sends."""
        found = [None]
        self._told(dist.recv_object_list, found, src=rank, device=_HOST)
        return found[0]

    def serve(self) -> None:
        """Do what the first begins, until it ends; of a fault it is told. In the first nothing."""
        if self._rank == 0:
            return
        while True:
            try:
                work, arguments = self._shown(lambda: (None, ()), self._idle)
                if work is None:
                    return
                work(self, *arguments)
            except LostProcessError:
                if self._first_hangs:
                    raise
                return  # the first is gone, or tells it
            except Exception as error:  # whatever it is, the first has to hear of it before this process ends
                self._store.set(_fault_of(self._rank), in_a_line(error))
                raise

    def end(self, done: bool) -> None:
        """Of the first: let the others go, or where something went wrong end them."""
        if self._rank == 0 and done:
            with suppress(LostProcessError):
                self.begin(cast(Any, None))
        end(self._started, done)

    def _told(self, exchange: Callable[..., Any], *arguments: Any, **settings: Any) -> None:
        """Exchange something with the others."""
        with self.watched():
            exchange(*arguments, **settings)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """That one of the others is gone is told in one line."""
        try:
            yield
        except PtychoError:
            raise
        except RuntimeError as error:
            self.failed = True
            raise LostProcessError(self._what_is_lost(error)) from error

    def _what_is_lost(self, error: RuntimeError) -> str:
        """Which process, and why, as far as that can be known."""
        with suppress(RuntimeError):  # of a store that is gone
            self._store.set(_wait_of(self._rank), in_a_line(error))
        others = [rank for rank in range(self._size) if rank != self._rank]
        begun = time.monotonic()
        while True:
            for rank in others if self._rank == 0 else ():
                found = self._fate(rank)
                if found:
                    return f"process {rank} of {self._size} (counted from 0) {found}"
            waited = {rank: self._noted(_wait_of(rank)) for rank in others}
            silent = [rank for rank in others if not waited[rank]]
            gave_up = any(TIMED_OUT in text.lower() for text in (str(error), *waited.values()))
            late = min(self._timeout, LATE_SECONDS) if gave_up else 0.0
            if not silent or time.monotonic() - begun > TOLD_SECONDS + late:
                break
            time.sleep(0.05)
        self._first_hangs = gave_up and 0 in silent
        if gave_up and silent:
            who = f"process {silent[0]}" if len(silent) == 1 else f"processes {', '.join(map(str, silent))}"
            return f"{who} of {self._size} (counted from 0) gave no answer for {self._timeout:g} s"
        return f"one of {self._size} processes is gone: {in_a_line(error)}"

    def _noted(self, key: str) -> str:
        """What a process has left in the store; empty where it has left nothing."""
        with suppress(RuntimeError):  # of a store that is gone
            if self._store.check([key]):
                return str(self._store.get(key).decode())
        return ""

    def _fate(self, rank: int) -> str:
        """What became of another process; empty where it is there, or has only ended because others have."""
        if fault := self._noted(_fault_of(rank)):
            return f"failed: {fault}"
        return "" if self._noted(_wait_of(rank)) else fate_of(self._started, rank)


def _fault_of(rank: int) -> str:
    return f"ptycho/fault/{rank}"


def _wait_of(rank: int) -> str:
    return f"ptycho/wait/{rank}"


_running: list[Crew] = []
"""The team of this process, while there is one."""


@contextmanager
def team(execution: PyTorchExecutionConfig) -> Iterator[Team]:
    """The processes that share a run: `devices` on each of `nodes` machines.

    Those that torchrun or SLURM have started are as many as they are. Else one machine is meant, this process is the
    first, and the others are started and ended here. Where a team is under way already, it is that one.

    Raises:
        ConfigError: another number of processes than was started, or several machines and nobody who started them.
        BackendError: fewer GPUs than processes.
        LostProcessError: within it, where a process is gone.
    """
    if _running:
        yield _running[0]
        return
    place = place_of(os.environ)
    size = size_of(place, execution.devices, execution.nodes)
    if size == 1:
        yield SINGLE
        return
    with (
        _threads_shared(1 if place is not None else size),
        _gpu_of_the_caller(),
        _joined(execution, place, size) as crew,
        while_it_runs(crew, _running),
    ):
        yield crew


@contextmanager
def _joined(execution: PyTorchExecutionConfig, place: Place | None, size: int) -> Iterator[Crew]:
    """The team once all are there."""
    on_gpu = execution.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if on_gpu:
        _take_gpu(0 if place is None else place.local, execution.devices, bound=place is not None)
    limit = timedelta(seconds=JOINING_SECONDS)
    known = Terms(on_gpu, bool(execution.deterministic), execution.process_timeout)
    if place is None:
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, timeout=limit, wait_for_workers=False)
        with _group(store, 0, size, known, lambda: _start(store.port, size, known)) as crew:
            yield crew
        return
    # torchrun has a store of its own, which its processes join
    master = place.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True)
    store = dist.TCPStore(place.address, place.port, is_master=master, timeout=limit, wait_for_workers=False)
    with _group(store, place.rank, place.size, known, dict) as crew:
        yield crew


def _take_gpu(local: int, devices: int, bound: bool = False) -> None:
    """Be at the GPU of this process; one that somebody else has started may be bound to a GPU and see no other."""
    there = torch.cuda.device_count()
    if bound and there == 1 and os.environ.get("CUDA_VISIBLE_DEVICES"):  # as `srun --gpus-per-task=1` leaves it
        local, devices = 0, 1
    if max(local, devices - 1) >= there:
        raise BackendError(f"devices={max(devices, local + 1)}: expected as many GPUs, found {there}; ask for fewer")
    torch.cuda.set_device(local)
    reason = why_unusable()
    if reason:
        raise BackendError(f"GPU {local}: expected one that computes, found {reason}; ask for 'cpu'")


@contextmanager
def _group(
    store: Any,
    rank: int,
    size: int,
    known: Terms,
    begin: Callable[[], Started],
) -> Iterator[Crew]:
    """The team in its process group, of processes that are started first."""
    started, by_nccl = begin(), known.on_gpu and dist.is_nccl_available()
    if known.on_gpu and not by_nccl:
        logger.warning("this PyTorch has no NCCL: what GPUs add up goes through the memory of the host")
    kinds = "cpu:gloo,cuda:nccl" if by_nccl else "gloo"
    carried = ("cpu", "cuda") if by_nccl else ("cpu",)
    in_order = ("cuda",) if known.deterministic else ()
    try:
        limit = timedelta(seconds=JOINING_SECONDS)
        dist.init_process_group(
            kinds, store=dist.PrefixStore("ptycho", store), rank=rank, world_size=size, timeout=limit
        )
        # not said at once: how long they take to join has nothing to do with it
        dist.distributed_c10d._set_pg_timeout(timedelta(seconds=known.timeout))
        crew = Crew(store, rank, size, known.timeout, started, carried, in_order)
        if by_nccl:
            meet(timedelta(seconds=known.timeout + 2 * LATE_SECONDS))
    except RuntimeError as error:
        for process, _ in started.values():
            process.kill()
        raise LostProcessError(f"expected {size} processes to join, found {in_a_line(error)}") from error
    try:
        yield crew
    except BaseException:
        crew.failed = True
        raise
    finally:
        if by_nccl and crew.failed:
            cut_off()
        with suppress(RuntimeError):
            dist.destroy_process_group()


def _start(port: int, size: int, known: Terms) -> Started:
    """Start the others of a team of this machine."""

    def order(rank: int) -> str:
        asked = f"{port}, {rank}, {size}, {known.on_gpu}, {known.deterministic}, {known.timeout!r}"
        return f"from ptycho_torch.distributed.crew import serve_local; serve_local({asked})"

    threads = str(torch.get_num_threads())
    return start(size, order, {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads})


def serve_local(port: int, rank: int, size: int, on_gpu: bool, deterministic: bool, timeout: float) -> None:
    """What a process does that another one of this machine has started: serve it."""
    leave_signals_to_the_first()
    if on_gpu:
        _take_gpu(rank, size)
    limit = timedelta(seconds=JOINING_SECONDS)
    store = dist.TCPStore("127.0.0.1", port, is_master=False, timeout=limit, wait_for_workers=False)
    with _group(store, rank, size, Terms(on_gpu, deterministic, timeout), dict) as crew:
        _running.append(crew)
        crew.serve()


@contextmanager
def _threads_shared(by: int) -> Iterator[None]:
    """The threads of this machine, shared by so many processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // by))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _gpu_of_the_caller() -> Iterator[None]:
    """The GPU that the program around is at, afterwards again; one that has not used any has none to go back to."""
    before = torch.cuda.current_device() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        if before is not None:
            torch.cuda.set_device(before)
