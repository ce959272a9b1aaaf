"""Functions as older callers call them; what these are not told they read from `params.cfg`."""
