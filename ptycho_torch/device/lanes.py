"""Threads that each work on batches of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["Lanes"]

Share = TypeVar("Share")
Found = TypeVar("Found")

KEPT_BYTES = 31 << 20
"""The largest block, nearly, that does not go back to the system at once."""


class Lanes:
    """Threads whose operations stay on them: batches that fit a cache are too small to be divided among threads.

    They begin with the first work.

    Args:
        count: of the threads.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._threads: ThreadPoolExecutor | None = None

    def together(self, work: Callable[[Share], Found], shares: Sequence[Share]) -> list[Found]:
        """What is found of every share, each by a thread; one share is worked on by who asks."""
        if len(shares) < 2:
            return [work(share) for share in shares]
        return list(self._begun().map(work, shares))

    def alone(self, work: Callable[[], Found]) -> Found:
        """What one thread finds."""
        return self._begun().submit(work).result()

    def close(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None

    def _begun(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = _single_threads(self.count)
        return self._threads


def _single_threads(count: int) -> ThreadPoolExecutor:
    """Threads whose operations are not divided among others; those of all other threads are divided as before."""
    # malloc of glibc leaves whoever freed such a block twice as much between batches; memory that goes back to the
    # system is cleared page by page when it is asked for again
    torch.empty(KEPT_BYTES, dtype=torch.uint8)
    usual, begun = torch.get_num_threads(), threading.Barrier(count)

    def begin() -> None:
        torch.get_num_threads()  # the first that asks takes what the others have
        torch.set_num_threads(1)

    pool = ThreadPoolExecutor(count, "refinement", begin)
    for waiting in [pool.submit(begun.wait) for _ in range(count)]:
        waiting.result()
    torch.set_num_threads(usual)  # what a thread sets is also where threads to come begin
    return pool
