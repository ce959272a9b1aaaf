"""Registration of reconstructions: `ptycho.core.quality.registration` and `alignment` under the names callers know."""

from ptycho.core.quality.alignment import Alignment, align
from ptycho.core.quality.registration import find_offset, fit_plane, register_subpixel, remove_plane, shift_subpixel
from ptycho.legacy.evaluation import register_and_align

__all__ = [
    "Alignment",
    "align",
    "find_offset",
    "fit_plane",
    "register_and_align",
    "register_subpixel",
    "remove_plane",
    "shift_subpixel",
]
