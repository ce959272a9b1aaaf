"""What an iteration changed beside the object, one sentence each."""

from __future__ import annotations

import numpy as np

from ptycho.config.options import IterationOptions
from ptycho.core.doctor.beam import beam_change
from ptycho.core.physics.stage import stage_of
from ptycho.core.physics.variable_probe import ProbeVariation
from ptycho.core.refinement.refinement import Refinement
from ptycho.raw_data import RawData
from ptycho.workflows.effects.background import background_notes
from ptycho.workflows.effects.detector_blur import blur_note
from ptycho.workflows.effects.thick import slices_note
from ptycho.workflows.effects.variable_probe import variation_note

__all__ = ["changes"]

TOLD_FACTOR, TOLD_RAMP_PX = 0.01, 0.1
"""Changes of the split between object and probe that are told of: relative, and in pixels of the pattern."""


def changes(found: Refinement, data: RawData, options: IterationOptions) -> list[str]:
    """What was changed that the patterns do not tell, and how far positions went."""
    notes, gauge = [], found.gauge
    ramp = [slope * data.N / (2 * np.pi) for slope in gauge.ramp]
    if abs(gauge.factor - 1) > TOLD_FACTOR or max(map(abs, ramp)) > TOLD_RAMP_PX or any(gauge.shift):
        notes.append(
            f"Split between object and probe held: the object times {gauge.factor:.3f}, moved by {gauge.shift} pixels, "
            f"with a phase slope of ({ramp[0]:+.2f}, {ramp[1]:+.2f}) periods more per {data.N} pixels (x, y)"
        )
    if gauge.grid:
        notes.append(
            f"A grid with the period of the raster's steps, {100 * gauge.grid:.2g} % of the object, went to the probe: "
            "the patterns of a regular raster cannot tell which of them has it (steps that vary by a tenth can)"
        )
    if (found.flux != 1).any():
        last = beam_change(found.flux)
        trend = "" if last == 1 else f"fell to {last:.2g} of it in the course of the scan, and "
        notes.append(
            f"The flux of the beam {trend}lies between {found.flux.min():.2g} and {found.flux.max():.2g} of its mean "
            "(--no-flux: where that is the sample)"
        )
    varied = found.variation if isinstance(found.variation, ProbeVariation) else None
    if varied is not None or options.variable_probe:
        notes.append(variation_note(varied))
    notes.extend(background_notes(found.background, data))
    if found.blur is not None or options.detector_blur == "find":
        notes.append(blur_note(found.blur, options))
    if found.slices is not None:
        notes.append(slices_note(found, data))
    if options.refine_positions:
        notes.append(_of_positions(found, data, options))
    return notes


def _of_positions(found: Refinement, data: RawData, options: IterationOptions) -> str:
    """What the stage did, and how far positions went from where it has them."""
    home = found.frame.local(data.xcoords, data.ycoords)
    shift = np.stack([found.xcoords - home[0], found.ycoords - home[1]], axis=1)
    stage = stage_of(*home, shift)
    alike = stage.displacement(*home)
    farthest = float(np.linalg.norm(alike, axis=1).max())
    told = f"The stage: {stage}, which moved positions by {farthest:.2g} pixels at most"
    if options.refine_positions == "stage":
        return told
    moved, bound = np.abs(shift - alike).max(axis=1), options.position_bound_px
    return (
        f"{told}; each by itself by {np.sqrt(np.mean(moved**2)):.2g} pixels rms, {moved.max():.2g} at most; "
        f"{np.count_nonzero(moved > 0.99 * bound)} are at their bound of {bound:g}"
    )
