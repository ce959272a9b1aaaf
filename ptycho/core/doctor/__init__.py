"""The doctor: tells what is wrong with a scan before an hour is lost on it.

`examine` reads the scan once, reconstructs a few dozen of its patterns in all eight orientations of the detector
and with other positions, and answers one question after the other in a plain sentence with the numbers that led to it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ptycho.core.doctor.advice import forecast, suggest_settings
from ptycho.core.doctor.detector import (
    check_centre,
    check_dead_pixels,
    check_edges,
    check_hot_pixels,
    check_mask,
    dead_pixels,
    hot_pixels,
)
from ptycho.core.doctor.evidence import gather
from ptycho.core.doctor.findings import SEVERITIES, Diagnosis, Finding, Severity
from ptycho.core.doctor.positions import check_duplicates, check_order, check_place
from ptycho.core.doctor.reconstructions import try_out
from ptycho.core.doctor.samples import Sampler
from ptycho.core.doctor.sampling import check_energy, check_overlap, check_window, covered_pixels
from ptycho.core.doctor.values import check_dose, check_numbers, check_saturation, check_size, check_units
from ptycho.core.scan.stream import ScanStream

__all__ = ["SEVERITIES", "Diagnosis", "Finding", "Severity", "examine"]


def examine(stream: ScanStream, trials: bool = True) -> Diagnosis:
    """Examine a scan.

    Args:
        stream: the scan; values need not be sound.
        trials: whether to reconstruct a sample for the axes, the positions and the probe (some seconds).
    """
    scan = stream.fields
    evidence = gather(stream)
    findings = [check_size(scan), check_numbers(evidence), check_units(evidence), check_mask(evidence)]
    duplicates = check_duplicates(stream)
    if (
        findings[-1].severity == "fault"
        or not evidence.energies.any()
        or duplicates.numbers["not_finite"]
        or not np.isfinite(scan.probeGuess).all()
    ):
        return Diagnosis((*findings, duplicates, _stopped(stream, evidence.energies)))
    covered = covered_pixels(scan)
    centre = check_centre(evidence, scan)
    shift = (-round(centre.numbers["dy"]), -round(centre.numbers["dx"]))
    findings += [
        check_saturation(evidence, hot_pixels(evidence)),
        check_hot_pixels(evidence),
        check_dead_pixels(evidence),
        centre,
        check_edges(evidence, shift),
        duplicates,
        check_place(stream),
        check_order(stream, evidence),
        check_overlap(scan, covered),
        check_window(evidence, scan),
        check_energy(evidence, scan),
        dose := check_dose(evidence, scan, covered),
    ]
    test = None
    if trials:
        bad = hot_pixels(evidence) | dead_pixels(evidence)
        tried, test = try_out(Sampler(stream, evidence, shift, bad))
        findings += tried
    photons = dose.numbers["photons_per_pattern"]
    settings = suggest_settings(evidence, scan, photons)
    findings += [settings, forecast(scan, test, settings.numbers["gridsize"])]
    return Diagnosis(tuple(findings))


def _stopped(stream: ScanStream, energies: NDArray[np.float64]) -> Finding:
    """Why nothing further was examined."""
    if not energies.any():
        reason = f"all {len(energies)} patterns are dark in their valid pixels; check the export and the mask"
    elif not np.isfinite(stream.fields.probeGuess).all():
        reason = "the probe holds NaN or infinite values; give another"
    else:
        reason = "it would mislead; mend this first"
    return Finding("examination", "fault", f"Nothing further was examined: {reason}.", {})
