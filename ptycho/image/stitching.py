"""Stitching of patches: names of old for `ptycho.core.stitching`."""

from ptycho.core.stitching import reassemble_position, stitch

__all__ = ["reassemble_position", "stitch"]
