"""Is the light of the probe in the middle of its window?"""

from __future__ import annotations

from ptycho.core.doctor.findings import Finding, Severity
from ptycho.core.scan.stream import ScanStream
from ptycho.core.scan_edit.centre import at_corner, probe_offset
from ptycho.core.scan_edit.detector import recentre_probe

__all__ = ["check_probe_centre"]

_MEND = "recentre --probe"
_OFF, _FAR = 2.5, 0.125
"""Pixels off the middle that are worth a word, and share of the window from which on the probe may be cut off."""


def check_probe_centre(stream: ScanStream) -> tuple[ScanStream, Finding]:
    """The scan with its probe in the middle, for all further questions, and whether it was there."""
    probe = stream.fields.probe
    dy, dx = probe_offset(probe)
    sides = probe.shape[-2:]
    numbers = {"dy": dy, "dx": dx}
    if at_corner((dy, dx), sides):
        sentence = (
            f"The probe is not centred: its light is at the corner of the window, ({dy:.1f}, {dx:.1f}) pixels (y, x) "
            f"from [N/2, N/2], as a transform without fftshift leaves it. Mend it with ptycho dataset {_MEND}."
        )
        return recentre_probe(stream), Finding("probe centre", "warning", sentence, numbers, (_MEND,))
    off = max(abs(dy) / sides[0], abs(dx) / sides[1])
    if max(abs(dy), abs(dx)) > _OFF:
        severity: Severity = "warning" if off > _FAR else "note"
        harm = "it may be cut off" if off > _FAR else "the object is displaced by as much, which is harmless"
        sentence = (
            f"The light of the probe lies ({dy:+.1f}, {dx:+.1f}) pixels (y, x) from [N/2, N/2]: {harm}. "
            f"ptycho dataset {_MEND} moves it to the middle."
        )
        mend = (_MEND,) if severity == "warning" else ()
        return recentre_probe(stream), Finding("probe centre", severity, sentence, numbers, mend)
    sentence = f"The light of the probe is in the middle within {max(abs(dy), abs(dx), 0.1):.1f} pixels."
    return stream, Finding("probe centre", "ok", sentence, numbers)
