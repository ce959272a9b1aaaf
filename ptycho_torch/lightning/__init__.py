"""Training with Lightning: rates, stages, checkpoints, and what it leaves in a folder."""
