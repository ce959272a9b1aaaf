"""Are these the numbers that a detector gives: patterns that come twice."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.doctor import examine
from ptycho.core.doctor.findings import Diagnosis
from ptycho.core.doctor.preflight import refuse_faults
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import ScanStream
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.errors import DataError


@pytest.fixture(scope="module")
def sound() -> ScanFile:
    made = expose(*plan_scan(ScanSettings(N=32, shape=(60, 60), step=5.0, photons=1e5, units="counts")))
    return ScanFile(made.diffraction, made.xcoords, made.ycoords, made.probe, units="counts")


def examined(scan: ScanFile, patterns: np.ndarray) -> Diagnosis:
    return examine(ScanStream.of(replace(scan, diff3d=patterns)), reconstructions=False)


def test_a_pattern_that_comes_twice_is_named_with_the_command(sound: ScanFile) -> None:
    assert examined(sound, sound.diff3d).named("repeated patterns").severity == "ok"
    patterns = sound.diff3d.copy()
    patterns[[7, 9, 10]] = patterns[[6, 8, 8]]
    found = examined(sound, patterns).named("repeated patterns")
    assert found.severity == "fault" and found.mend == ("subsample --drop 7,9-10",)
    assert "patterns 7,9-10 are copies" in found.sentence


def test_a_detector_that_hung_stops(sound: ScanFile) -> None:
    """Every object explains one pattern, which foretells itself wholly."""
    patterns = np.repeat(sound.diff3d[:1], len(sound.diff3d), axis=0)
    with pytest.raises(DataError, match=r"hung detector: \d+ of \d+ patterns are copies"):
        refuse_faults(examined(sound, patterns), "scan.npz")


def test_whole_amplitudes_under_their_probe_may_be_said_to_be_amplitudes(sound: ScanFile) -> None:
    """That integers are counts is no proof where the energy of the probe is that of amplitudes."""
    whole = np.rint(3 * np.sqrt(sound.diff3d)).astype(np.uint16)
    assert examined(replace(sound, units="amplitude"), sound.diff3d).named("units").severity == "fault"
    probe = 3 * sound.probe
    found = examined(replace(sound, probeGuess=probe, units="amplitude"), whole).named("units")
    assert found.severity in ("ok", "warning")


def test_patterns_without_noise_or_light_may_be_alike(sound: ScanFile) -> None:
    """The bare beam without noise, and empty frames."""
    bare = np.repeat(np.sqrt(sound.diff3d[:1] + 0.3).astype(np.float32), len(sound.diff3d), axis=0)
    assert examined(replace(sound, units="amplitude"), bare).named("repeated patterns").severity == "ok"
    dark = sound.diff3d.copy()
    dark[3:6] = 0
    assert examined(sound, dark).named("repeated patterns").severity == "ok"
