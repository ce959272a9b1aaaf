"""What the solver needs of a device: threads for batches, and the way of patterns to where they are worked on."""
