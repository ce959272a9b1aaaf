"""Names that older callers know and that cannot be here any more, each with the way that took its place.

What takes arguments raises an error with the line of `retired`; a module of which little is left has one of the
functions below as its `__getattr__`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

__all__ = ["RETIRED", "mapped_data_set", "reassembly_alpha", "reassembly_beta", "retired"]

RETIRED = {
    "PtychoPINN_Lightning(model_config=)": (
        "a network takes the probe and the scales of the scan that it is trained on: use "
        "PtychoModel._new_model(PtychoPINN_Lightning, ConfigManager(model_config=...)) and Trainer of "
        "ptycho_torch.api.base_api, or train_cdi_model_torch"
    ),
    "ptycho_torch.dset_loader_pt_mmap": (
        "a scan is memory-mapped by RawData.from_file(path, memory_map='always'), grouped by generate_grouped_data and "
        "batched by PtychoDataModule"
    ),
    "ptycho_torch.reassembly_alpha": "use reassemble_position, assemble_barycentric or InferenceEngine",
    "ptycho_torch.reassembly_beta": "use reassemble_position, assemble_barycentric or InferenceEngine",
}
"""What is gone -> what to use."""


def retired(name: str) -> str:
    """One line about a name that is gone.

    >>> retired("ptycho_torch.reassembly_beta")
    'ptycho_torch.reassembly_beta is gone: use reassemble_position, assemble_barycentric or InferenceEngine'
    """
    return f"{name} is gone: {RETIRED[name]}"


def _refusing(module: str) -> Callable[[str], NoReturn]:
    """The `__getattr__` of a module of which only its name and what it says are left.

    It raises ImportError, whose text `from ... import` shows; of an AttributeError it would not.
    """

    def refuse(name: str) -> NoReturn:
        if name.startswith("__"):  # Python itself looks for such
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise ImportError(f"{module}.{name} is gone: {RETIRED[module]}", name=module)

    return refuse


mapped_data_set = _refusing("ptycho_torch.dset_loader_pt_mmap")
reassembly_alpha = _refusing("ptycho_torch.reassembly_alpha")
reassembly_beta = _refusing("ptycho_torch.reassembly_beta")
