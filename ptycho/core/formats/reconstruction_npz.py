"""The result of a reconstruction as an NPZ of plain arrays: written, read back, and read as a scan without patterns."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ptycho.core.files.atomic import atomic_path
from ptycho.core.files.damage import readable
from ptycho.core.files.npz import open_npz, write_arrays
from ptycho.core.formats.record import ScanRecord
from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.physics.variable_probe import ProbeVariation
from ptycho.core.provenance import GEOMETRY
from ptycho.core.quality.foretold import Foretold
from ptycho.core.quality.misfits import Misfits
from ptycho.core.quality.trust import Trust
from ptycho.core.quality.uncertainty import Uncertainty
from ptycho.core.reconstruction import Reconstruction
from ptycho.errors import DataError, MissingFileError

__all__ = ["NPZ_KEYS", "read", "read_npz", "recognise", "write_npz"]


NPZ_KEYS = (
    *("object", "coverage", "probe", "xcoords", "ycoords", "frame", "backend", "method", "subpixel"),
    *("network_object", "error_history", "counts_from", "flux", "fly_path", "background", "blur"),
    *("slices", "gap", "slice_distance_m"),
    *("probe_variation", "probe_coefficients", "other_probes", "scan_of_pattern"),
    *("timings", "synchronised", "agreement", "spread"),
    *(f"uncertainty_{field.name}" for field in fields(Uncertainty)),
    *(f"trust_{field.name}" for field in fields(Misfits)),
    *("trust_dose", "trust_faults", "trust_advice"),
    *(f"trust_foretold_{field.name}" for field in fields(Foretold)),
    *("trust_ratio", "trust_verdict", "metadata", "provenance"),
)
"""Keys of `reconstruction.npz`."""

_NEEDED = (
    *("frame", "agreement", "object", "coverage", "probe", "xcoords", "ycoords", "backend", "method", "subpixel"),
    *("error_history", "timings", "synchronised"),
)


def write_npz(reconstruction: Reconstruction, path: Path) -> Path:
    """Write `reconstruction` as plain arrays and return the path; `read_npz` gives it back exactly.

    The keys are those of `NPZ_KEYS` (specs/data_contracts.md says what they hold): the fields, `frame` as height,
    width, x0, y0, `timings`, `metadata` and `provenance` as JSON text, and `trust` as one entry per field. Those that
    are None are left out.
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
        "metadata": json.dumps(r.metadata),
        "provenance": json.dumps(r.provenance),
    }
    optional = ("network_object", "spread", "flux", "fly_path", "background", "blur", "counts_from", "slices")
    for key in (*optional, "slice_distance_m"):
        array = getattr(r, key)
        if array is not None:
            arrays[key] = array
    if r.gap is not None:
        arrays["gap"] = r.gap.as_array()
    if isinstance(r.variation, ScanProbes):
        arrays |= {"other_probes": r.variation.others, "scan_of_pattern": r.variation.scan}
    if isinstance(r.variation, ProbeVariation):
        arrays |= {"probe_variation": r.variation.modes, "probe_coefficients": r.variation.coefficients}
    if r.trust is not None:
        arrays |= _trust_arrays(r.trust)
    if r.uncertainty is not None:
        known = {**vars(r.uncertainty), "remarks": json.dumps(r.uncertainty.remarks)}
        arrays |= {f"uncertainty_{name}": value for name, value in known.items()}
    with atomic_path(path) as temporary:
        write_arrays(temporary, arrays)
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
    with readable(path, "a reconstruction (.npz)"):
        with open_npz(path) as file:
            stored = dict(file)
        missing = next((key for key in _NEEDED if key not in stored), None)
        if missing is not None:
            raise DataError(f"{path}: expected the key {missing!r} of a reconstruction, found {sorted(stored)}")
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
            method=str(stored["method"]),  # type: ignore[arg-type]  # one of three words, as written
            subpixel=str(stored["subpixel"]),  # type: ignore[arg-type]
            network_object=stored.get("network_object"),
            error_history=tuple(float(value) for value in stored["error_history"]),
            timings=json.loads(str(stored["timings"])),
            synchronised=bool(stored["synchronised"]),
            agreement=(before, after),
            spread=stored.get("spread"),
            trust=_stored_trust(stored),
            metadata=_stored_json(stored, "metadata"),
            provenance=_stored_json(stored, "provenance"),
            flux=stored.get("flux"),
            fly_path=stored.get("fly_path"),
            background=stored.get("background"),
            slices=stored.get("slices"),
            gap=NearField.from_array(stored["gap"]) if "gap" in stored else None,
            variation=_stored_variation(stored),
            blur=float(stored["blur"]) if "blur" in stored else None,
            counts_from=int(stored["counts_from"]) if "counts_from" in stored else None,
            uncertainty=_stored_uncertainty(stored),
        )


