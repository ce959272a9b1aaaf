"""Registration of reconstructions: names of old for `ptycho.core.registration` and `ptycho.core.alignment`."""

from ptycho.core.alignment import Alignment, align
from ptycho.core.registration import find_offset, fit_plane, register_subpixel, remove_plane, shift_subpixel

__all__ = ["Alignment", "align", "find_offset", "fit_plane", "register_subpixel", "remove_plane", "shift_subpixel"]
