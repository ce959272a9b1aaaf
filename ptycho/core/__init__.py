"""The physics and the bookkeeping of ptychography in NumPy: the oracle that every backend is tested against."""
