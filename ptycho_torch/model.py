"""The PyTorch model and its training module, under the name that callers import."""

from ptycho_torch.fit import PtychoPINN_Lightning
from ptycho_torch.pinn import PtychoPINN

__all__ = ["PtychoPINN", "PtychoPINN_Lightning"]
