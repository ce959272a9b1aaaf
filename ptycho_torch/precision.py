"""Arithmetic of PyTorch that a caller may have chosen otherwise: what the library computes with, and only meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch

from ptycho.core.process_settings import changed_once

__all__ = ["full_float32", "no_autocast", "usual_defaults"]


@changed_once
def full_float32() -> Iterator[None]:
    """Compute matrix products in full float32, whatever the caller chose; his choice is back afterwards.

    After `torch.set_float32_matmul_precision("high")` a GPU rounds the factors of matrix products to ten bits (TF32).
    A shift is a matrix product (`ptycho_torch.reassembly`), and so is its gradient: both would lose three digits.
    Convolutions do what `torch.backends.cudnn` says. The setting is the process's: it comes back when the last
    thread is through. Also a decorator.
    """
    rounding = _rounding()
    try:
        for choose, _, full in rounding:
            choose(full)
        yield
    finally:
        for choose, before, _ in rounding:
            choose(before)


def _rounding() -> list[tuple[Callable[[str], None], str, str]]:
    """How to choose a precision, the one of now, and the full one, of whatever may round products now."""
    if not hasattr(torch.backends, "fp32_precision"):  # PyTorch before 2.9: one precision for every kind of device
        return [(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision(), "highest")]
    backends: Any = torch.backends  # the stubs do not know all of it
    return [
        (partial(setattr, kind, "fp32_precision"), kind.fp32_precision, "ieee")
        for kind in (backends.cuda.matmul, backends.mkldnn.matmul)
        if kind.fp32_precision not in ("none", "ieee")
    ]


def no_autocast(tensor: torch.Tensor) -> AbstractContextManager[None]:
    """Mixed precision is for the convolutions: shifts and far fields would lose three digits.

    `tensor` says on which device.
    """
    device = tensor.device.type
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


@contextmanager
def usual_defaults() -> Iterator[None]:
    """Where nothing is said, tensors are of float32 and on the CPU, whatever default the caller chose; his is back
    afterwards.

    With another default type (`torch.set_default_dtype`) weights would be of it and batches not, with another default
    device (`torch.set_default_device`) the generators of a training would be on the other one.
    """
    elsewhere = torch.get_default_device().type != "cpu"
    with _single_by_default(), torch.device("cpu") if elsewhere else nullcontext():
        yield


@changed_once
def _single_by_default() -> Iterator[None]:
    """Make numbers of float32 in the whole process."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
