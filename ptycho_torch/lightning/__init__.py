"""Training with Lightning: rates, stages, checkpoints, and what it leaves in a folder.

Whoever imports Lightning imports this package first: then TensorFlow may have been loaded before.
"""

from ptycho_torch.lightning.triton_library import load_triton

load_triton()
