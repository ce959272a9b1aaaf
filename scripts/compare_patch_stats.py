"""Compare the statistics of predicted patches of two runs or backends.

    python scripts/compare_patch_stats.py run_a/analysis/torch_patch_stats.json run_b/analysis/tf_patch_stats.json

Each may also be `stats.json` of a debug dump or a folder with one of these. Printed is the first over the second.
Exit status 0, or 2 for files that cannot be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ptycho.cli.console import USER_ERRORS, LineParser, complain
from ptycho.core.quality.patch_stats import compare_statistics, read_statistics


def main(argv: Sequence[str] | None = None) -> int:
    """Print the ratios as lines `name ratio status`, or as JSON."""
    parser = LineParser(prog="compare_patch_stats", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("found", type=Path, metavar="A", help="statistics or folder of the run to compare")
    parser.add_argument("baseline", type=Path, metavar="B", help="those of the run it is compared with")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    try:
        options = parser.parse_flags(sys.argv[1:] if argv is None else argv)
        ratios = compare_statistics(read_statistics(options.found), read_statistics(options.baseline))
    except USER_ERRORS as error:
        return complain(parser.prog, error, debug=False)
    if options.json:
        table = [asdict(each) | {"ratio": each.ratio, "status": each.status} for each in ratios]
        print(json.dumps(table, indent=1))
        return 0
    for each in ratios:
        print(f"{each.name:28} {'-' if each.ratio is None else format(each.ratio, '.6g'):>12}  {each.status}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
