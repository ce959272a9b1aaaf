"""What an engine brings: the work on a batch, where values lie, how much fits there."""
