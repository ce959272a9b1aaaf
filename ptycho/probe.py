"""The probe as a layer of TensorFlow (`ptycho.tf.probe`), under the name that callers import."""

from ptycho.tf.probe import ProbeLayer, set_probe_guess

__all__ = ["ProbeLayer", "set_probe_guess"]
