"""A scan that is still being measured: its picture as it grows, and what becomes of it in the end."""
