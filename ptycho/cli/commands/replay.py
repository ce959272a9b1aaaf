"""`ptycho replay`: bring a stored scan frame by frame, as a detector and a stage would, to try `ptycho live` on."""

from __future__ import annotations

import argparse
import logging
import shlex
from pathlib import Path

from ptycho.cli.scan_flags import positive

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "bring a stored scan frame by frame, as it was measured, to try ptycho live on"

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the scan, where it goes, how fast, and what goes wrong on the way."""
    parser.add_argument("scan", type=Path, metavar="SCAN", help="scan file, of any format that ptycho convert reads")
    parser.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="FOLDER|FILE.h5",
        help="folder that fills with frames (NPY) and a table positions.csv, or an HDF5 file that can be read "
        "meanwhile (SWMR)",
    )
    parser.add_argument("--rate", type=positive, default=200.0, metavar="R", help="patterns per second")
    group = parser.add_argument_group("what goes wrong on the way, to frames and positions alike")
    group.add_argument("--shuffle", type=int, metavar="SEED", help="they come in another order, by this seed")
    group.add_argument("--late", type=float, default=0.0, metavar="SECONDS", help="each comes up to so late, by chance")
    group.add_argument("--drop", type=float, default=0.0, metavar="SHARE", help="share that never comes, 0 to 1")
    group.add_argument("--double", type=float, default=0.0, metavar="SHARE", help="share that comes twice, 0 to 1")


def run(options: argparse.Namespace) -> int:
    """Write frames and positions when they are due; 0."""
    import numpy as np

    from ptycho.cli.progress import shown_line
    from ptycho.core.formats.opening import open_scan
    from ptycho.core.live.replay import play, writer_to
    from ptycho.core.live.schedule import Faults, schedule

    faults = Faults(
        shuffled=options.shuffle is not None,
        late=options.late,
        drop=options.drop,
        double=options.double,
        seed=options.shuffle or 0,
    )
    scan = open_scan(options.scan)
    arrivals = schedule(len(scan.frames), options.rate, faults)
    target = shlex.quote(str(options.to))
    with writer_to(options.to, scan.frames.read(np.array([0]))[0]) as writer:
        _log.info("Follow it: ptycho live %s --like %s --unit px -o live", target, shlex.quote(str(options.scan)))
        with shown_line(not options.quiet) as line:
            behind = play(scan, arrivals, writer, lambda done: line(f"{done} of {len(arrivals)} have come"))
    _log.info("All has come: %d frames and positions%s", len(arrivals), f", {behind:.2g} s late" if behind else "")
    return 0
