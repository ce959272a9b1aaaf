"""What both backends need of a training: rates, clipping, scales, checkpoints."""
