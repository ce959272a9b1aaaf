"""Sums over the patterns of a scan, batch by batch and over processes."""
