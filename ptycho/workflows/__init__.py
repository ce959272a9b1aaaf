"""Whole workflows; only they know the order of the steps."""
