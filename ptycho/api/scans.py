"""Scans: read one, make one, examine one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.doctor import Diagnosis, examine
from ptycho.core.formats import registry
from ptycho.core.formats.assembled import ScanParts, assembled
from ptycho.core.formats.opening import MemoryMap, open_scan
from ptycho.core.formats.record import completed
from ptycho.core.formats.scan_npz import geometry_of
from ptycho.core.scan.stream import ScanStream
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.effects.near_field import with_magnification
from ptycho.workflows.shared_object import joined

__all__ = ["Scan", "as_scan", "as_scans", "doctor", "export_product", "import_product", "load_scan", "simulate"]

_GEOMETRY = ("energy_eV", "distance_m", "detector_pixel_m", "object_pixel_m")

Scan = RawData | Path | str
"""A scan, or the file that it is read from."""


def load_scan(
    path: Path | str, units: str | None = None, memory_map: MemoryMap = "auto", near_field: float | bool = False
) -> RawData:
    """Read a scan from a file of any format that is known (`ptycho convert --help` lists them).

    Args:
        path: the file, or a scan map.
        units: 'amplitude' or 'counts', what the patterns hold; None believes the file, and looks at the numbers where
            it says nothing.
        memory_map: 'auto' leaves patterns larger than 1 GiB on disk, 'always' all, 'never' none.
        near_field: the patterns are of the near field, shadows of the sample magnified so many times (1 in a parallel
            beam); True has the patterns tell how many, where the file does not. False: as the file says, else far.

    Returns:
        n patterns of N x N pixels with positions (pixels of the object, (n,)) and the probe, (N, N) or (M, N, N).

    Raises:
        MissingFileError, DataError: no such file, or no sound scan in it; one line that names the file.
        ConfigError: another `memory_map`.

    >>> load_scan(example)
    RawData(64 patterns of 64 x 64, uint16 counts, 1 probe mode, object 128 x 128, from minimal_dataset_v1.npz)
    """
    if near_field is False:
        return RawData.from_file(path, units, memory_map)
    magnification = None if near_field is True else float(near_field)
    record = assembled(ScanParts(files=(Path(path),), magnification=magnification))
    if magnification is None:
        record = with_magnification(record, str(path))
    return RawData.from_record(record, path, units, memory_map)


def as_scan(scan: Scan) -> RawData:
    """A scan itself, or the one in a file."""
    return scan if isinstance(scan, RawData) else load_scan(scan)


def as_scans(scan: Scan | Sequence[Scan]) -> RawData:
    """A scan, or several of one object as one (`ptycho.workflows.shared_object.joined`)."""
    if isinstance(scan, RawData | Path | str):
        return as_scan(scan)
    return joined([as_scan(one) for one in scan])


def simulate(
    kind: str = "lines",
    *,
    object: NDArray[np.complexfloating[Any, Any]] | None = None,
    probe: NDArray[np.complexfloating[Any, Any]] | str = "zone_plate",
    photons: float = 1e9,
    seed: int = 0,
    **settings: Any,
) -> RawData:
    """Simulate a scan whose object is known: `objectGuess` of the result is the truth.

    Args:
        kind: what the object shows (`ptycho.core.simulation.objects.OBJECTS`): 'lines', 'dead_leaves', 'siemens_star'
            and others.
        object: (H, W) complex, instead of one of a kind.
        probe: a kind of probe ('zone_plate', 'gaussian', 'disk', 'diffuser'), or (N, N) or (M, N, N) complex, of any
            energy.
        photons: mean number of photons per pattern.
        seed: of everything that is random: the same seed, the same scan.
        settings: further fields of `ScanSettings`: `N=64`, `shape` (H, W) of the object (None: 4 N x 4 N), `path`,
            `step` (pixels, None: N/8), `overlap` or `count`, `jitter`, `modes`, `units`, `noise` and so on.

    Returns:
        Amplitudes (n, N, N) float32, or with `units='counts'` photon counts; zero frequency at [N/2, N/2].

    Raises:
        ConfigError: settings that cannot be; TypeError: one that does not exist.

    >>> simulate(shape=(128, 128), photons=1e6)
    RawData(64 patterns of 64 x 64, float32 amplitude, 1 probe mode, object 128 x 128)
    """
    given = None if isinstance(probe, str) else np.asarray(probe)
    if given is None:
        settings["probe"] = probe
    else:
        settings["N"] = given.shape[-1]
    plan, rng = plan_scan(ScanSettings(kind=kind, photons=photons, seed=seed, **settings), object, given)
    found = expose(plan, rng)
    return RawData(
        found.xcoords,
        found.ycoords,
        found.xcoords_true,
        found.ycoords_true,
        found.diffraction,
        found.probe,
        objectGuess=found.object,
        mask=found.mask,
        metadata={"nphotons": found.recorded, **({} if plan.near_field is None else plan.near_field.noted())},
        units=found.units,
    )


def export_product(scan: Scan, path: Path | str, **geometry: float) -> Path:
    """Write positions, probe and object of a scan as a product that ptychodus reads (HDF5); return its path.

    A `Reconstruction` writes one by `save`, as `reconstruction.h5`.

    Args:
        scan: a scan or its file; without `objectGuess` the object is 1 everywhere.
        path: of the product.
        geometry: `energy_eV`, `distance_m`, `detector_pixel_m`, `object_pixel_m`, of which the scan does not say all:
            the product needs the energy, the distance and the pixel of the object (or of the detector, which gives it).

    Raises:
        ConfigError: a name that is none of these. DataError: what the product needs and nobody says.
        OutputError: a place that cannot be written.
    """
    unknown = [name for name in geometry if name not in _GEOMETRY]
    if unknown:
        raise ConfigError(f"export_product: unknown {unknown[0]!r}: expected {', '.join(_GEOMETRY)}")
    given: dict[str, Any] = dict(geometry)
    record = completed(replace(geometry_of(as_scan(scan).scan_file()), **given))
    registry.write(Path(path), record, "ptychodus-product")
    return Path(path)


def import_product(product: Path | str, patterns: Path | str, units: str | None = None) -> RawData:
    """The scan of a ptychodus product, which has positions, probe and object, and of the file with its patterns.

    Args:
        product: the product, HDF5 or NPZ.
        patterns: any file that has them (`ptycho convert --help` lists the formats); they are paired by number.
        units: 'amplitude' or 'counts', what the patterns hold; None believes the file.

    Raises:
        MissingFileError, DataError: one line that names the file.
    """
    record = assembled(ScanParts(files=(Path(patterns), Path(product))))
    return RawData.from_record(record, Path(product), units)


def doctor(scan: Scan, *, units: str | None = None, reconstructions: bool = True) -> Diagnosis:
    """Examine a scan: what is wrong with it, and the settings to begin with.

    Args:
        scan: a scan or its file; a file may be one that `load_scan` refuses for its values.
        units: 'amplitude' or 'counts', instead of what the file says.
        reconstructions: whether to reconstruct a sample for the axes, the positions and the probe, some seconds.

    Returns:
        One finding per question; `print` gives them as plain sentences.

    Raises:
        MissingFileError, DataError: a file that cannot be read.

    >>> doctor(example, reconstructions=False).verdict
    'nothing wrong found'
    """
    if isinstance(scan, RawData):
        fields = scan.scan_file()
        return examine(ScanStream.of(fields if units is None else replace(fields, units=units)), reconstructions)
    return examine(open_scan(scan, units), reconstructions)
