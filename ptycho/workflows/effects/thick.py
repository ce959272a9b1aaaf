"""Thick samples: how far apart the slices stand that somebody asked for, and what was found of them, in words."""

from __future__ import annotations

import math
from typing import Any

from ptycho.config.options import IterationOptions
from ptycho.core.physics.multislice import gap_distance_m, gap_of
from ptycho.core.refinement.refinement import Refinement, Start
from ptycho.core.units import wavelength_m
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData

__all__ = ["cuts", "slices_note", "slicing"]

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
    facts = data.known_metadata
    for name, flag in _LENGTHS.items():
        if not facts.get(name):
            what = "wavelength" if name == "energy_eV" else "pixel of the object"
            raise ConfigError(f"slices={options.slices}: expected the {what} of the scan, found none; give {flag}")
    wavelength = wavelength_m(float(facts["energy_eV"]), facts.get("particle") or "photon")
    pixel = float(facts["object_pixel_m"])
    return {
        "slices": options.slices,
        "gap": gap_of(options.slices, options.thickness, wavelength, pixel, data.N),
    }


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
