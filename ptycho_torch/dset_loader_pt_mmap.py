"""Data sets of memory-mapped scans, under the name that callers import."""

from ptycho.legacy.retired import mapped_data_set as __getattr__  # noqa: F401
from ptycho.raw_data import RawData as RawDataTorch
from ptycho_torch.api.scans import PtychoDataLoader
from ptycho_torch.lightning.dataset import PtychoDataModule
from ptycho_torch.loader import PtychoDataContainerTorch

__all__ = ["PtychoDataContainerTorch", "PtychoDataLoader", "PtychoDataModule", "RawDataTorch"]
