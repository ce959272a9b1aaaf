"""What a device is given: threads for batches, patterns, sums of stitching, images to compare; a GPU as it is found."""
