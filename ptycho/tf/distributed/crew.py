"""Several processes at one run; what they do together says `ptycho.workflows.sharing.team`.

All but gradients goes by connections of our own (`ptycho.workflows.sharing.connected`), which also say who is waited
for. In a training each process is a worker of `tf.distribute.MultiWorkerMirroredStrategy`, which has to be set up
before the first operation of a program and stays until its end. A command owns its process and can promise that; a
function that is called from somebody's session cannot.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from ptycho.config.config import PyTorchExecutionConfig
from ptycho.errors import BackendError, ConfigError
from ptycho.workflows.sharing.connected import Connected, Link, joined, welcomed
from ptycho.workflows.sharing.place import Place, place_of, size_of
from ptycho.workflows.sharing.started import Started, end, in_a_line, leave_signals_to_the_first, start
from ptycho.workflows.sharing.team import SINGLE, Team, while_it_runs

__all__ = ["Crew", "check_training", "serve_local", "team"]

_TOKEN = "PTYCHO_TEAM_TOKEN"
"""What those that are started here have to know, in their environment."""
_HERE = "127.0.0.1"


class Crew(Connected):
    """The team, and the strategy by which its gradients are added.

    Args:
        host: the address of this machine for all others.
        rank, size, links, timeout, started: as of `Connected`.
        trains: whether there is a strategy, as the first says.
    """

    def __init__(
        self,
        host: str,
        rank: int,
        size: int,
        links: dict[int, Link],
        timeout: float,
        started: Started | None = None,
        trains: bool = True,
    ) -> None:
        super().__init__(rank, size, links, timeout, started)
        self.trains = self.first(lambda: trains)
        self._strategy: Any = self._worker(f"{host}:{_free_port()}") if self.trains else None

    def _worker(self, address: str) -> tf.distribute.Strategy:
        if self.rank:
            self.send(address, 0)
            workers = self.first(list)
        else:
            others = [self.receive(rank) for rank in range(1, self.size)]
            workers = self.first(lambda: [address, *others])
        on_gpu = bool(tf.config.get_visible_devices("GPU"))
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": workers}),
            task_type="worker",
            task_id=self.rank,
            num_accelerators={"GPU": int(on_gpu)},
            rpc_layer="grpc",
        )
        try:
            with _own_sigterm():
                return tf.distribute.MultiWorkerMirroredStrategy(resolver)
        except (RuntimeError, tf.errors.OpError) as error:
            raise BackendError(
                f"MultiWorkerMirroredStrategy: expected {self.size} workers ({', '.join(workers)}), found "
                f"{in_a_line(error)}"
            ) from error

    def added(self, values: tf.Tensor) -> tf.Tensor:
        """The sum over all processes of tensors of one shape; for graphs."""

        def replica(own: tf.Tensor) -> tf.Tensor:
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(own))

        return self._strategy.run(replica, args=(values,))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within it an operation that the others take part in raises LostProcessError where one is gone."""
        try:
            yield
        except tf.errors.OpError as error:
            raise self.lost(error) from error


_running: list[Crew] = []
"""The team of this process, while there is one."""


def check_training(execution: PyTorchExecutionConfig) -> None:
    """Raise ConfigError where several processes are to share a training, and are no workers of TensorFlow."""
    if execution.devices * execution.nodes > 1 and not (_running and _running[0].trains):
        raise ConfigError(
            f"devices={execution.devices}, nodes={execution.nodes}: TensorFlow has to know of the other workers of a "
            "training before its first operation, so that only a command can share one: use ptycho_train --backend "
            "tensorflow --devices N, or the pytorch backend"
        )


