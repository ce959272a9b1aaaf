"""Patterns that go to a GPU beside its work."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ptycho.core.refinement.device.kernels import Measured

__all__ = ["TorchStream"]

logger = logging.getLogger(__name__)


class _Sent(NamedTuple):
    """Patterns on their way, and what says that they have arrived; None: they have."""

    measured: Measured
    copied: torch.cuda.Event | None


class TorchStream:
    """`ptycho.core.refinement.device.kernels.Stream`: copies from page-locked memory on a stream of their own.

    On a CPU there is nothing to copy, and nothing to wait for. Where a computer gives no page-locked memory, as one may
    with a limit, copies are waited for. Not run on a GPU so far.

    Args:
        device: where the patterns are worked on.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._locks = device, device.type == "cuda"

    @cached_property
    def _copies(self) -> torch.cuda.Stream | None:
        return torch.cuda.Stream(self._device) if self._device.type == "cuda" else None

    def hold(self, measured: Measured) -> Measured:
        """Patterns and masks in page-locked memory."""
        parts = (measured.amplitude, measured.valid)
        return Measured(*(None if part is None else self._locked(torch.from_numpy(part)) for part in parts))

    def send(self, held: Measured) -> _Sent:
        """Begin to copy; nobody waits."""
        if self._copies is None:
            return _Sent(held, None)
        with torch.cuda.stream(self._copies):
            parts = (held.amplitude, held.valid)
            there = [None if part is None else part.to(self._device, non_blocking=True) for part in parts]
            copied = torch.cuda.Event()
            copied.record(self._copies)
        return _Sent(Measured(*there), copied)

    def arrived(self, sent: _Sent) -> Measured:
        """What was sent; the work that follows waits for it, and its memory for the work."""
        if sent.copied is not None:
            work = torch.cuda.current_stream(self._device)
            work.wait_event(sent.copied)
            for part in (sent.measured.amplitude, sent.measured.valid):
                if part is not None:
                    part.record_stream(work)
        return sent.measured

    def _locked(self, values: Tensor) -> Tensor:
        if not self._locks:
            return values
        try:
            return values.pin_memory()
        except RuntimeError as error:
            self._locks = False
            logger.warning("no page-locked memory (%s): patterns go to the GPU more slowly", str(error).split("\n")[0])
        return values
