"""What the doctor says of memory and time."""

from dataclasses import replace

import numpy as np

from ptycho.core.doctor.advice import forecast
from ptycho.core.scan.scan import ScanFile


def scan(n: int, N: int, modes: int = 1) -> ScanFile:
    patterns = np.broadcast_to(np.zeros((), np.uint16), (n, N, N))
    x = np.arange(float(n))
    return ScanFile(diff3d=patterns, xcoords=x, ycoords=x, probeGuess=np.ones((modes, N, N), np.complex64))


def test_memory_of_an_iteration_is_that_of_its_own_forecast() -> None:
    """Six complex numbers a pixel of one mode: amplitude 1/2, intensity, field and its change 5/2, probe 2, patch 1."""
    small = forecast(scan(100, 16), None, 1, "counts")
    assert small.numbers["iteration_mb"] == 6 * 8 * 100 * 16**2 / 2**20
    assert "keeps all of it" in small.sentence
    three = forecast(scan(100, 16, modes=3), None, 1, "counts")
    assert three.numbers["iteration_mb"] == 12 * 8 * 100 * 16**2 / 2**20
    counts = scan(24_000, 64)
    large = forecast(counts, None, 1, "counts")
    assert "keeps what fits of it in 2.0 GB, patterns in 1 B a pixel 93.8 MiB, far fields 1.83 GiB" in large.sentence
    for value in (np.uint16(65_535), np.float32(1.1)):  # no more would be kept with two bytes a pixel
        other = replace(counts, diff3d=np.broadcast_to(value, counts.diff3d.shape))
        assert "in 2.0 GB, patterns 0.37 GiB (--device-memory GIB" in forecast(other, None, 1, "counts").sentence
