"""What a device is given: threads for batches, the way of patterns to where they are worked on, sums of stitching."""
