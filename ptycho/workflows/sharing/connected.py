"""A team over plain connections, for a backend whose own exchange is for tensors alone.

Each of the others has one connection to the first, by which everything goes: what it is given, what it adds to a sum,
and what it failed with. A process that ends closes it, and one that hangs is found by time. So wherever all have to
wait for each other it is known for whom.
"""

from __future__ import annotations

import hmac
import os
import pickle
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ptycho.core.refinement.device.images import Image
from ptycho.errors import LostProcessError
from ptycho.workflows.sharing.started import Started, end, fate_of, in_a_line

__all__ = ["Connected", "Link", "joined", "welcomed"]

Array = NDArray[Any]
Value = TypeVar("Value")

JOINING_SECONDS = 300.0
"""Until all are there."""
TOLD_SECONDS = 3.0
"""How long the first waits to hear what became of a process."""
LATE_SECONDS = 30.0
"""How much longer the others wait for the first than it does for them, so that it is the one that tells."""
_TOKEN, _NUMBER = 32, 8


class _Fault(str):
    """What a process failed with, in a line; empty where it only ends because another one is gone."""


class Link:
    """A connection by which whole values go, pickled.

    Every call has a time limit, in seconds; None is none. What fails is an OSError.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        if connection.family != getattr(socket, "AF_UNIX", None):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def put(self, value: Any, seconds: float | None) -> None:
        """Send a value."""
        content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        self._connection.settimeout(seconds)
        self._connection.sendall(len(content).to_bytes(_NUMBER, "big"))
        self._connection.sendall(content)

    def get(self, seconds: float | None) -> Any:
        """Receive one."""
        self._connection.settimeout(seconds)
        return pickle.loads(self.read(int.from_bytes(self.read(_NUMBER), "big")))  # noqa: S301  # it knew the token

    def read(self, count: int) -> bytearray:
        """So many bytes."""
        content = bytearray(count)
        left = memoryview(content)
        while left:
            got = self._connection.recv_into(left)
            if not got:
                raise ConnectionError("the connection was closed")
            left = left[got:]
        return content

    def says_something(self, seconds: float) -> bool:
        """Whether there is something to receive within that time, be it the end."""
        return bool(select.select([self._connection], [], [], seconds)[0])

    def end_with_it(self) -> None:
        """End this process when the other end closes, whatever it is at: it may wait where nobody tells it (Linux)."""
        closed = getattr(select, "POLLRDHUP", None)
        if closed is None:
            return
        poll = select.poll()
        poll.register(self._connection, closed)

        def look() -> None:
            poll.poll()
            time.sleep(TOLD_SECONDS)  # for what it does by itself
            os._exit(1)

        threading.Thread(target=look, daemon=True).start()

    @property
    def own_address(self) -> str:
        """Of this machine, by which the other end sees it."""
        return str(self._connection.getsockname()[0])

    def close(self) -> None:
        """Close it."""
        self._connection.close()


class Connected:
    """`ptycho.workflows.sharing.team.Team` over connections of the first with each of the others.

    Args:
        rank, size: of this process.
        links: by rank; the first has one to all others, and each of these one to the first.
        timeout: seconds after which an exchange is given up.
        started: the others, where this process has started them.
    """

    def __init__(
        self, rank: int, size: int, links: dict[int, Link], timeout: float, started: Started | None = None
    ) -> None:
        self._rank, self._size, self._links, self._started = rank, size, links, started or {}
        self._timeout = timeout + (LATE_SECONDS if rank else 0.0)
        self._stated_timeout = timeout

    @property
    def rank(self) -> int:
        """The number of this process."""
        return self._rank

    @property
    def size(self) -> int:
        """How many there are."""
        return self._size

    def sum(self, *arrays: Image) -> tuple[Image, ...]:
        """The sums over all processes in NumPy, added by the first in the order of their ranks."""
        arrays = tuple(map(np.asarray, arrays))
        if self._rank:
            self._put(0, arrays)
        else:
            for rank in self._links:
                arrays = tuple(np.add(*pair, dtype=pair[0].dtype) for pair in zip(arrays, self._get(rank), strict=True))
        return self.first(lambda: arrays)

    def first(self, make: Callable[[], Value]) -> Value:
        """What the first process makes."""
        if self._rank:
            return cast(Value, self._get(0))
        value = make()
        for rank in self._links:
            self._put(rank, value)
        return value

    def exchange(self, pieces: Sequence[Image], shapes: Sequence[tuple[int, ...]]) -> list[Image]:
        """What all processes have for this one in NumPy, by way of the first."""
        pieces = [np.asarray(piece) for piece in pieces]
        if self._rank:
            others = [piece for rank, piece in enumerate(pieces) if rank != self._rank]
            self._put(0, others)
            found = self._get(0)
            return [*found[: self._rank], pieces[self._rank], *found[self._rank :]]
        everyones = {rank: self._get(rank) for rank in self._links}
        for rank in self._links:
            # those that a process has for others leave out its own
            through = (everyones[each][rank - (rank > each)] for each in everyones if each != rank)
            self._put(rank, [pieces[rank], *through])
        return [pieces[0], *(everyones[rank][0] for rank in everyones)]

    def begin(self, work: Callable[..., None], *arguments: Any) -> None:
        """Have all others call a function."""
        self.first(lambda: (work, arguments))

    def send(self, value: Any, rank: int) -> None:
        """Give a value to another, of which one is the first."""
        self._put(rank, value)

    def receive(self, rank: int = 0) -> Any:
        """What another sends, of which one is the first."""
        return self._get(rank)

    def serve(self) -> None:
        """Do what the first begins, until it ends; of a fault it is told. In the first nothing."""
        while self._rank:
            try:
                work, arguments = self._links[0].get(None)
                if work is None:
                    return
                work(self, *arguments)
            except (OSError, LostProcessError) as error:
                self._tell("")
                if isinstance(error.__cause__, TimeoutError):
                    raise  # the first hangs, and tells nobody
                return
            except Exception as error:  # whatever it is, the first has to hear of it before this process ends
                self._tell(in_a_line(error))
                raise

    def _tell(self, fault: str) -> None:
        with suppress(OSError):  # the first is gone
            self._links[0].put(_Fault(fault), TOLD_SECONDS)

    def end(self, done: bool) -> None:
        """Of the first: let the others go, or where something went wrong end them."""
        if self._rank == 0 and done:
            with suppress(LostProcessError):
                self.begin(cast(Any, None))
        end(self._started, done)
        for link in self._links.values():
            link.close()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """What is exchanged by this team raises LostProcessError by itself."""
        yield

    def lost(self, error: BaseException) -> LostProcessError:
        """What to raise where an exchange of another kind has failed: which process is gone, if that is known."""
        left = set(self._links)
        until = time.monotonic() + TOLD_SECONDS
        while left and time.monotonic() < until:
            for rank in sorted(left):
                if self._links[rank].says_something(0.05):
                    if fate := self._fate(rank):
                        return LostProcessError(f"{self._named(rank)} {fate}")
                    left.remove(rank)
        return LostProcessError(f"one of {self._size} processes is gone: {in_a_line(error)}")

    def _put(self, rank: int, value: Any) -> None:
        try:
            self._links[rank].put(value, self._timeout)
        except OSError as error:
            raise self._missing(rank, error) from error

    def _get(self, rank: int) -> Any:
        try:
            found = self._links[rank].get(self._timeout)
        except OSError as error:
            raise self._missing(rank, error) from error
        if isinstance(found, _Fault):
            failed = LostProcessError(f"{self._named(rank)} failed: {found}")
            raise failed if found else self.lost(failed)
        return found

    def _missing(self, rank: int, error: OSError) -> LostProcessError:
        """What to raise where a process does not answer."""
        if isinstance(error, TimeoutError):
            return LostProcessError(f"{self._named(rank)} gave no answer for {self._stated_timeout:g} s")
        fate = self._fate(rank)
        return LostProcessError(f"{self._named(rank)} {fate}") if fate else self.lost(error)

    def _fate(self, rank: int) -> str:
        """What became of a process whose connection has closed, or is about to; empty where others are to blame."""
        try:
            while True:  # what it said before it failed
                found = self._links[rank].get(TOLD_SECONDS)
                if isinstance(found, _Fault):
                    return f"failed: {found}" if found else ""
        except OSError:
            until = time.monotonic() + TOLD_SECONDS
        while rank in self._started and time.monotonic() < until:
            if fate := fate_of(self._started, rank):
                return fate
            time.sleep(0.05)
        return "is gone"

    def _named(self, rank: int) -> str:
        return f"process {rank} of {self._size} (counted from 0)"


def welcomed(listening: socket.socket, token: bytes, size: int, started: Started) -> dict[int, Link]:
    """The connections of the first to all others, once they are there.

    Args:
        listening: where they connect to.
        token: 32 bytes, which they have to know.
        size: how many there are, with the first.
        started: those that this process has started, which may end instead.

    Raises:
        LostProcessError: they are not there in time, or one has ended.
    """
    links: dict[int, Link] = {}
    until = time.monotonic() + JOINING_SECONDS
    listening.settimeout(1.0)
    while len(links) < size - 1:
        for rank in range(1, size):
            if fate := fate_of(started, rank):
                raise LostProcessError(f"process {rank} of {size} (counted from 0) {fate}")
        if time.monotonic() > until:
            raise LostProcessError(f"expected {size} processes to join, found {len(links) + 1}")
        with suppress(OSError):  # nobody yet, or somebody else
            connection, _ = listening.accept()
            connection.settimeout(TOLD_SECONDS)
            link = Link(connection)
            if not hmac.compare_digest(bytes(link.read(_TOKEN)), token):
                link.close()
                continue
            connection.sendall(token[::-1])
            links[int.from_bytes(link.read(_NUMBER), "big")] = link
    return dict(sorted(links.items()))


def joined(address: str, port: int, token: bytes, rank: int, seconds: float = JOINING_SECONDS) -> Link:
    """The connection to the first, as soon as it is there.

    Args:
        address, port, token: where it listens, and what it wants to hear.
        rank: of this process.
        seconds: until it is there.

    Raises:
        LostProcessError: it is not there in time.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            connection = socket.create_connection((address, port), TOLD_SECONDS)
            link = Link(connection)
            connection.sendall(token)
            if bytes(link.read(_TOKEN)) == token[::-1]:
                connection.sendall(rank.to_bytes(_NUMBER, "big"))
                return link
            raise ConnectionError("another program listens there")
        except OSError as error:
            if time.monotonic() > until:
                raise LostProcessError(
                    f"process {rank}: expected the first at {address}:{port}, found {in_a_line(error)}"
                ) from error
            time.sleep(0.2)
