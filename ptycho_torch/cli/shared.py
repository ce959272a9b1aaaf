"""What the command lines of the PyTorch backend share: where to run."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from ptycho.config.config import PyTorchExecutionConfig
from ptycho.errors import BackendError

__all__ = ["resolve_accelerator", "resolve_execution"]

logger = logging.getLogger(__name__)


def resolve_accelerator(name: str) -> str:
    """The device type that `accelerator` means on this machine: `cpu`, `cuda` or `mps`.

    `auto` is CUDA where there is one, else the CPU with one warning; `gpu` is another name of `cuda`.

    Raises:
        BackendError: the accelerator was asked for by name and is not there.
    """
    name = "cuda" if name == "gpu" else name
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        logger.warning("no CUDA device found: running on the CPU")
        return "cpu"
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(name, False):
        there = ", ".join(key for key, present in available.items() if present)
        raise BackendError(
            f"accelerator {name!r} is not available on this machine (found {there}): use --torch-accelerator auto"
        )
    return name


def resolve_execution(execution: PyTorchExecutionConfig | None) -> PyTorchExecutionConfig:
    """The execution settings (None: their defaults) with the accelerator resolved; a second call changes nothing."""
    settings = execution or PyTorchExecutionConfig()
    return replace(settings, accelerator=resolve_accelerator(settings.accelerator))
