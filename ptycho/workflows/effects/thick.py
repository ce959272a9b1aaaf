"""Thick samples: how far apart the slices stand that somebody asked for, and what was found of them, in words."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np

from ptycho.config.options import IterationOptions
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.multislice import gap_distance_m, gap_of
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.probes import with_modes
from ptycho.core.refinement.refinement import Refinement, Start
from ptycho.core.units import wavelength_m
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.scan_part import telling_part
from ptycho.workflows.solver import Refine

__all__ = ["cuts", "slices_note", "slicing", "thickness_advice"]

logger = logging.getLogger(__name__)

TRIED = (1.0, 0.3)
"""Fresnel numbers of a pixel between two slices that a trial begins at; the distance moves from there."""
ITERATIONS, FEWEST = 30, 12
"""Of a trial, and the patterns without which there is none."""
BETTER = 1.2
"""Ratio of unseen errors from which on two slices are believed: a stage, a probe or a detector that is not as it should
be gains nothing by them."""
_LENGTHS = {"energy_eV": "--energy-keV", "object_pixel_m": "--object-pixel-nm"}


def slicing(data: RawData, options: IterationOptions, start: Start | None = None) -> dict[str, Any]:
    """`slices` and `gap` of every refinement of a scan; those of a start need not be said again.

    Raises:
        ConfigError: slices without a thickness, without the wavelength and the pixel that tell how waves go from one to
            the next, in near field; or a thickness to refine without slices.
    """
    known = getattr(start, "gap", None)
    if options.slices == 1:
        if options.refine_thickness and known is None:
            raise ConfigError(
                "refine_thickness: expected a thick object, found one slice; add --slices and --thickness"
            )
        return {}
    if data.near_field is not None:
        raise ConfigError(
            f"slices={options.slices}: expected a far field, found a scan of the near field; leave it out"
        )
    if options.thickness is None:
        if known is not None:
            return {"slices": options.slices, "gap": known}
        raise ConfigError(
            f"slices={options.slices}: expected the thickness of the sample, found none; give --thickness"
        )
    for name, flag in _LENGTHS.items():
        if not data.known_metadata.get(name):
            what = "wavelength" if name == "energy_eV" else "pixel of the object"
            raise ConfigError(f"slices={options.slices}: expected the {what} of the scan, found none; give {flag}")
    return {"slices": options.slices, "gap": gap_of(options.slices, options.thickness, *_lengths(data), data.N)}


def _lengths(data: RawData) -> tuple[float, float]:
    """Wavelength and side of an object pixel, metres."""
    facts = data.known_metadata
    return wavelength_m(float(facts["energy_eV"]), facts.get("particle") or "photon"), float(facts["object_pixel_m"])


def thickness_advice(data: RawData, refine: Refine, modes: int) -> str:
    """A clause with the flags of a thick sample, where unseen patterns are foretold better by two slices.

    Args:
        data: the scan, with a probe.
        refine: of a backend; the object is of one slice where it is told nothing.
        modes: of the result, which may have taken up what a thick sample does.
    """
    part = telling_part(data)
    if data.near_field is not None or data.scan_probes is not None or len(part.scan) < FEWEST:
        return ""
    probe = as_modes(np.asarray(data.probeGuess))

    def found(count: int, **cut: Any) -> Refinement:
        begun = {"probe": with_modes(probe, count), "refine_probe": True, "likelihood": "amplitude"}
        return refine(part.scan, None, ITERATIONS, **begun, holdout=part.unseen, patience=ITERATIONS + 1, **cut)

    thin = min(min(found(count).unseen_history) for count in {len(probe), modes})
    cut = {number: found(len(probe), slices=2, gap=NearField(number), refine_thickness=True) for number in TRIED}
    begun = min(cut, key=lambda number: min(cut[number].unseen_history))
    gain = thin / max(min(cut[begun].unseen_history), 1e-30)
    logger.debug("two slices: unseen error %.3g times less, %s", gain, cut[begun].gap)
    if gain < BETTER:
        return ""
    missing = [f"{flag} X" for name, flag in _LENGTHS.items() if not data.known_metadata.get(name)]
    if missing:
        given = f"T {' '.join(missing)}, T = {2 / begun:.2g} pixel^2 / wavelength"
    else:
        wavelength, pixel = _lengths(data)
        given = f"{2 * pixel**2 / (wavelength * begun):.2g}"
    flags = f"--slices 2 --thickness-refine --thickness {given}"  # from where it was tried, which is where it is found
    return f"the sample is thick, two slices foretell unseen patterns {gain:.2g} times better: {flags}"


def cuts(data: RawData, options: IterationOptions) -> list[dict[str, Any]]:
    """`slices` and `gap` of as few slices as patterns sample and of as many as are asked for, of one thickness."""
    asked = slicing(data, options)
    gap, count = asked["gap"], asked["slices"]
    fewest = max(2, math.ceil(count / (abs(gap.fresnel_number) * data.N)))
    if fewest >= count:
        return [asked]
    return [{"slices": fewest, "gap": gap.stretched(count / fewest)}, asked]


def slices_note(found: Refinement, data: RawData) -> str:
    """One sentence on the slices of a thick object."""
    assert found.slices is not None and found.gap is not None
    count, apart = len(found.slices), gap_distance_m(found.gap, data.known_metadata.get("object_pixel_m"))
    if apart is None:
        return f"The object is thick: {count} slices, a Fresnel number of {found.gap.fresnel_number:.3g} apart"
    return f"The object is thick: {count} slices {apart:.3g} m apart, {count * apart:.3g} m in the whole"
