"""The overlap is not blamed for a probe that cannot have made the patterns."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.doctor import examine
from ptycho.core.doctor.probe_doubt import lag_reach
from ptycho.core.doctor.statistics import gather
from ptycho.core.physics.probes import disk_probe, gaussian_probe
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import ScanStream
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan


def simulated(step: float, size: int, photons: float = 1e6, **settings) -> ScanFile:
    made = expose(
        *plan_scan(
            ScanSettings(
                N=64, shape=(size, size), step=step, jitter=1, photons=photons, units="counts", seed=3, **settings
            )
        )
    )
    return ScanFile(made.diffraction, made.xcoords, made.ycoords, made.probe, units="counts")


def overlap(scan: ScanFile):
    return examine(ScanStream.of(scan), reconstructions=False).named("overlap")


@pytest.mark.parametrize("fwhm", [2.0, 4.0])
@pytest.mark.parametrize("kind", ["disk", "zone_plate"])
def test_a_probe_too_small_for_the_patterns_is_doubted(kind: str, fwhm: float) -> None:
    finding = overlap(replace(simulated(7, 110, probe=kind), probeGuess=gaussian_probe(64, fwhm)))
    assert finding.severity == "warning"
    assert finding.numbers["probe_doubted"]
    assert "find the probe first" in finding.sentence and "smaller steps" not in finding.sentence


def test_a_wide_probe_that_does_not_explain_the_mean_pattern_hides_nothing() -> None:
    finding = overlap(replace(simulated(40, 230), probeGuess=disk_probe(64, 50)))
    assert finding.numbers["probe_doubted"]
    assert finding.severity in ("note", "warning")


@pytest.mark.parametrize("photons", [1e3, 1e6])
@pytest.mark.parametrize(
    "settings", [{}, {"probe": "disk"}, {"probe": "gaussian"}, {"probe_settings": {"defocus": 0.5}}]
)
def test_the_probe_that_made_the_patterns_is_believed(settings, photons: float) -> None:
    scan = simulated(40, 230, photons, **settings)
    finding = overlap(scan)
    assert finding.severity == "fault"
    assert not finding.numbers["probe_doubted"]


def test_the_reach_of_two_pinholes_is_their_distance() -> None:
    """Exit waves of two points 9 pixels apart with a phase of their own in each pattern: fringes of one period."""
    rng = np.random.default_rng(0)
    waves = np.zeros((12, 32, 32), complex)
    waves[:, 10, 10] = 1
    waves[:, 10, 19] = np.exp(2j * np.pi * rng.random(12))
    patterns = np.abs(np.fft.fftshift(np.fft.fft2(waves), axes=(1, 2))) ** 2
    stream = ScanStream.of(ScanFile(patterns, np.arange(12.0), np.arange(12.0), None, units="counts"))
    assert lag_reach(stream, gather(stream)) == pytest.approx(9)
