"""Stitching (`ptycho.legacy.reassembly`), under a name that callers import."""

from ptycho.legacy.reassembly import assemble_barycentric, reassemble_position
from ptycho.legacy.retired import reassembly_alpha as __getattr__  # noqa: F401
from ptycho_torch.reassembly import assemble_group

__all__ = ["assemble_barycentric", "assemble_group", "reassemble_position"]
