"""Grouped data for PyTorch (`ptycho_torch.loader`), under the name that callers import."""

from ptycho_torch.loader import PtychoDataContainerTorch

__all__ = ["PtychoDataContainerTorch"]
