"""Stitching and translation (`ptycho.legacy.reassembly`), under the names that callers import; loads no framework."""

from ptycho.legacy.reassembly import (
    reassemble_patches_position_batched_real,
    reassemble_position,
    translate_core,
)
from ptycho.legacy.reassembly import translate_images_simple as _translate_images_simple  # noqa: F401

__all__ = ["reassemble_patches_position_batched_real", "reassemble_position", "translate_core"]
