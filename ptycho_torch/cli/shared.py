"""What the command lines of the PyTorch backend share: where to run, how, and whether the files are there."""

from __future__ import annotations

import argparse
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ptycho.config.config import PyTorchExecutionConfig, config_from_dict
from ptycho.config.deprecation import warn_deprecated
from ptycho.config.schema import settings_of
from ptycho.errors import BackendError, MissingFileError, OutputError

__all__ = [
    "build_execution_config_from_args",
    "deprecated_settings",
    "resolve_accelerator",
    "resolve_execution",
    "validate_paths",
]

logger = logging.getLogger(__name__)


def resolve_accelerator(name: str) -> str:
    """The device type that `accelerator` means on this machine: `cpu`, `cuda` or `mps`.

    `auto` is CUDA where there is one that computes, else the CPU with one warning; `gpu` is another name of `cuda`.

    Raises:
        BackendError: the accelerator was asked for by name and is not there, or nothing can be computed on it.
    """
    import torch  # late: the settings of a run can be checked without it

    from ptycho_torch.device.cuda import why_unusable

    name = "cuda" if name == "gpu" else name
    if name in ("auto", "cuda") and torch.cuda.is_available():
        reason = why_unusable()
        if not reason:
            return "cuda"
        if name == "cuda":
            raise BackendError(f"accelerator 'cuda': expected a GPU that computes, found {reason}; ask for 'cpu'")
        logger.warning("the CUDA device found does not compute (%s): running on the CPU", reason)
        return "cpu"
    if name == "auto":
        logger.warning("no CUDA device found: running on the CPU")
        return "cpu"
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(name, False):
        there = ", ".join(key for key, present in available.items() if present)
        raise BackendError(f"accelerator {name!r} is not available on this machine (found {there}): ask for 'auto'")
    return name


def resolve_execution(execution: PyTorchExecutionConfig | None) -> PyTorchExecutionConfig:
    """The execution settings (None: their defaults) with the accelerator resolved; a second call changes nothing."""
    settings = execution or PyTorchExecutionConfig()
    accelerator: Any = resolve_accelerator(settings.accelerator)
    return replace(settings, accelerator=accelerator)


def build_execution_config_from_args(args: argparse.Namespace) -> PyTorchExecutionConfig:
    """How PyTorch runs, from the arguments of a command line; what was not given keeps its default.

    Args:
        args: values under the names of the fields of PyTorchExecutionConfig, or under those that `add_execution_flags`
            uses (`execution.` in front); further `quiet`, which switches the progress bar off, and the deprecated
            `device` (now `accelerator`) and `disable_mlflow` (now `logger_backend=None`), which give way to their
            successors with a DeprecationWarning each.

    Raises:
        ConfigError: a value that is not allowed.
    """
    given = deprecated_settings(args)
    if getattr(args, "quiet", False):
        given["enable_progress_bar"] = False
    for name in settings_of(PyTorchExecutionConfig):
        for key in (name, f"execution.{name}"):
            if hasattr(args, key):
                given[name] = getattr(args, key)
    return config_from_dict(PyTorchExecutionConfig, given, "command line")


def deprecated_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the deprecated flags among the arguments of a command line mean, each with a DeprecationWarning."""
    given: dict[str, Any] = {}
    device = getattr(args, "device", None)
    if device is not None:
        given["accelerator"] = device
        warn_deprecated("--device", f"use --accelerator {device}", stacklevel=3)
    if getattr(args, "disable_mlflow", False):
        given["logger_backend"] = None
        warn_deprecated("--disable_mlflow", "use --logger none", stacklevel=3)
    return given


def validate_paths(
    train_file: Path | str | None, test_file: Path | str | None, output_dir: Path | str | None = None
) -> None:
    """Check that the scans are there and that the output folder can be made and written; nothing is made.

    None and the empty path count as not given.

    Raises:
        MissingFileError: naming the file that is not there.
        OutputError: naming the folder and what is in its way.
    """
    for meaning, file in (("scan to train on", train_file), ("test scan", test_file)):
        if file is not None and Path(file) != Path() and not Path(file).exists():
            raise MissingFileError(f"{file}: expected the {meaning} (NPZ), found no such file; correct the path")
    if output_dir is not None:
        _check_writable(Path(output_dir))


def _check_writable(folder: Path) -> None:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise OutputError(f"{folder}: expected a folder to write to, found the file {there}; choose another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: expected a folder to write to, found {there} read-only; choose another one")
