"""What a reconstruction is, and the files it is written to: an NPZ of plain arrays, a ptychodus product."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ptycho.core.atomic import atomic_path
from ptycho.core.formats import ptychodus_product
from ptycho.core.formats.record import ScanRecord
from ptycho.core.geometry import ObjectFrame
from ptycho.core.quality.trust import Trust
from ptycho.errors import DataError, MissingFileError

__all__ = ["NPZ_KEYS", "PRODUCT_KEYS", "Reconstruction", "read_npz", "write_npz", "write_ptychodus_product"]

NPZ_KEYS = (
    *("object", "coverage", "probe", "xcoords", "ycoords", "frame", "backend", "method", "subpixel"),
    *("network_object", "error_history", "timings", "synchronised", "agreement", "spread"),
    *(f"trust_{field.name}" for field in fields(Trust)),
    *("trust_ratio", "trust_verdict"),
)
"""Keys of `reconstruction.npz`."""
PRODUCT_KEYS = (
    *("probe_position_indexes", "probe_position_x_m", "probe_position_y_m", "probe", "object"),
    *("object_layer_spacing_m", "loss_epochs", "loss_values", "coverage", "spread", "trust_ratio"),
)
"""Data sets of `reconstruction.h5`."""


@dataclass(frozen=True)
class Reconstruction:
    """An object, how it was found, and where it lies.

    The object times the probe as given in the scan file predicts the amplitudes as given in that file.
    Positions are in the frame of `object`: pixel (0, 0) is its first element, the patch of position (x, y)
    begins at row y - N/2 and column x - N/2. Adding `frame.x0` and `frame.y0` gives the scan's own pixel
    coordinates.

    Raises:
        DataError: the shapes of the parts do not belong together.
    """

    object: npt.NDArray[np.complex64]
    """(H, W) transmission; 1+0j where no patch reaches the pixel."""
    coverage: npt.NDArray[np.float32]
    """(H, W) sum of the stitching weights, 0 where no patch reaches the pixel."""
    probe: npt.NDArray[np.complex64]
    """(M, N, N) incoherent modes as used, refined when the result was refined; centred at index N/2."""
    xcoords: npt.NDArray[np.float64]
    """(n,) column of each patch centre, pixels."""
    ycoords: npt.NDArray[np.float64]
    """(n,) row of each patch centre, pixels."""
    frame: ObjectFrame
    """Where `object` lies on the scan's own pixel grid."""
    backend: str
    method: Literal["network", "network+refined"]
    subpixel: Literal["bilinear", "fourier"]
    network_object: npt.NDArray[np.complex64] | None
    """(H, W) the object before refinement; None when it was not refined."""
    error_history: tuple[float, ...]
    """Relative Fourier error at the start and after each refinement iteration; empty when not refined."""
    timings: dict[str, float]
    """Seconds by stage."""
    synchronised: bool
    """Whether the synchronised phases were kept."""
    agreement: tuple[float, float]
    """Agreement of overlapping patches before and after synchronisation."""
    spread: npt.NDArray[np.float32] | None = None
    """(H, W) standard deviation of the network's overlapping patches, in the unit of `object`; NaN where fewer than
    two overlap; None where it was not measured."""
    trust: Trust | None = None
    """How well `object` and `probe` explain every pattern; None where it was not measured."""

    def __post_init__(self) -> None:
        shape = (self.frame.height, self.frame.width)
        for name in ("object", "coverage", "network_object", "spread"):
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise DataError(f"{name}: expected shape {shape} as in the frame, found {array.shape}")
        if self.probe.ndim != 3 or self.probe.shape[1] != self.probe.shape[2]:
            raise DataError(f"probe: expected modes first, shape (M, N, N), found {self.probe.shape}")
        if self.xcoords.ndim != 1 or self.xcoords.shape != self.ycoords.shape:
            found = f"{self.xcoords.shape} and {self.ycoords.shape}"
            raise DataError(f"xcoords and ycoords: expected one shape (n,), found {found}")
        if self.trust is not None and self.trust.deviance.shape != self.xcoords.shape:
            found = f"{len(self.trust.deviance)} for {self.xcoords.size} positions"
            raise DataError(f"trust: expected one number per position, found {found}; measure it on this scan")


