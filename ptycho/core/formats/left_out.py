"""What a file of another format does not hold of a scan: found by reading it back."""

from __future__ import annotations

from pathlib import Path

from ptycho.core.formats import registry
from ptycho.core.formats.catalogue import FormatEntry
from ptycho.core.formats.record import ScanRecord, completed

__all__ = ["left_out"]

_NAMES = {
    "patterns": "patterns",
    "xcoords": "positions",
    "xcoords_start": "positions at the start of each exposure",
    "indexes": "numbers of the patterns",
    "probe": "the probe",
    "object": "the object",
    "mask": "the mask",
    "scan_index": "scan_index",
    "true_patches": "the true patches (Y)",
    "energy_eV": "the energy",
    "distance_m": "the distance",
    "detector_pixel_m": "the size of a detector pixel",
    "object_pixel_m": "the size of an object pixel",
    "losses": "the history of errors",
}
_OF_AN_IMAGE = ("object", "object_pixel_m")
"""What a file holds that is written and not read: a TIFF."""
_TRIVIAL = ("indexes",)
"""What says nothing where it is 0 .. n-1."""


def left_out(record: ScanRecord, path: Path, entry: FormatEntry) -> tuple[str, ...]:
    """What `record` has and the file that was written of it has not, in words.

    Args:
        record: what was written.
        path: the file.
        entry: its format; of one that is not read an object and the size of its pixels are all that it holds.
    """
    if not entry.reads:
        return tuple(text for name, text in _NAMES.items() if name not in _OF_AN_IMAGE and _there(record, name))
    back = completed(registry.read(path))
    gone = [text for name, text in _NAMES.items() if _there(record, name) and not _there(back, name)]
    if record.probe is not None and back.probe is not None and len(back.probe) < len(record.probe):
        gone.append(f"{len(record.probe) - len(back.probe)} of {len(record.probe)} modes of the probe")
    if record.mask is not None and back.mask is not None and back.mask.ndim < record.mask.ndim:
        gone.append("the mask of each pattern (a pixel is bad where it is bad in any)")
    keys = sorted(set(record.metadata) - set(back.metadata))
    if keys:
        gone.append(f"metadata {', '.join(keys)}")
    if record.particle == "electron" and back.particle != "electron":
        gone.append("that the beam is of electrons (the energy written is of photons of the same wavelength)")
    return tuple(gone)


def _there(record: ScanRecord, name: str) -> bool:
    value = getattr(record, name)
    if value is None or (name == "losses" and not value):
        return False
    return name not in _TRIVIAL or bool((value != range(len(value))).any())
