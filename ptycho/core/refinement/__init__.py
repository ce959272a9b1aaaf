"""The iterative reconstruction: its driver, and its kernels in NumPy."""
