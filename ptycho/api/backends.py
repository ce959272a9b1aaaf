"""Which backend does the work where nobody names one, and its functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ptycho.config.config import PyTorchExecutionConfig
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.run import Refinement
from ptycho.errors import BackendError
from ptycho.workflows.backend import BackendName
from ptycho.workflows.backend_selector import require_backend

__all__ = ["installed_backend", "reconstructor", "refiner"]

PREFERRED: tuple[BackendName, BackendName] = ("pytorch", "tensorflow")


def installed_backend(name: BackendName | None = None) -> BackendName:
    """The backend of this name, or without one the first that is installed, PyTorch before TensorFlow.

    Raises:
        ConfigError: there is no backend of this name.
        BackendError: it is not installed, or none is.
    """
    if name is not None:
        require_backend(name)
        return name
    for candidate in PREFERRED:
        try:
            require_backend(candidate)
        except BackendError:
            continue
        return candidate
    raise BackendError("no backend is installed: pip install 'torch>=2.2' lightning, or 'tensorflow>=2.16'")


def refiner(backend: BackendName, execution: PyTorchExecutionConfig | None = None) -> Callable[..., Refinement]:
    """The backend's `refine`, on the device that `execution` names."""
    if backend == "pytorch":
        from ptycho_torch.cli.shared import resolve_execution
        from ptycho_torch.refine import refine as refine_torch

        return partial(refine_torch, device=resolve_execution(execution).accelerator)
    from ptycho.tf.refine import refine as refine_tensorflow

    return refine_tensorflow


def reconstructor(
    backend: BackendName, execution: PyTorchExecutionConfig | None = None
) -> Callable[..., Reconstruction]:
    """The backend's `reconstruct_scan`, for a model in memory."""
    if backend == "pytorch":
        from ptycho_torch.workflows.components import reconstruct_scan as reconstruct_torch

        return partial(reconstruct_torch, execution_config=execution)
    from ptycho.workflows.components import reconstruct_scan as reconstruct_tensorflow

    return reconstruct_tensorflow
