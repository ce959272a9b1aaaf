"""Grouped data for TensorFlow (`ptycho.tf.loader`), under the name that callers import."""

# callers use both as attributes of `ptycho` after `import ptycho.loader`
import ptycho.probe
import ptycho.tf_helper  # noqa: F401
from ptycho.tf.loader import PtychoDataContainer, load

__all__ = ["PtychoDataContainer", "load"]
