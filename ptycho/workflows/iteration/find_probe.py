"""A probe for a scan that has none, or another one: from its patterns, from the optics, from a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.formats import registry
from ptycho.core.formats.record import FLAGS, ScanRecord, completed
from ptycho.core.formats.scan_npz import geometry_numbers, geometry_of
from ptycho.core.physics.beamline import Window, is_optics, optics_forms, parse_optics
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.probes import probe_diameter
from ptycho.core.physics.resample import fitted_probe
from ptycho.core.simulation.truth_files import read_probe
from ptycho.core.units import wavelength_m
from ptycho.errors import DataError, MissingFileError
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.probe_search import Tried, searched_probe
from ptycho.workflows.solver import Refine

__all__ = ["FoundProbe", "find_probe"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class FoundProbe:
    """A probe in the unit of a scan's amplitudes."""

    probe: NDArray[np.complex64]
    """(M, N, N), `sum |P|^2` the mean energy of a pattern."""
    sentence: str
    """Where it is from, one line."""
    tried: tuple[Tried, ...] = ()
    """Every start that the patterns were tried with, the finalists first; empty where they were not asked."""


def find_probe(data: RawData, refine: Refine, source: str | Path | None = None) -> FoundProbe:
    """Find a probe for a scan.

    Args:
        data: the scan; a probe that it has is not looked at.
        refine: `refine(scan, start, iterations, *, frame, refine_probe, patience)` of a backend, asked only where the
            probe comes from the patterns.
        source: None: the patterns themselves (`ptycho.workflows.iteration.probe_search`); optics such as
            'gaussian:fwhm=1um' (`ptycho.core.physics.beamline`); or a file that has a probe: a scan, a result, an array
            (NPY), an NPZ or HDF5 file with `probeGuess` or `probe`. A probe of a file is brought to the object pixels
            of the scan where both tell theirs, else to its side.

    Raises:
        ConfigError: optics that cannot be read. MissingFileError: no such file.
        DataError: a file without a probe, optics that do not fit, or a geometry that the scan does not tell.
    """
    if source is None:
        probe, text, tried = searched_probe(data, refine)
        sentence = f"found in the patterns: {text}"
    else:
        probe, sentence = _optical(data, str(source)) if is_optics(str(source)) else _of_file(data, Path(source))
        tried = ()
    modes = as_modes(np.asarray(probe))
    energy = float(np.sum(np.square(np.abs(modes)), dtype=np.float64))
    if not energy > 0:
        raise DataError(f"probe {source}: expected light, found none inside the window; check pixel sizes")
    modes = (modes * np.sqrt(data.mean_energy / energy)).astype(np.complex64)
    wide = f"{probe_diameter(modes):.3g} of {data.N} pixels wide"
    return FoundProbe(modes, f"Probe {sentence}; {wide} (90 % of its energy)", tried)


def _optical(data: RawData, text: str) -> tuple[Array, str]:
    """The beam of optics."""
    optics, record = parse_optics(text), geometry_of(data.scan_file())
    if record.energy_eV is None or record.object_pixel_m is None:
        names = ("energy_eV", "distance_m", "detector_pixel_m")
        missing = [FLAGS[name] for name in names if getattr(record, name) is None]
        what, flags = " and ".join(what for what, _ in missing), " ".join(flag for _, flag in missing)
        raise DataError(f"probe {text!r}: expected {what} in the scan, found none; give {flags}")
    window = Window(data.N, record.object_pixel_m, wavelength_m(record.energy_eV))
    pixel = f"{1e9 * window.pixel_m:.4g} nm"
    return optics.wave(window), f"of the optics: {optics}, on object pixels of {pixel}"


def _of_file(data: RawData, path: Path) -> tuple[Array, str]:
    """The probe of a file, brought to the pixels of the scan."""
    path = registry.in_folder(path)
    if not path.exists():
        fact = "expected a file with a probe, or optics, found neither"
        raise MissingFileError(f"{path}: {fact}; correct the path, or write one of {optics_forms()}")
    theirs = _record_with_probe(path)
    probe, ours = theirs.probe, geometry_of(data.scan_file())
    assert probe is not None
    known = ours.object_pixel_m is not None and theirs.object_pixel_m is not None
    fitted, change = fitted_probe(probe, data.N, theirs.object_pixel_m, ours.object_pixel_m)
    if fitted is probe:
        return probe, f"of {path.name}" + ("" if known else ", taken as it is")
    return fitted, f"of {path.name}, {change}"


def _record_with_probe(path: Path) -> ScanRecord:
    """What a file says of a probe and of its pixels: of a format that is known, else an array by its name."""
    try:
        record = registry.read(path)
    except DataError:
        record = ScanRecord()
    if record.probe is None:
        probe = as_modes(read_probe(path))
        numbers = geometry_numbers(path) if path.suffix == ".npz" else {}
        record = replace(ScanRecord(), probe=probe, object_pixel_m=numbers.get("object_pixel_size_m"))
    return completed(record)
