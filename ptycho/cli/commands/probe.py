"""`ptycho probe`: a probe for a scan, as a file to go on with and as a picture."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho.cli.scan_flags import add_scan, data_from, name_of
from ptycho.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from ptycho.raw_data import RawData
    from ptycho.workflows.iteration.find_probe import FoundProbe

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "find a probe in the patterns of a scan, make one of the optics, or take that of a file"

_SUFFIXES = (".npz", ".npy", ".png")
_SHOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the scan, where the probe is from, and what to write."""
    add_scan(parser)
    parser.add_argument(
        "--probe",
        metavar="SOURCE",
        help="optics in front of the sample: fzp:diameter=160um,outer=70nm,stop=60um,defocus=0.6mm or "
        "aperture:size=5um,distance=1mm or gaussian:fwhm=1um,defocus=0mm or kb:width=,height=,focal=,defocus=; or a "
        "file with a probe (default: the patterns of the scan)",
    )
    parser.add_argument(
        "--output",
        "-o",
        type=Path,
        metavar="FILE",
        help="NPZ (probeGuess and the size of its pixels) or NPY, and beside it a PNG; or PNG alone (default: "
        "SCAN_probe.npz in the folder of work)",
    )
    parser.add_argument("--overwrite", action="store_true", help="write over files that are there")
    parser.add_argument("--backend", choices=("pytorch", "tensorflow"), help="default: the first that is installed")


def run(options: argparse.Namespace) -> int:
    """Find, write, draw and say; 0."""
    from ptycho.api.probes import find_probe

    output = options.output or Path(f"{Path(name_of(options, options.scan)).stem}_probe.npz")
    picture = output.with_suffix(".png")
    _check(output, picture, options.overwrite)
    data = data_from(options, options.scan)
    found = find_probe(data, options.probe, backend=options.backend)
    _write(output, found, data)
    _draw(picture, found, data)
    lines = [found.sentence, *(f"  {tried.name}: {tried.error:.3f}" for tried in found.tried[:_SHOWN])]
    lines += [] if output == picture else [f"probe: {output}"]
    sys.stdout.write("\n".join([*lines, f"picture: {picture}"]) + "\n")
    return 0


def _check(output: Path, picture: Path, overwrite: bool) -> None:
    if output.suffix not in _SUFFIXES:
        raise ConfigError(f"--output {output}: expected a file .npz, .npy or .png, found {output.suffix or 'none'!r}")
    there = next((path for path in (output, picture) if path.exists()), None)
    if there is not None and not overwrite:
        raise OutputError(f"{there}: expected nothing there, found a file; choose another name or say --overwrite")


def _write(output: Path, found: FoundProbe, data: RawData) -> None:
    import numpy as np

    from ptycho.core.files.atomic import atomic_path
    from ptycho.core.files.npz import write_arrays
    from ptycho.core.formats.scan_npz import METADATA_KEYS, geometry_of

    if output.suffix == ".png":
        return
    known = vars(geometry_of(data.scan_file()))
    numbers = {key: known[field] for key, field in METADATA_KEYS.items() if known[field] is not None}
    with atomic_path(output) as temporary, temporary.open("wb") as stream:
        if output.suffix == ".npy":
            np.save(stream, found.probe)
        else:
            write_arrays(stream, {"probeGuess": found.probe, **numbers})


def _draw(picture: Path, found: FoundProbe, data: RawData) -> None:
    """The patterns, the probe, and its far field beside their mean."""
    from dataclasses import replace

    from ptycho.core.formats.scan_npz import record_of
    from ptycho.figures.scan import save_scan_png

    record = replace(record_of(data.scan_file(), {}), probe=found.probe, object=None)
    save_scan_png(record, data.name, picture, data.units)
