"""Flags that put a scan together, the same for every command that reads one."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptycho.core.formats.assembled import ScanParts
    from ptycho.core.formats.opening import MemoryMap
    from ptycho.core.formats.record import ScanRecord
    from ptycho.core.scan.stream import ScanStream
    from ptycho.raw_data import RawData

__all__ = [
    "Pair",
    "add_live_source",
    "add_scan",
    "add_scan_flags",
    "add_scans",
    "data_from",
    "name_of",
    "parts_of",
    "positive",
    "recorded",
    "said",
    "scan_file",
    "scan_of",
    "stream_from",
    "takes_parts",
]

_SCALES = {
    "energy_keV": ("energy_eV", 1e3, "energy of the photons, or of the electrons with --electrons, keV"),
    "distance_m": ("distance_m", 1.0, "sample to detector, m"),
    "detector_pixel_um": ("detector_pixel_m", 1e-6, "side of a detector pixel, um"),
    "object_pixel_nm": ("object_pixel_m", 1e-9, "side of an object pixel, nm; else from the other three"),
}
"""Flags of the geometry: field of the record, factor, help."""

FIND = "find"
"""What stands for a magnification that the patterns are to tell."""
_PARTS = (
    *("patterns", "scan_positions", "mask", "probe_file", "unit", "flip", "rotation", "electrons", "near_field"),
    *_SCALES,
)


class Pair(argparse.Action):
    """Two numbers, LOW HIGH or LOW,HIGH, by the names that the metavar gives them."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, metavar: tuple[str, str] = ("LOW", "HIGH"), **options: Any
    ) -> None:
        self.names = metavar
        super().__init__(option_strings, dest, nargs="+", metavar=metavar, **options)

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        """Keep them as a pair."""
        words = [word for value in values for word in value.split(",")]
        try:
            low, high = map(float, words)
        except ValueError:
            found = " ".join(values)
            names = f"{' '.join(self.names)} or {','.join(self.names)}"
            parser.error(f"argument {option}: expected two numbers, {names}, found {found}")
        setattr(namespace, self.dest, (low, high))


def scan_file(text: str) -> Path:
    """The name of a scan file to write, which is an archive of NumPy arrays; for `argparse`."""
    path = Path(text)
    if path.suffix and path.suffix.lower() != ".npz":
        raise argparse.ArgumentTypeError(
            f"expected a name that ends in .npz, found {text}; ptycho convert writes other formats"
        )
    return path


def add_scan(parser: argparse.ArgumentParser) -> None:
    """Add the scan, a file or what the flags name."""
    text = "scan file, of any format that ptycho convert reads; none with --patterns"
    parser.add_argument("scan", type=Path, nargs="?", default=None, metavar="SCAN", help=text)
    add_scan_flags(parser)


def add_scans(parser: argparse.ArgumentParser) -> None:
    """Add a scan, and further ones of the same object."""
    text = "scan file, of any format that ptycho convert reads; none with --patterns"
    parser.add_argument("scan", type=Path, nargs="?", default=None, metavar="SCAN", help=text)
    more = "further scans of the same object, in one frame of positions: one object from all, each with its own probe"
    parser.add_argument("others", type=Path, nargs="*", default=[], metavar="SCAN", help=more)
    add_scan_flags(parser)


def add_live_source(parser: argparse.ArgumentParser) -> None:
    """Add where a scan comes that is still being measured, and the flags for its set-up."""
    text = "folder that fills with frames, or FILE[:PATH], an HDF5 file that is being written (SWMR)"
    parser.add_argument("source", nargs="?", default=None, metavar="SOURCE", help=text)
    _add_set_up(parser.add_argument_group("The scan, where its files do not say it"), "--positions-from")
    parser.set_defaults(patterns=None, scan_positions=None)


