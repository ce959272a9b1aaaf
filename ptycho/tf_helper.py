"""Stitching (`ptycho.legacy.reassembly`), under the name that callers import; loads no framework."""

from ptycho.legacy.reassembly import reassemble_position

__all__ = ["reassemble_position"]
