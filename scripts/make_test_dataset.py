"""Make the small scan that the integration tests train on: 64 simulated patterns of photon counts.

    python scripts/make_test_dataset.py

Writes tests/fixtures/pytorch_integration/minimal_dataset_v1.npz, the same bytes every time.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ptycho.core.files.atomic import atomic_path
from ptycho.core.simulation.plan import make_scan

FILE = Path(__file__).parents[1] / "tests" / "fixtures" / "pytorch_integration" / "minimal_dataset_v1.npz"
SETTINGS: dict[str, Any] = {
    "kind": "lines",
    "size": 128,
    "N": 64,
    "step": 8.0,
    "jitter": 2.0,
    "photons": 1e5,
    "seed": 64,
}


def main(file: Path = FILE) -> int:
    """Simulate the scan and write it, compressed."""
    scan = make_scan(**SETTINGS, units="counts")
    arrays: dict[str, Any] = {
        "diff3d": scan.diffraction.astype(np.uint16),
        "xcoords": scan.xcoords,
        "ycoords": scan.ycoords,
        "probeGuess": scan.probe,
        "objectGuess": scan.object,
        "units": np.array(scan.units),
        "_metadata": np.array(json.dumps({"nphotons": scan.photons, "simulation": SETTINGS})),
    }
    with atomic_path(file) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    print(f"{file}: {len(scan.xcoords)} patterns, {file.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
