"""Stitching of patches: names of old for `ptycho.core.stitching.stitch`."""

from ptycho.core.stitching.stitch import reassemble_position, stitch

__all__ = ["reassemble_position", "stitch"]
