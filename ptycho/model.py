"""The TensorFlow model (`ptycho.tf.pinn`), under the name that callers import."""

from ptycho.tf.pinn import PtychoPINN

__all__ = ["PtychoPINN"]
