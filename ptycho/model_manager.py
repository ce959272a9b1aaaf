"""Models of TensorFlow to and from files (`ptycho.tf.model_manager`), under the name that callers import."""

from ptycho.tf.model_manager import ModelManager, load_tf_bundle, save, save_tf_bundle

__all__ = ["ModelManager", "load_tf_bundle", "save", "save_tf_bundle"]
