"""A beam that changes in the course of a scan is told from bright and dark places of the sample, and is named."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.doctor.beam import beam_change, check_beam
from ptycho.core.doctor.statistics import gather
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import ScanStream

COUNT = 121
ORDER = np.arange(COUNT) / (COUNT - 1)
ROWS = 1 + 0.3 * np.sin(2 * np.pi * 11 * ORDER)
"""A sample under a raster of eleven rows."""


@pytest.mark.parametrize(("left", "expected"), [(0.3, 0.3), (1.0, 1.0), (0.7, 1.0), (1 / 0.3, 1 / 0.3)])
def test_the_change_is_that_of_the_last_pattern(left, expected):
    assert beam_change(left**ORDER) == pytest.approx(expected, rel=1e-9)
    assert beam_change(left**ORDER * ROWS) == pytest.approx(expected, rel=0.15)


def test_dark_patterns_do_not_count_and_few_say_nothing():
    brightness = 0.3**ORDER
    brightness[::7] = 0
    assert beam_change(brightness) == pytest.approx(0.3, rel=1e-9)
    assert beam_change(0.3 ** np.arange(11.0)) == 1.0


@pytest.mark.parametrize(
    ("brightness", "severity", "first", "ratio"),
    [
        (ROWS, "ok", None, 1.0),
        (0.2**ORDER * ROWS, "warning", None, 0.2),
        (np.where(np.arange(COUNT) < 50, 1.0, 0.3), "warning", 50, 0.3),
        (np.where(np.arange(COUNT) < 70, 1.0, 4.0) * ROWS, "warning", 70, 4.0),
    ],
)
def test_the_doctor_says_how_and_from_which_pattern_on(brightness, severity, first, ratio):
    points = np.arange(COUNT, dtype=float)
    scan = ScanFile(np.full((COUNT, 4, 4), 40, np.float32), points, points, None, units="counts")
    found = check_beam(replace(gather(ScanStream.of(scan)), energies=640 * brightness))
    assert (found.severity, found.mend) == (severity, () if severity == "ok" else ("reconstruct --flux",))
    assert found.numbers["ratio"] == pytest.approx(ratio, rel=0.2)
    assert found.numbers["first"] == (None if first is None else pytest.approx(first, abs=3))