def write_npz(reconstruction: Reconstruction, path: Path) -> Path:
    """Write `reconstruction` as plain arrays and return the path; `read_npz` gives it back exactly.

    The keys are those of `NPZ_KEYS` (specs/data_contracts.md says what they hold): the fields, `frame` as height,
    width, x0, y0, `timings` as JSON text, and `trust` as one array per field. Those that are None are left out.
    Nothing is pickled.

    Raises:
        OutputError: the file cannot be written.
    """
    r = reconstruction
    arrays: dict[str, npt.ArrayLike] = {
        "object": r.object,
        "coverage": r.coverage,
        "probe": r.probe,
        "xcoords": r.xcoords,
        "ycoords": r.ycoords,
        "frame": np.array([r.frame.height, r.frame.width, r.frame.x0, r.frame.y0], np.int64),
        "backend": r.backend,
        "method": r.method,
        "subpixel": r.subpixel,
        "error_history": np.array(r.error_history, np.float64),
        "timings": json.dumps(r.timings),
        "synchronised": r.synchronised,
        "agreement": np.array(r.agreement, np.float64),
    }
    for key, array in (("network_object", r.network_object), ("spread", r.spread)):
        if array is not None:
            arrays[key] = array
    if r.trust is not None:
        arrays |= {f"trust_{key}": value for key, value in vars(r.trust).items()}
        arrays |= {"trust_ratio": r.trust.ratio, "trust_verdict": r.trust.verdict}
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)
    return Path(path)


def read_npz(path: Path) -> Reconstruction:
    """Read what `write_npz` wrote.

    Raises:
        MissingFileError: `path` is not there.
        DataError: `path` is no NPZ, is damaged, or lacks a key; the line names it.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: expected a reconstruction (.npz), found no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {key: file[key] for key in file.files}
        height, width, x0, y0 = (int(value) for value in stored["frame"])
        before, after = (float(value) for value in stored["agreement"])
        return Reconstruction(
            object=stored["object"],
            coverage=stored["coverage"],
            probe=stored["probe"],
            xcoords=stored["xcoords"],
            ycoords=stored["ycoords"],
            frame=ObjectFrame(height=height, width=width, x0=x0, y0=y0),
            backend=str(stored["backend"]),
            method=str(stored["method"]),  # type: ignore[arg-type]  # one of two words, as written
            subpixel=str(stored["subpixel"]),  # type: ignore[arg-type]
            network_object=stored.get("network_object"),
            error_history=tuple(float(value) for value in stored["error_history"]),
            timings=json.loads(str(stored["timings"])),
            synchronised=bool(stored["synchronised"]),
            agreement=(before, after),
            spread=stored.get("spread"),
            trust=_stored_trust(stored),
        )
    except KeyError as error:
        raise DataError(f"{path}: expected the key {error} of a reconstruction, found {sorted(stored)}") from error
    except (zipfile.BadZipFile, EOFError, AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path}: expected a reconstruction (.npz), found: {error}") from error


def _stored_trust(stored: dict[str, npt.NDArray[Any]]) -> Trust | None:
    """The trust in the arrays of a file; what can be computed from the others is not read."""
    if "trust_dose" not in stored:
        return None
    parts = {field.name: stored[f"trust_{field.name}"] for field in fields(Trust)}
    return Trust(**{**parts, "dose": str(parts["dose"])})  # type: ignore[arg-type]  # one of three words, as written


def write_ptychodus_product(
    reconstruction: Reconstruction,
    path: Path,
    pixel_size_m: float | None = None,
    photon_energy_ev: float | None = None,
    detector_distance_m: float | None = None,
    name: str = "ptychopinn",
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
            data sets of their own, which ptychodus passes over, and the verdict on the trust in `comments`.
        path: file to write, atomically.
        pixel_size_m, photon_energy_ev, detector_distance_m: size of an object pixel (m), photon energy (eV),
            object to detector (m). The format requires all three: one that is unknown (None) is written as
            1.0 and `comments` says so.
        name: name of the product.

    Raises:
        DataError: a given size, energy or distance is not a positive number.
        OutputError: the file cannot be written.
    """
    r = reconstruction
    given = {
        "pixel size (m)": pixel_size_m,
        "photon energy (eV)": photon_energy_ev,
        "detector distance (m)": detector_distance_m,
    }
    for what, value in given.items():
        if value is not None and not (np.isfinite(value) and value > 0):
            raise DataError(f"{what}: expected a positive number or None, found {value}")
    pixel, energy, distance = (1.0 if value is None else float(value) for value in given.values())
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
        metadata={"name": name, "comments": _comments(r, [what for what, value in given.items() if value is None])},
    )
    attributes, arrays = ptychodus_product.product_content(record, ptychodus_product.TITLE)
    arrays["coverage"] = r.coverage
    if r.spread is not None:
        arrays["spread"] = r.spread
    if r.trust is not None:
        arrays["trust_ratio"] = r.trust.ratio
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
