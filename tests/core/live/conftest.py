"""A writer in a process of its own: HDF5 takes a file that one process writes and reads for one open file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

_CHILD = """
import sys
import h5py
import numpy as np
space = {"h5py": h5py, "np": np}
for line in sys.stdin:
    exec(eval(line), space)
    print("done", flush=True)
"""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Callable[[str], None]]:
    """Runs Python in the other process, and returns when it is done."""
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None and child.stdout is not None

        def run(code: str) -> None:
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(f"{code!r}\n")
            child.stdin.flush()
            assert child.stdout.readline() == "done\n"

        yield run
        child.stdin.close()
