"""What a refinement leaves in memory: nothing that grows with the batches, beside what it was told to keep."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PATTERNS, N = 20000, 32
SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
from ptycho.raw_data import RawData
from ptycho_torch.refine import refine

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(dict(line.split(":", 1) for line in lines)["RssAnon"].split()[0]) / 1024

n, N, memory = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
x, y = N / 2 + 100 * rng.random((2, n))
patterns = rng.random((n, N, N), np.float32)
scan = RawData(x, y, None, None, patterns, np.ones((N, N), complex), units="amplitude")
before, seen = anonymous(), []
refine(
    scan, None, 4, refine_positions=True, refine_flux=True, tolerance=0.0, patience=9, device_memory=memory,
    report=lambda *_: seen.append(anonymous()),
)
print(json.dumps(max(seen) - before))
"""


def grown(memory: int) -> float:
    """MiB that a refinement of many small batches, with positions and flux, takes; in a process of its own."""
    asked = [sys.executable, "-c", SCRIPT, *map(str, (PATTERNS, N, memory))]
    return float(json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the memory of a Linux process")
def test_memory_does_not_grow_with_the_batches():
    patterns = PATTERNS * N**2 * 4 / 2**20
    nothing, kept = grown(0), grown(3 * PATTERNS * N**2 * 4)
    assert nothing < 100
    assert kept < patterns + 100