@contextmanager
def team(execution: PyTorchExecutionConfig, own_process: bool = False) -> Iterator[Team]:
    """The processes that share a run: `devices` on each of `nodes` machines.

    Those that torchrun or SLURM have started are as many as they are. Else one machine is meant, this process is the
    first, and the others are started and ended here. Where a team is under way already, it is that one.

    Args:
        execution: how many there are to be.
        own_process: this one is a command's, so that it may be a worker of TensorFlow until it ends.

    Raises:
        ConfigError: another number of processes than was started, or several machines and nobody who started them.
        BackendError: fewer GPUs than processes, or TensorFlow finds the workers not.
        LostProcessError: within it, where a process is gone.
    """
    if _running:
        yield _running[0]
        return
    place = place_of(os.environ)
    size = size_of(place, execution.devices, execution.nodes)
    fresh = size > 1 and own_process and _settled(*_of_this_machine(place, size))
    if size == 1 or (place is not None and not fresh):  # the latter a program that somebody has started several times
        yield SINGLE
        return
    with _joined(place, size, execution.process_timeout, fresh) as crew, while_it_runs(crew, _running):
        yield crew


def _of_this_machine(place: Place | None, size: int) -> tuple[int, int]:
    """The number of this process among those of this machine, and how many threads it may have; 0 is no limit."""
    if place is not None:
        return place.local, int(os.environ.get("OMP_NUM_THREADS", "0").partition(",")[0] or 0)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0, max(1, cores // size)


def _settled(local: int, threads: int) -> bool:
    """Take the GPU and the threads of a process; False where TensorFlow is in use and cannot be told any more.

    Raises:
        BackendError: there is no such GPU.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and local >= len(gpus):
        raise BackendError(f"process {local} of this machine: expected a GPU for it, found {len(gpus)}; ask for fewer")
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        if gpus:
            tf.config.set_visible_devices(gpus[local], "GPU")
    except RuntimeError:
        return False
    return True


@contextmanager
def _joined(place: Place | None, size: int, timeout: float, fresh: bool) -> Iterator[Crew]:
    """The team once all are there."""
    if place is None:
        token = secrets.token_bytes(32)
        with socket.create_server((_HERE, 0)) as listening:
            started = _start(listening.getsockname()[1], size, timeout, token)
            yield _first(_HERE, listening, token, size, timeout, started, fresh)
        return
    # the port itself is that of torchrun, where it has started them
    token, port = hashlib.sha256(f"ptycho {place.address} {place.port}".encode()).digest(), place.port + 1
    if place.rank:
        link = joined(place.address, port, token, place.rank)
        host = place.address if link.own_address.startswith("127.") else link.own_address
        yield Crew(host, place.rank, size, {0: link}, timeout)
        return
    try:
        listening = socket.create_server(("", port))
    except OSError as error:
        raise BackendError(f"port {port}: expected a free one, found {in_a_line(error)}; start again") from error
    with listening:
        yield _first(place.address, listening, token, size, timeout, {})


def _first(
    host: str,
    listening: socket.socket,
    token: bytes,
    size: int,
    timeout: float,
    started: Started,
    trains: bool = True,
) -> Crew:
    """The team, seen from the first."""
    try:
        return Crew(host, 0, size, welcomed(listening, token, size, started), timeout, started, trains)
    except BaseException:  # an interrupt, too, leaves no process behind
        end(started, done=False)
        raise


def _start(port: int, size: int, timeout: float, token: bytes) -> Started:
    """Start the others of a team of this machine."""

    def order(rank: int) -> str:
        asked = f"{port}, {rank}, {size}, {timeout!r}"
        return f"from ptycho.tf.distributed.crew import serve_local; serve_local({asked})"

    return start(size, order, {_TOKEN: token.hex(), "TF_CPP_MIN_LOG_LEVEL": "3"})


def serve_local(port: int, rank: int, size: int, timeout: float) -> None:
    """What a process does that another one of this machine has started: serve it."""
    leave_signals_to_the_first()
    _settled(rank, _of_this_machine(None, size)[1])
    link = joined(_HERE, port, bytes.fromhex(os.environ[_TOKEN]), rank, seconds=0.0)  # it has been there before us
    link.end_with_it()
    crew = Crew(_HERE, rank, size, {0: link}, timeout)
    _running.append(crew)
    crew.serve()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Have SIGTERM do afterwards what it did before: a worker of TensorFlow would note it and go on."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _free_port() -> int:
    """One that nobody listens at just now."""
    with socket.create_server(("", 0)) as tried:
        return int(tried.getsockname()[1])
