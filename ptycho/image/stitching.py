"""Stitching of patches (`ptycho.core.stitching.stitch`), under the name that callers import."""

from ptycho.core.stitching.stitch import reassemble_position, stitch

__all__ = ["reassemble_position", "stitch"]
