"""The questions that short reconstructions answer, in their order: axes, scale, frames; then the probe, its modes."""

from __future__ import annotations

from ptycho.core.doctor.coherence import check_fly_scan, check_modes, compare_modes, line_step
from ptycho.core.doctor.findings import Finding
from ptycho.core.doctor.frame_shift import ShiftTest, Slip, check_shift, rank_shifts
from ptycho.core.doctor.orientation import OrientationTest, check_orientation, check_probe, compare_orientations
from ptycho.core.doctor.position_scale import ScaleTest, check_scale, rank_scales, scaled
from ptycho.core.doctor.samples import Sample, Sampler
from ptycho.core.doctor.slip import find_slip, sampler_of
from ptycho.core.scan.stream import ScanStream

__all__ = ["displaced", "examine_sample"]

_MANY = 200
"""Points from which on a slip is looked for although the places with uneven steps are in order."""


def examine_sample(sampler: Sampler) -> tuple[list[Finding], OrientationTest]:
    """Findings on positions, orientation and probe, and the short reconstructions in all orientations.

    Where positions are wrong, orientation and probe are examined with the right ones. Positions are not tested where
    the axes are mistaken beyond doubt.
    """
    sample = sampler.middle()
    test = compare_orientations(sample)
    if test.mistaken:
        return [check_orientation(test), _probe(test)], test
    scale, shift, slip = _places(sampler, sample)
    if shift.wrong:
        sample = sampler.middle(shift.best)
        scale = rank_scales(sample)
    if scale.wrong or shift.wrong:
        sample = scaled(sample, scale.scale if scale.wrong else 1.0)
        test = compare_orientations(sample)
    modes = compare_modes(sample, line_step(*sampler.positions))
    findings = [check_scale(scale), check_shift(shift, slip), check_orientation(test), _probe(test), check_modes(modes)]
    fly_scan = check_fly_scan(modes)
    return [*findings, *([] if fly_scan is None else [fly_scan])], test


def displaced(stream: ScanStream) -> Finding | None:
    """What is wrong with the positions of a scan with a probe whose axes are right; None: nothing; some seconds."""
    sampler = sampler_of(stream)
    scale, shift, slip = _places(sampler, sampler.middle())
    found = check_shift(shift, slip), check_scale(scale)
    return next((one for one in found if one.severity == "fault"), None)


def _places(sampler: Sampler, sample: Sample) -> tuple[ScaleTest, ShiftTest, Slip | None]:
    """How positions are scaled, and whether frames are apart from them: all, or from one on."""
    scale = rank_scales(sample)
    factor = scale.scale if scale.wrong else 1.0
    shift = rank_shifts(sampler, factor)
    doubtful = not shift.wrong and (not shift.right or shift.points > _MANY)
    return scale, shift, find_slip(sampler, factor) if doubtful else None


def _probe(test: OrientationTest) -> Finding:
    return check_probe(test.given_probe, test.free_probe, test.noise)
