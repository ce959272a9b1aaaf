"""What Lightning does to the process that it runs in, undone."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ptycho.core.process_settings import Agreement, changed_once

__all__ = ["interrupts_raise", "own_determinism", "quiet_lightning", "seeded"]


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
        # it exits while it handles the interrupt
        interrupt = stop.__context__ if isinstance(stop.__context__, KeyboardInterrupt) else KeyboardInterrupt()
        raise interrupt from None


_deterministic = Agreement("deterministic")
_VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "CUDA_DEVICE_ORDER")
_DRAWS = ("uniform_", "normal_", "random_", "bernoulli_", "exponential_", "rand", "randn", "randint", "randperm")
"""What draws numbers; functions of `torch.nn.init` name their generator besides."""


class _OwnGenerator(TorchFunctionMode):
    """Whatever is drawn in place, in this thread, comes from a generator of its own."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        settings = dict(kwargs or {})
        draws = "generator" in settings or getattr(func, "__name__", "") in _DRAWS
        if draws and settings.get("generator") is None:
            settings["generator"] = self.generator
        return func(*args, **settings)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """First weights are what they are right after `torch.manual_seed(seed)`; the process' generator is not touched.

    It could not be used: Lightning puts it back while another thread draws from it, and the weights of both are others.
    """
    with _OwnGenerator(seed):
        yield


@contextmanager
def own_determinism(wanted: bool | str) -> Iterator[None]:
    """Lightning switches determinism for the whole process: it is as it was when the last training is through.

    So are whether cuDNN tries its algorithms, the variables for cuBLAS and for the order of GPUs, and the way in which
    processes are started: Lightning asks for that, which settles it for whoever has not chosen yet.

    Raises:
        ConfigError: a training in another thread wants it otherwise.
    """
    with _deterministic.on(wanted), _put_back():
        yield


@changed_once
def _put_back() -> Iterator[None]:
    """Note what Lightning settles for the whole process, put it back."""
    variables = {name: os.environ.get(name) for name in _VARIABLES}
    start_method, tries = multiprocessing.get_start_method(allow_none=True), torch.backends.cudnn.benchmark
    enabled, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.backends.cudnn.benchmark = tries
        multiprocessing.set_start_method(start_method, force=True)
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@changed_once
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
                "GPU available but not used.*",
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for one, level in zip(chatty, levels, strict=True):
            one.setLevel(level)
