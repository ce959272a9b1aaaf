"""A scan made from a scan."""
