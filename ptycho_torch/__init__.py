"""The PyTorch + Lightning backend: network, physics, training, stitching and refinement; never loads TensorFlow."""
