"""A CUDA device as it is found: whether it computes, what is free on it, and what is done where its memory is full."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

from ptycho.errors import BackendError

__all__ = ["faults_are_told", "free_memory", "smaller_where_full", "why_unusable"]

logger = logging.getLogger(__name__)

Found = TypeVar("Found")

TRIES = 3
"""How often an iteration is begun again with less memory."""
_FULL = ("out of memory", "ALLOC_FAILED", "CUFFT_INTERNAL_ERROR")
"""What the driver, cuBLAS, cuDNN and cuFFT say of a memory that is full; the last where cuFFT finds no room for a plan
beside what PyTorch keeps (https://github.com/pytorch/pytorch/issues/119420).
"""
_FAULT = ("CUDA error", "CUDA driver error", "cuFFT error", "cuDNN error")
"""How PyTorch begins where a card fails otherwise: it was lost, hangs, or its memory is damaged."""


@cache
def why_unusable() -> str:
    """Why nothing can be computed on the CUDA device of this process, in a line; empty where it can.

    A driver that lists a card says nothing of it: this PyTorch may have no code for one as old or as new, another
    program may have it for itself or may have filled it.
    """
    try:
        torch.ones(2, device="cuda").sum().item()
    except (RuntimeError, torch.cuda.DeferredCudaCallError) as error:
        return _first_line(error)
    return ""


def free_memory(device: torch.device) -> int:
    """Three quarters of what is free on a GPU, bytes, what PyTorch keeps of work that is over among it: the images, and
    what breaks into pieces, have the rest.
    """
    free, _ = torch.cuda.mem_get_info(device.index)
    over = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return 3 * (free + over) // 4


def smaller_where_full(work: Callable[[int | None], Found], memory: int | None, device: torch.device | str) -> Found:
    """`work(memory)`, and where the memory of a GPU is full meanwhile, again with half as much, up to `TRIES` times.

    Args:
        work: takes bytes; None: as many as are free.
        memory: bytes that were asked for.
        device: where it works.
    """
    place = torch.device(device)
    had = free_memory(place) if memory is None else memory
    for _ in range(TRIES):
        try:
            return work(memory)
        except RuntimeError as error:
            if not _is_full(error):
                raise
        # out of the handler, which holds on to all that the work has left there
        gc.collect()
        torch.cuda.empty_cache()
        memory = min(had, free_memory(place)) // 2
        told = f"{had / 2**30:.3g} GiB for patterns did not fit the memory of the GPU, begun again with"
        logger.warning("%s %.3g GiB (--device-memory says how much)", told, memory / 2**30)
        had = memory
    return work(memory)


@contextmanager
def faults_are_told() -> Iterator[None]:
    """Say in one line that the memory of a GPU is full, or that it failed, and what to do.

    Raises:
        BackendError: in the place of what PyTorch raises.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_full(error):
            if not str(error).startswith(_FAULT):
                raise
            raise BackendError(
                f"GPU: expected it to compute, found {_first_line(error)}; go on with --resume, or take --device cpu"
            ) from error
        raise BackendError(
            f"GPU: expected room for the work, found its memory full ({_first_line(error)}); give less at once "
            "(--device-memory of an iteration, --batch-size of a training, --inference-batch-size of a pass), end what "
            "else is on the card, or take --device cpu"
        ) from error


def _is_full(error: RuntimeError) -> bool:
    """Whether an error says that the memory of a GPU is full."""
    return isinstance(error, torch.OutOfMemoryError) or any(each in str(error) for each in _FULL)


def _first_line(error: Exception) -> str:
    """What an error says before its advice."""
    line = str(error).strip().split("\n")[0].split(" Of the allocated memory")[0]
    return f"{type(error).__name__}: {line}"
