"""A probe that is not in the middle of its window is named, and moved without changing what it lights."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.doctor.probe_centre import check_probe_centre
from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import ScanStream
from ptycho.core.simulation.plan import make_scan


@pytest.fixture(scope="module")
def scan() -> ScanFile:
    made = make_scan("smooth", 100, 64, 9, 2, 1e6, 0)
    return ScanFile(
        made.diffraction, made.xcoords, made.ycoords, made.probe, objectGuess=made.object, units="amplitude"
    )


def moved(scan: ScanFile, by: tuple[int, int]) -> ScanStream:
    return ScanStream.of(replace(scan, probeGuess=np.roll(scan.probeGuess, by, (-2, -1))))


@pytest.mark.parametrize(
    ("by", "severity", "mend"),
    [
        ((0, 0), "ok", ()),
        ((1, -2), "ok", ()),
        ((5, 0), "note", ()),
        ((3, -11), "warning", ("recentre --probe",)),
        ((32, 32), "warning", ("recentre --probe",)),
    ],
)
def test_a_probe_off_its_middle_is_named(scan, by, severity, mend):
    made, found = check_probe_centre(moved(scan, by))
    assert (found.severity, found.mend) == (severity, mend)
    assert ("ptycho dataset recentre --probe" in found.sentence) == (severity != "ok")
    at = scan.probeGuess if severity != "ok" else moved(scan, by).fields.probeGuess
    np.testing.assert_array_equal(made.fields.probeGuess, at)


def test_positions_follow_the_probe_so_that_the_patterns_stay(scan):
    before = moved(scan, (3, -11))
    after, _ = check_probe_centre(before)
    seen = []
    for fields in (before.fields, after.fields):
        padded = np.pad(fields.objectGuess, 16, constant_values=1)
        patches, dx, dy = extract_rounded(padded, fields.xcoords + 16, fields.ycoords + 16, 64)
        seen.append(diffract(fields.probeGuess, patches, dx, dy))
    apart = np.square(np.sqrt(seen[0]) - np.sqrt(seen[1])).sum() / seen[0].sum()
    assert apart < 1e-3  # but for the light that went around the edge; 0.06 with positions as they were
