"""`ptycho show`: one picture of a scan or of a result."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "draw patterns, probe, scan path and object of a file into one picture"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the file and the picture."""
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="scan, result or product, any format, or run folder",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PNG", help="the picture (default: FILE with the suffix .png)"
    )
    parser.add_argument("--units", choices=("amplitude", "counts"), help="what the diffraction patterns hold")


def run(options: argparse.Namespace) -> int:
    """Draw; 0."""
    from ptycho.core.formats import registry
    from ptycho.core.formats.reconstruction_npz import read_npz
    from ptycho.core.formats.record import in_pixels

    file = registry.in_folder(options.file)
    output = options.output or file.with_suffix(".png")
    if registry.recognise(file).name == "reconstruction":
        from ptycho.figures.reconstruction import save_summary_png

        save_summary_png(read_npz(file), output)
    else:
        from ptycho.figures.scan import save_scan_png

        record = registry.read(file)
        if record.position_unit == "m" and record.xcoords is not None and record.object_pixel_m is not None:
            record = in_pixels(record, "scan")
        save_scan_png(record, file.name, output, options.units)
    sys.stdout.write(f"picture: {output}\n")
    return 0
