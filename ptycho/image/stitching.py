"""Stitching of patches (`ptycho.core.stitching.stitch`), under the name that callers import."""

from ptycho.core.stitching.stitch import reassemble_position, stitch
from ptycho.legacy.reassembly import stitch_patches

__all__ = ["reassemble_position", "stitch", "stitch_patches"]
