"""The doctor: tells what is wrong with a scan before an hour is lost on it.

`examine` reads the scan once, reconstructs a few dozen of its patterns in all eight orientations of the detector
and with other positions, and answers one question after the other in a plain sentence with the numbers that led to it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ptycho.core.doctor.advice import forecast, suggest_settings
from ptycho.core.doctor.beam import check_beam
from ptycho.core.doctor.detector import (
    check_centre,
    check_dead_pixels,
    check_edges,
    check_hot_pixels,
    check_mask,
    dead_pixels,
    direct_beam,
    hot_pixels,
)
from ptycho.core.doctor.findings import SEVERITIES, Diagnosis, Finding, Severity
from ptycho.core.doctor.near_field import check_field, follow_shadows
from ptycho.core.doctor.orientation import compare_probe
from ptycho.core.doctor.positions import check_duplicates, check_order, check_place
from ptycho.core.doctor.probe_centre import check_probe_centre
from ptycho.core.doctor.reconstructions import examine_sample
from ptycho.core.doctor.samples import Sampler
from ptycho.core.doctor.sampling import check_energy, check_overlap, check_raster, check_window, covered_pixels
from ptycho.core.doctor.statistics import ScanStatistics, gather
from ptycho.core.doctor.values import (
    check_dose,
    check_numbers,
    check_repeats,
    check_saturation,
    check_size,
    check_units,
    insane_patterns,
)
from ptycho.core.physics.near_field import NearField
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import ScanStream
from ptycho.core.scan_edit.fit_detector import fit_stream
from ptycho.core.scan_edit.points import subset

__all__ = ["SEVERITIES", "Diagnosis", "Finding", "Severity", "examine", "examine_probe"]


_NO_PROBE = Finding(
    "probe",
    "note",
    "The scan has no probe: order, overlap, energy, axes, position scale and settings were not examined. A "
    "reconstruction finds one in the patterns, ptycho probe does so alone.",
    {},
)


def examine(stream: ScanStream, reconstructions: bool = True) -> Diagnosis:
    """Examine a scan.

    Args:
        stream: the scan, of any detector; values need not be sound.
        reconstructions: whether to reconstruct a sample for the axes, the positions and the probe (some seconds).
    """
    stream, made_to_fit = fit_stream(stream)
    scan = stream.fields
    statistics = gather(stream)
    findings = [
        check_size(scan, made_to_fit),
        check_numbers(statistics),
        check_units(statistics),
        check_repeats(statistics),
        check_mask(statistics),
    ]
    places = [check_duplicates(stream)]
    if not places[0].numbers["not_finite"]:
        places.append(check_place(stream))
    if (
        findings[-1].severity == "fault"
        or not statistics.energies.any()
        or len(places) == 1
        or places[1].numbers["stray"]
        or not _finite_probe(scan)
    ):
        return Diagnosis((*findings, *places, _stopped(stream, statistics.energies)))
    whole, insane = statistics, insane_patterns(statistics)
    if insane.size and len(statistics.energies) > len(insane) + 1:  # named with the dose; all else is of the others
        stream = subset(stream, np.delete(np.arange(len(stream.frames)), insane))
        scan, statistics = stream.fields, gather(stream)
    hot = hot_pixels(statistics)
    if NearField.of(scan.metadata) is not None:
        return Diagnosis((*findings, *_of_near_field(stream, statistics, whole, hot), *places, _NEAR))
    centre = check_centre(statistics, scan, hot)
    shift, offset = _shift(centre), (centre.numbers["dy"], centre.numbers["dx"])
    sound = replace(statistics, valid=statistics.valid & ~(hot & ~direct_beam(hot, offset)))
    findings += [
        check_saturation(statistics, hot),
        check_hot_pixels(statistics, hot, offset),
        check_dead_pixels(statistics),
        centre,
        check_edges(sound, shift),
        check_beam(statistics),
        *places,
        check_field(follow_shadows(stream, sound), scan.metadata),
    ]
    if scan.probeGuess is None:
        return Diagnosis((*findings, check_window(sound, scan), check_dose(whole, scan, None), _NO_PROBE))
    stream, probe = check_probe_centre(stream)
    findings += [probe, *_by_the_probe(stream, sound, whole, centre, reconstructions)]
    return Diagnosis(tuple(findings))


def _of_near_field(
    stream: ScanStream, statistics: ScanStatistics, whole: ScanStatistics, hot: NDArray[np.bool_]
) -> list[Finding]:
    """What can be asked of patterns of the near field."""
    sound = replace(statistics, valid=statistics.valid & ~hot)
    return [
        check_saturation(statistics, hot),
        check_hot_pixels(statistics, hot, (0.0, 0.0)),
        check_dead_pixels(statistics),
        check_beam(statistics),
        check_field(follow_shadows(stream, sound), stream.fields.metadata),
        check_dose(whole, stream.fields, None),
    ]


def _by_the_probe(
    stream: ScanStream, statistics: ScanStatistics, whole: ScanStatistics, centre: Finding, reconstructions: bool
) -> list[Finding]:
    """Findings that need to know the probe."""
    scan = stream.fields
    covered = covered_pixels(scan)
    sampler = _sampler(stream, statistics, _shift(centre))
    findings = [
        check_order(stream, statistics, sampler),
        check_overlap(stream, statistics, covered, centre.numbers["likeness"]),
        *check_raster(scan),
        check_window(statistics, scan),
        check_energy(statistics, scan),
        dose := check_dose(whole, scan, covered),
    ]
    test = None
    if reconstructions:
        tried, test = examine_sample(sampler)
        findings += tried
    settings = suggest_settings(statistics, scan, dose.numbers["photons_per_pattern"])
    return [*findings, settings, forecast(scan, test, settings.numbers["gridsize"], statistics.units)]


_NEAR = Finding(
    "probe",
    "note",
    "Patterns of the near field: centre, order, overlap, energy, axes and position scale were not examined.",
    {},
)


def _finite_probe(scan: ScanFile) -> bool:
    return scan.probeGuess is None or bool(np.isfinite(scan.probeGuess).all())


def examine_probe(stream: ScanStream) -> Finding:
    """Whether the probe of a scan fits its patterns, by two short reconstructions of some patterns in the middle."""
    statistics = gather(stream)
    centre = check_centre(statistics, stream.fields, hot_pixels(statistics))
    return compare_probe(_sampler(stream, statistics, _shift(centre)).middle())


def _shift(centre: Finding) -> tuple[int, int]:
    """(dy, dx) in pixels that brings the zero frequency to [N/2, N/2]."""
    dy, dx = centre.numbers["shift_dy_dx"]
    return dy, dx


def _sampler(stream: ScanStream, statistics: ScanStatistics, shift: tuple[int, int]) -> Sampler:
    return Sampler(stream, statistics, shift, hot_pixels(statistics) | dead_pixels(statistics))


def _stopped(stream: ScanStream, energies: NDArray[np.float64]) -> Finding:
    """Why nothing further was examined."""
    if not energies.any():
        reason = f"all {len(energies)} patterns are dark in their valid pixels; check the export and the mask"
    elif not _finite_probe(stream.fields):
        reason = "the probe holds NaN or infinite values; give another"
    else:
        reason = "it would mislead; mend this first"
    return Finding("examination", "fault", f"Nothing further was examined: {reason}.", {})