def _stored_variation(stored: dict[str, npt.NDArray[Any]]) -> ProbeVariation | ScanProbes | None:
    """How the probe varies, in the arrays of a file; None where it does not."""
    if "other_probes" in stored:
        return ScanProbes(stored["other_probes"], stored["scan_of_pattern"])
    if "probe_variation" not in stored:
        return None
    return ProbeVariation(stored["probe_variation"], stored["probe_coefficients"])


def _trust_arrays(trust: Trust) -> dict[str, npt.ArrayLike]:
    """What is stored of the trust, and what other programs may want of it."""
    told = {} if trust.foretold is None else vars(trust.foretold)
    return {
        **{f"trust_{field.name}": getattr(trust, field.name) for field in fields(Misfits)},
        **{f"trust_foretold_{key}": value for key, value in told.items()},
        "trust_dose": trust.dose,
        "trust_faults": json.dumps(trust.faults),
        "trust_advice": trust.advice,
        "trust_ratio": trust.ratio,
        "trust_verdict": trust.verdict,
    }


def _stored_trust(stored: dict[str, npt.NDArray[Any]]) -> Trust | None:
    """The trust in the arrays of a file; what can be computed from the others is not read.

    Files of before it was measured what is foretold have nothing of that.
    """
    if "trust_dose" not in stored:
        return None
    told = None
    if "trust_foretold_patterns" in stored:
        told = Foretold(**{field.name: stored[f"trust_foretold_{field.name}"] for field in fields(Foretold)})
    return Trust(
        **{field.name: stored[f"trust_{field.name}"] for field in fields(Misfits)},
        dose=str(stored["trust_dose"]),  # type: ignore[arg-type]  # one of three words, as written
        foretold=told,
        faults=tuple(str(one) for one in json.loads(str(stored.get("trust_faults", "[]")))),
        advice=str(stored.get("trust_advice", "")),
    )


def _stored_uncertainty(stored: dict[str, npt.NDArray[Any]]) -> Uncertainty | None:
    """The error bars in the arrays of a file; None where there are none."""
    if "uncertainty_amplitude" not in stored:
        return None
    return Uncertainty(
        amplitude=stored["uncertainty_amplitude"],
        phase=stored["uncertainty_phase"],
        draws=int(stored["uncertainty_draws"]),
        iterations=int(stored["uncertainty_iterations"]),
        unfinished=float(stored["uncertainty_unfinished"]),
        misfit=float(stored["uncertainty_misfit"]),
        holds=bool(stored["uncertainty_holds"]),
        remarks=tuple(str(one) for one in json.loads(str(stored["uncertainty_remarks"]))),
        **_stored_law(stored),
    )


def _stored_law(stored: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """What bars are of, and how many of them hold 95 %; files of before there were other bars have nothing of that."""
    if "uncertainty_of" not in stored:
        return {}
    wide = {name: float(stored[f"uncertainty_{name}"]) for name in ("wide_amplitude", "wide_phase")}
    return {**wide, "of": str(stored["uncertainty_of"])}


def _stored_json(stored: dict[str, npt.NDArray[Any]], key: str) -> dict[str, Any]:
    """The object in a JSON text; empty in files of before there was one."""
    found = json.loads(str(stored[key])) if key in stored else {}
    if not isinstance(found, dict):
        raise ValueError(f"{key}: {type(found).__name__} in the place of a JSON object")
    return found


def recognise(file: Any) -> bool:
    """Whether an open archive is a reconstruction, by its members."""
    return all(key in file for key in ("object", "probe", "frame", "method"))


def read(path: Path) -> ScanRecord:
    """Read object, probe, positions, error history, the geometry of the scan, and the provenance."""
    found = read_npz(path)
    known = dict(found.metadata)
    geometry = {key: known.pop(key) for key in GEOMETRY if key in known}
    return ScanRecord(
        xcoords=found.xcoords,
        ycoords=found.ycoords,
        probe=found.probe,
        object=found.object,
        origin_px=(float(found.frame.x0), float(found.frame.y0)),
        losses=found.error_history,
        metadata={
            **known,
            "comments": f"{found.method} by the {found.backend} backend, sub-pixel shifts {found.subpixel}.",
            **({"provenance": found.provenance} if found.provenance else {}),
        },
        **geometry,
    )
