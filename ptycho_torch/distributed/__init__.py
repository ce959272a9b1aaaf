"""Several processes at one run, by torch.distributed."""
