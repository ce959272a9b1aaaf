"""Which backend does the work where nobody names one."""

from __future__ import annotations

from ptycho.errors import BackendError
from ptycho.workflows.backend import BackendName
from ptycho.workflows.backend_selector import require_backend

__all__ = ["installed_backend"]

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
    raise BackendError("no backend is installed: pip install 'torch>=2.5' 'lightning>=2.4', or 'tensorflow>=2.20'")
