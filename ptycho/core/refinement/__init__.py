"""The iterative reconstruction: the search, from a first point to the result."""
