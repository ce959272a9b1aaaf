"""Command lines of the PyTorch backend and what they share."""
