"""Compare the statistics of predicted patches of two runs or backends.

    python scripts/compare_patch_stats.py run_a/analysis/torch_patch_stats.json run_b/analysis/tf_patch_stats.json
    python scripts/compare_patch_stats.py --candidate-stats run_a --baseline-stats run_b

Each may also be `stats.json` of a debug dump or a folder with one of these. Printed are the first over the second, the
baseline, and the first minus the second.
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
from ptycho.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Print lines `name ratio status` and `name difference status`, or JSON."""
    parser = LineParser(prog="compare_patch_stats", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", metavar="A B", help="the two, instead of the flags below")
    parser.add_argument("--candidate-stats", type=Path, metavar="A", help="statistics or folder of the run to compare")
    parser.add_argument("--baseline-stats", type=Path, metavar="B", help="those of the run it is compared with")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    try:
        options = parser.parse_flags(sys.argv[1:] if argv is None else argv)
        found, baseline = _two(options.files, options.candidate_stats, options.baseline_stats)
        ratios = compare_statistics(read_statistics(found), read_statistics(baseline))
    except USER_ERRORS as error:
        return complain(parser.prog, error, debug=False)
    if options.json:
        table = [asdict(each) | {"ratio": each.ratio, "delta": each.delta, "status": each.status} for each in ratios]
        print(json.dumps(table, indent=1))
        return 0
    for each in ratios:
        print(_line(each.name, each.ratio, each.status))
    for each in ratios:
        print(_line(each.name.replace("ratio", "delta", 1), each.delta, "not finite" if each.delta is None else "ok"))
    return 0


def _two(files: Sequence[Path], candidate: Path | None, baseline: Path | None) -> tuple[Path, Path]:
    """The files to compare, by their places or by their flags."""
    if len(files) == 2 and candidate is None and baseline is None:
        return files[0], files[1]
    if files or candidate is None or baseline is None:
        raise ConfigError("expected two files, A and B, or --candidate-stats A and --baseline-stats B; name both")
    return candidate, baseline


def _line(name: str, value: float | None, status: str) -> str:
    return f"{name:28} {'-' if value is None else format(value, '.6g'):>12}  {status}"


if __name__ == "__main__":
    sys.exit(main())
