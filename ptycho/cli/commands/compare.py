"""`ptycho compare`: a table and a picture of how like two objects are."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptycho.core.quality.comparison import Comparison, PlacedObject

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "compare a reconstruction with a truth or another reconstruction"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two files and what to make of them."""
    what = "folder of a run, its reconstruction.npz, product (HDF5) or scan with objectGuess"
    parser.add_argument("first", type=Path, metavar="A", help=f"what is compared: {what}")
    parser.add_argument("second", type=Path, metavar="B", help=f"what it is compared with, the truth perhaps: {what}")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PNG", default=Path("comparison.png"), help="the picture; - for none"
    )
    parser.add_argument("--region", type=_region, metavar="Y0,Y1,X0,X1", help="pixels of B to compare in, half open")
    parser.add_argument(
        "--halves", action="store_true", help="A and B are reconstructions of half the data each: half-bit threshold"
    )
    parser.add_argument("--search", action="store_true", help="look for A in B, whatever the files say")
    parser.add_argument("--turn", action="store_true", help="try all orientations and conjugates of A")
    parser.add_argument("--scan", type=Path, metavar="SCAN", help="also report how well A and B explain its patterns")
    parser.add_argument("--units", choices=("amplitude", "counts"), help="what the patterns of SCAN hold")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead of the table")


def run(options: argparse.Namespace) -> int:
    """Compare, print, draw; 0."""
    from ptycho.core.formats.placing import placed_object
    from ptycho.core.quality.comparison import compare

    first, second = placed_object(options.first), placed_object(options.second)
    found = compare(first, second, options.region, options.halves, options.search, options.turn)
    errors = _diffraction_errors([first, second], options) if options.scan else {}
    if options.json:
        sys.stdout.write(json.dumps(_plain(found) | {"diffraction_error": errors or None}, indent=2) + "\n")
    else:
        sys.stdout.write(found.table(str(options.first), str(options.second)))
        for name, error in errors.items():
            sys.stdout.write(f"{f'diffraction error {name}':20}{'-' if error is None else f'{error:.4g}'}\n")
    if str(options.output) != "-":
        from ptycho.figures.comparison import save_comparison_png

        save_comparison_png(found, first.name, second.name, options.output)
        if not options.json:
            sys.stdout.write(f"picture: {options.output}\n")
    return 0


def _diffraction_errors(objects: list[PlacedObject], options: argparse.Namespace) -> dict[str, float | None]:
    """The relative Fourier error of A and B on the patterns of a scan; None for one without a probe or positions."""
    from ptycho.core.formats.opening import open_scan
    from ptycho.core.physics.near_field import NearField
    from ptycho.core.quality.diffraction_error import diffraction_error
    from ptycho.core.scan.stream import stream_units

    errors: dict[str, float | None] = {}
    stream = open_scan(options.scan, options.units)
    units, mask, near = stream_units(stream), stream.fields.mask, NearField.of(stream.fields.metadata)
    for letter, o in zip("AB", objects, strict=True):
        errors[letter] = None
        if o.probe is not None and o.xcoords is not None and o.ycoords is not None:
            errors[letter] = diffraction_error(
                o.object, o.probe, o.xcoords, o.ycoords, stream.frames, units, mask, near
            )
    return errors


def _plain(found: Comparison) -> dict[str, Any]:
    values = found.score.as_dict() | {
        "threshold": found.threshold,
        "frc_cutoff": found.cutoff,
        "orientation": found.orientation.name,
        "conjugated": found.conjugated,
        "frc": {
            "frequency": found.curve.frequency.tolist(),
            "correlation": found.curve.correlation.tolist(),
            "n": found.curve.n.tolist(),
        },
    }
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }


def _region(text: str) -> tuple[int, int, int, int]:
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"expected four whole numbers Y0,Y1,X0,X1, found {text}")
    y0, y1, x0, x1 = (int(part) for part in parts)
    return y0, y1, x0, x1
