"""Ptychography without labels: shared core and the TensorFlow backend (the PyTorch backend is `ptycho_torch`)."""

__version__ = "0.1.0"
