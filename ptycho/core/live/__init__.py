"""A scan that is still being measured: frames and positions as they come, joined by their numbers."""
