"""What Lightning does to the process that it runs in, undone."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["interrupts_raise", "own_determinism", "quiet_lightning"]


@contextmanager
def interrupts_raise() -> Iterator[None]:
    """Lightning turns an interrupt into SystemExit and switches further interrupts off: undo both."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from stop


@contextmanager
def own_determinism() -> Iterator[None]:
    """Lightning switches determinism on for the whole process: put it back as it was."""
    enabled, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Leave out what Lightning says about itself; our own line per epoch stays."""
    chatty = [logging.getLogger(name) for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch")]
    levels = [one.level for one in chatty]
    for one in chatty:
        one.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*does not have many workers.*",
                ".*no `val_dataloader`.*",
                ".*isinstance\\(treespec, LeafSpec\\).*",
                ".*Checkpoint directory .* exists and is not empty.*",
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for one, level in zip(chatty, levels, strict=True):
            one.setLevel(level)