def add_scan_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for parts of a scan, its set-up and what its files do not say."""
    group = parser.add_argument_group("The scan, where its files do not say it")
    group.add_argument(
        "--patterns",
        default=None,
        metavar="FILE[:PATH]",
        help="diffraction patterns: HDF5 (a master file too), NPY, NPZ, MATLAB, EDF, CBF, TIFF, MIB, ...; PATH is the "
        "data set or key; or a folder of frames, or a quoted pattern as 'frames_*.tif'",
    )
    group.add_argument(
        "--scan-positions",
        default=None,
        metavar="FILE[:X,Y]",
        help="positions: columns of a text, by name or number from 0 (X,Y,FRAME joins by number of the frame); NPY, "
        "NPZ, HDF5 and MATLAB likewise",
    )
    _add_set_up(group, "--scan-positions")


def _add_set_up(group: Any, positions: str) -> None:
    """Add the flags for the set-up; `positions` is the flag that names the positions."""
    group.add_argument("--unit", default=None, choices=("px", "m", "mm", "um", "nm"), help=f"unit of {positions}")
    for name, (_, _, text) in _SCALES.items():
        group.add_argument(
            f"--{name.replace('_', '-')}", type=positive, default=None, metavar="X", dest=name, help=text
        )
    group.add_argument(
        "--electrons", action="store_true", default=False, help="the beam is of electrons, not of photons"
    )
    group.add_argument(
        "--near-field",
        nargs="?",
        const=FIND,
        type=_magnification,
        default=None,
        metavar="M",
        help="the patterns are of the near field, shadows magnified M times, 1 in a parallel beam; without a "
        "number M is found in the patterns (name the scan before it)",
    )
    group.add_argument(
        "--mask",
        default=None,
        metavar="FILE[:PATH]",
        help="mask of the detector; of two values that which most pixels have is valid, else 0 is",
    )
    group.add_argument(
        "--probe-file",
        default=None,
        metavar="FILE[:PATH]",
        help="probe, complex; of another size it is brought to that of the patterns",
    )
    group.add_argument(
        "--flip", default=None, choices=("x", "y", "xy"), help="turn the sign of positions, for other conventions"
    )
    group.add_argument(
        "--rotation", type=_angle, default=0.0, metavar="DEG", help="turn positions, after --flip, from x towards y"
    )
    group.add_argument(
        "--units", default=None, choices=("amplitude", "counts"), help="what the diffraction patterns hold"
    )


def said(options: argparse.Namespace) -> list[str]:
    """The flags of `add_scan_flags` that were given, as they would be typed."""
    flags: list[str] = []
    for name in (*_PARTS, "units"):
        value, flag = getattr(options, name), f"--{name.replace('_', '-')}"
        if value is True or value == FIND:
            flags.append(flag)
        elif value:
            flags += [flag, str(value)]
    return flags


def takes_parts(options: argparse.Namespace) -> bool:
    """Whether a flag asks for more than the file as it is; `--units` alone does not."""
    return any(getattr(options, name) for name in _PARTS)


def parts_of(options: argparse.Namespace, files: Sequence[Path] = ()) -> ScanParts:
    """What the files and flags say."""
    from ptycho.core.formats.assembled import ScanParts

    geometry = {
        field: factor * getattr(options, name)
        for name, (field, factor, _) in _SCALES.items()
        if getattr(options, name) is not None
    }
    return ScanParts(
        files=tuple(files),
        patterns=options.patterns,
        positions=options.scan_positions,
        position_unit=options.unit,
        mask=options.mask,
        probe=options.probe_file,
        magnification=None if options.near_field == FIND else options.near_field,
        particle="electron" if options.electrons else None,
        units=options.units,
        flip=options.flip,
        rotation_deg=options.rotation,
        **geometry,
    )


def scan_of(options: argparse.Namespace, files: Sequence[Path] = (), fitting: bool = True) -> ScanRecord:
    """The scan of files and flags; `fitting` as of `ptycho.core.formats.assembled`.

    Raises:
        ConfigError: neither file nor patterns, or a flag without what it belongs to.
        MissingFileError, DataError: one line that names the file or the flag.
    """
    from ptycho.core.formats.assembled import assembled
    from ptycho.errors import ConfigError

    if options.unit and not options.scan_positions:
        raise ConfigError("--unit: expected --scan-positions, of which it is the unit, found none; name the table")
    record = assembled(parts_of(options, files), fitting)
    if options.near_field == FIND:
        from ptycho.workflows.effects.near_field import with_magnification

        return with_magnification(record, name_of(options, files[0] if files else None))
    return record


def stream_from(options: argparse.Namespace, path: Path | None, fitting: bool = True) -> ScanStream:
    """The scan of a file, as it is or with what the flags say, its frames read when they are asked for.

    Unless `fitting`, there may be more patterns than positions, or the reverse.

    Raises:
        ConfigError, MissingFileError, DataError: as `scan_of`, and where it has no patterns or positions.
    """
    from ptycho.core.formats.opening import open_record, open_scan

    if path is not None and not takes_parts(options):
        return open_scan(path, options.units, fitting)
    record = scan_of(options, () if path is None else (path,), fitting)
    return open_record(record, name_of(options, path), fitting=fitting)


def data_from(
    options: argparse.Namespace, path: Path | None, memory_map: MemoryMap = "auto", crop: int | None = None
) -> RawData:
    """The scan of a file, as it is or with what the flags say, checked and ready to be reconstructed.

    `memory_map` and `crop` are as of `RawData.from_file`.

    Raises:
        ConfigError, MissingFileError, DataError: as `stream_from`, and values that no measurement gives.
    """
    from ptycho.raw_data import RawData

    if path is not None and not takes_parts(options):
        return RawData.from_file(path, options.units, memory_map, crop)
    record = scan_of(options, () if path is None else (path,))
    return RawData.from_record(record, name_of(options, path), memory_map=memory_map, crop=crop)


def recorded(data: RawData, result: Path | None) -> RawData:
    """The scan with the flux, background and blur of an earlier result of it; as it is where none is named."""
    if result is None:
        return data
    from ptycho.workflows.iteration.start_from import recorded_as

    return recorded_as(data, result)


def name_of(options: argparse.Namespace, path: Path | None) -> str:
    """What stands for the scan in reports: its file, else that of its patterns."""
    return str(path if path is not None else options.patterns or "SCAN")


def positive(text: str) -> float:
    """A number above 0; for `argparse`."""
    return _number(text, lambda value: 0 < value < float("inf"), "a number above 0")


def _magnification(text: str) -> float | str:
    return FIND if text == FIND else positive(text)


def _angle(text: str) -> float:
    return _number(text, lambda value: abs(value) <= 360, "an angle from -360 to 360")


def _number(text: str, fits: Callable[[float], bool], expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not fits(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, found {text}")
    return value
