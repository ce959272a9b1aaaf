"""The TensorFlow backend; every file has a twin in `ptycho_torch`."""
