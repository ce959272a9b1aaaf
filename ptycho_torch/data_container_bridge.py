"""Scans and grouped data for PyTorch (`ptycho.raw_data`, `ptycho_torch.loader`), by the names that callers import."""

from ptycho.raw_data import RawData as RawDataTorch
from ptycho_torch.loader import PtychoDataContainerTorch

__all__ = ["PtychoDataContainerTorch", "RawDataTorch"]
