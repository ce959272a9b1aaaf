"""The questions that short reconstructions answer, in their order: axes, scale, frames; then the probe, its modes."""

from __future__ import annotations

from ptycho.core.doctor.coherence import check_fly_scan, check_modes, compare_modes, line_step
from ptycho.core.doctor.findings import Finding
from ptycho.core.doctor.frame_shift import check_shift, rank_shifts
from ptycho.core.doctor.orientation import OrientationTest, check_orientation, check_probe, compare_orientations
from ptycho.core.doctor.position_scale import check_scale, rank_scales, scaled
from ptycho.core.doctor.samples import Sampler
from ptycho.core.doctor.slip import find_slip

__all__ = ["examine_sample"]

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
    scale = rank_scales(sample)
    shift = rank_shifts(sampler, scale.scale if scale.wrong else 1.0)
    doubtful = not shift.right or shift.points > _MANY
    slip = None if shift.wrong or not doubtful else find_slip(sampler, scale.scale if scale.wrong else 1.0)
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


def _probe(test: OrientationTest) -> Finding:
    return check_probe(test.given_probe, test.free_probe, test.noise)
