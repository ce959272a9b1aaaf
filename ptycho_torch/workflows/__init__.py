"""Workflows of the PyTorch backend: train, reconstruct, save, load."""
