"""A scan iterated: what is decided before, where it begins, the probe that is found."""
