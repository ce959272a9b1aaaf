"""A reconstruction as the HDF5 product that ptychodus reads."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

from ptycho.core.formats import ptychodus_product
from ptycho.core.formats.record import ScanRecord
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.units import Particle, wavelength_m
from ptycho.errors import DataError

__all__ = ["PRODUCT_KEYS", "write_ptychodus_product"]


PRODUCT_KEYS = (
    *("probe_position_indexes", "probe_position_x_m", "probe_position_y_m", "probe", "object"),
    *("object_layer_spacing_m", "loss_epochs", "loss_values", "coverage", "spread"),
    *("uncertainty_amplitude", "uncertainty_phase", "uncertainty_holds"),
    *("uncertainty_wide_amplitude", "uncertainty_wide_phase", "trust_ratio"),
    *("slices", "slice_distance_m", "other_probes", "scan_of_pattern", "metadata", "provenance"),
)
"""Data sets of `reconstruction.h5`."""


def write_ptychodus_product(
    reconstruction: Reconstruction,
    path: Path,
    pixel_size_m: float | None = None,
    photon_energy_ev: float | None = None,
    detector_distance_m: float | None = None,
    name: str | None = None,
) -> Path:
    """Write the HDF5 product that ptychodus 1.2 to 1.7 reads, and return its path.

    Positions become metres by `x_m = (x + frame.x0) p`, p the pixel size, and the object's centre lies at
    `center_x_m = (frame.x0 + W/2) p`, rows likewise: `(x_m - center_x_m) / p + W/2 = x`. Nothing is lost by
    the other convention of ptychodus: from 1.6 on it counts the centre of an object as index (W-1)/2 and of a
    patch as (N-1)/2, so it reads x - 1/2, and the first column of the patch is x - 1/2 - (N-1)/2 = x - N/2,
    as here. Up to 1.5 it counts W/2 and reads x itself. Positions are numbered 0 .. n-1 in the order of the
    scan.

    Args:
        reconstruction: what to write. `coverage`, and where there are such `spread` and `trust_ratio`, go along as
            data sets of their own, which ptychodus passes over, as do `slices` of a thick object with
            `slice_distance_m`, `other_probes` and `scan_of_pattern` of several scans, and `metadata` and `provenance`
            as JSON text; the trust stands in one line in
            `comments`.
        path: file to write, atomically.
        pixel_size_m, photon_energy_ev, detector_distance_m: size of an object pixel (m), photon energy (eV),
            object to detector (m); None takes what `reconstruction.metadata` says. The format requires all three: one
            that is unknown is written as 1.0 and `comments` says so.
        name: name of the product; None takes that of the metadata, else 'ptychopinn'.

    Raises:
        DataError: a given size, energy or distance is not a positive number.
        OutputError: the file cannot be written.
    """
    r = reconstruction
    known = r.metadata
    given = {
        "pixel size (m)": known.get("object_pixel_m") if pixel_size_m is None else pixel_size_m,
        "photon energy (eV)": known.get("energy_eV") if photon_energy_ev is None else photon_energy_ev,
        "detector distance (m)": known.get("distance_m") if detector_distance_m is None else detector_distance_m,
    }
    for what, value in given.items():
        if value is not None and not (np.isfinite(value) and value > 0):
            raise DataError(f"{what}: expected a positive number or None, found {value}")
    pixel, energy, distance = (1.0 if value is None else float(value) for value in given.values())
    near = NearField.of(known)
    if near is not None:  # a parallel beam's, on pixels of this size
        particle: Particle = "electron" if known.get("particle") == "electron" else "photon"
        distance = pixel**2 / (wavelength_m(energy, particle) * abs(near.fresnel_number))
    record = ScanRecord(
        xcoords=r.xcoords,
        ycoords=r.ycoords,
        position_unit="px",
        probe=r.probe,
        object=r.object,
        origin_px=(r.frame.x0, r.frame.y0),
        energy_eV=energy,
        distance_m=distance,
        object_pixel_m=pixel,
        losses=r.error_history,
        near_field=near is not None,
        metadata={
            **({} if near is None else near.noted()),
            "name": name or known.get("name", "ptychopinn"),
            "comments": _comments(r, [what for what, value in given.items() if value is None]),
        },
    )
    attributes, arrays = ptychodus_product.product_content(record, ptychodus_product.TITLE)
    arrays["coverage"] = r.coverage
    if r.spread is not None:
        arrays["spread"] = r.spread
    if r.trust is not None:
        arrays["trust_ratio"] = r.trust.ratio
    if r.uncertainty is not None:
        named = ("amplitude", "phase", "wide_amplitude", "wide_phase", "holds")
        arrays |= {f"uncertainty_{name}": np.asarray(getattr(r.uncertainty, name)) for name in named}
    if r.slices is not None:
        arrays["slices"] = r.slices
    if isinstance(r.variation, ScanProbes):
        arrays |= {"other_probes": r.variation.others, "scan_of_pattern": r.variation.scan}
    if r.slice_distance_m is not None:
        arrays["slice_distance_m"] = np.array(r.slice_distance_m)
    for key, told in (("metadata", r.metadata), ("provenance", r.provenance)):
        arrays[key] = np.array(json.dumps(told), h5py.string_dtype())
    ptychodus_product.write_content(Path(path), attributes, arrays)
    return Path(path)


def _comments(r: Reconstruction, unknown: list[str]) -> str:
    """What the product says about itself in words."""
    comments = f"{r.method} by the {r.backend} backend, sub-pixel shifts {r.subpixel}."
    if unknown:
        comments += f" Unknown and set to 1: {', '.join(unknown)}."
    if r.trust is not None:
        comments += f" Trust: {r.trust.verdict}."
    return comments
