"""Grouped data for TensorFlow (`ptycho.tf.loader`, `ptycho.legacy.loader`), under the name that callers import."""

# callers use both as attributes of `ptycho` after `import ptycho.loader`
import ptycho.probe
import ptycho.tf_helper  # noqa: F401
from ptycho.legacy.loader import load
from ptycho.tf.loader import PtychoDataContainer

__all__ = ["PtychoDataContainer", "load"]
