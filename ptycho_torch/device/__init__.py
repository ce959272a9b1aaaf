"""What a device is given: threads for batches, the way of patterns to it, sums of stitching, images to compare."""
