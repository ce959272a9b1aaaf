"""Simulate a scan with a known object and write it as a scan file.

    python scripts/simulation/simulate.py --kind lines --size 256 --photons 1e9 --seed 0 --output scan.npz

The truth is stored as `objectGuess`, unless --no-truth is given. `--help` lists every setting.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ptycho.core.objects import OBJECT_KINDS
from ptycho.core.scan_checks import PATTERN_SIZES
from ptycho.core.scan_file import ScanFile, write_scan
from ptycho.core.simulation import make_scan
from ptycho.errors import PtychoError


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate and write; returns the exit status, 0 or 2."""
    parser = argparse.ArgumentParser(
        description="Simulate a scan with a known object.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--kind", choices=OBJECT_KINDS, default="lines", help="what the object shows")
    parser.add_argument("--size", type=int, default=256, help="side of the object, pixels")
    parser.add_argument("--N", type=int, choices=PATTERN_SIZES, default=64, help="side of a pattern, pixels")
    parser.add_argument("--step", type=float, default=8.0, help="distance of neighbouring positions, pixels")
    parser.add_argument("--jitter", type=float, default=2.0, help="largest displacement each way, pixels")
    parser.add_argument("--photons", type=float, default=1e9, help="mean number of photons per pattern")
    parser.add_argument("--seed", type=int, default=0, help="seed of object, positions and noise")
    parser.add_argument("--units", choices=("amplitude", "counts"), default="amplitude", help="what to store")
    parser.add_argument("--no-truth", action="store_true", help="leave the object out of the file")
    parser.add_argument("--output", type=Path, required=True, help="the scan file to write (NPZ)")
    options = vars(parser.parse_args(argv))
    output, no_truth = options.pop("output"), options.pop("no_truth")
    try:
        scan = make_scan(**options)
        arrays = ScanFile(
            diff3d=scan.diffraction,
            xcoords=scan.xcoords,
            ycoords=scan.ycoords,
            probeGuess=scan.probe,
            objectGuess=None if no_truth else scan.object,
            units=scan.units,
            metadata={"nphotons": scan.photons, "simulation": options},
        )
        write_scan(output, arrays)
    except PtychoError as error:
        sys.stderr.write(f"simulate: error: {error}\n")
        return 2
    print(f"{output}: {len(scan.xcoords)} patterns of {options['N']} x {options['N']}, {scan.units}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
