"""How closely the backends agree: runs the parity suite, prints the largest relative errors and writes them down.

python scripts/benchmarks/parity_report.py            # writes docs/parity.md
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^(?P<kind>\S.{15}) (?P<what>.{44}) (?P<dtype>float\d\d)  (?P<error>\S+) \(<= (?P<limit>\S+)\)$")
HEAD = """# Parity of the backends

Made by `python scripts/benchmarks/parity_report.py` from the suite in `tests/parity`, which fails where an error passes
its limit. Relative errors `||a - b|| / ||b||`, the largest of all cases: functions against the NumPy oracle, everything
else PyTorch against TensorFlow; in single precision (limit in brackets) and in double precision.
"""


def rows_of(output: str) -> dict[tuple[str, str], dict[str, tuple[str, str]]]:
    """The table that the suite prints with -v: (kind, what) -> precision -> (error, limit)."""
    table: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    for match in filter(None, map(ROW.match, output.splitlines())):
        key = match["kind"].strip(), match["what"].strip()
        table.setdefault(key, {})[match["dtype"]] = match["error"], match["limit"]
    return table


def main() -> None:
    """Run the suite, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "parity.md")
    args = parser.parse_args()
    suite = [sys.executable, "-m", "pytest", "-v", "tests/parity"]
    done = subprocess.run(suite, cwd=ROOT, capture_output=True, text=True, check=False)
    table = rows_of(done.stdout)
    if done.returncode or not table:
        sys.exit(done.stdout[-3000:])
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "tensorflow", "numpy"))
    lines = [HEAD, f"{versions}.\n", "| | | float32 | float64 |", "| --- | --- | --- | --- |"]
    for (kind, what), found in table.items():
        cells = [f"{e} ({limit})" for e, limit in (found.get(d, ("", "")) for d in ("float32", "float64"))]
        lines.append(f"| {kind} | {what} | {' | '.join(cell.replace(' ()', '') for cell in cells)} |")
    text = "\n".join(lines) + "\n"
    print(text)
    args.output.write_text(text)


if __name__ == "__main__":
    main()
