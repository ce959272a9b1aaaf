"""Modes that are missing and a stage that moves while the detector counts are named, each for what it is."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.doctor.coherence import BlurTest, ModesTest, check_fly_scan, check_modes, compare_modes, line_step
from ptycho.core.doctor.samples import Sampler
from ptycho.core.doctor.statistics import gather
from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.probes import orthogonal_modes, zone_plate_probe
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import ScanStream
from ptycho.core.simulation.objects import make_object
from ptycho.core.simulation.scan_paths import raster_positions

N, STEP = 32, 6.0


def scan_of(
    powers: tuple[float, ...] = (1.0,), moves: tuple[float, float] = (0.0, 0.0), photons: float = 1e6
) -> ScanFile:
    """Patterns of 32 x 32 on a raster there and back; each a sum over 5 places up to half of `moves` = (x, y) away."""
    sample = make_object("siemens_star", (80, 80), np.random.default_rng(1))
    probe = zone_plate_probe(N, pupil_radius=7, defocus=1.3)
    modes = orthogonal_modes(probe, powers)
    x, y = raster_positions((80, 80), N, STEP, 0, np.random.default_rng(2))
    there = np.arange(len(x)).reshape(-1, len(np.unique(x)))
    there[1::2] = there[1::2, ::-1]
    x, y = x[there.ravel()], y[there.ravel()]
    intensity = np.zeros((len(x), N, N))
    for part in (np.arange(5) - 2) / 5:
        intensity += diffract(modes, *extract_rounded(sample, x + part * moves[0], y + part * moves[1], N))
    counts = np.random.default_rng(3).poisson(photons * intensity / intensity.sum(axis=(1, 2)).mean())
    return ScanFile(counts.astype(np.uint32), x, y, probe * np.sqrt(photons) / np.linalg.norm(probe), units="counts")


def modes_of(scan: ScanFile) -> ModesTest | None:
    stream = ScanStream.of(scan)
    sampler = Sampler(stream, gather(stream), (0, 0), np.zeros((N, N), bool))
    return compare_modes(sampler.middle(), line_step(*sampler.positions))


def test_modes_that_are_missing_are_named() -> None:
    test = modes_of(scan_of((0.7, 0.3)))
    finding = check_modes(test)
    assert finding.severity == "warning", finding.sentence
    assert finding.sentence.startswith("Too few modes") and "--modes auto" in finding.sentence
    assert finding.numbers["error_one_more"] < 0.7 * finding.numbers["error"]
    assert finding.mend == ("reconstruct --modes auto",)
    fly_scan = check_fly_scan(test)
    assert fly_scan is None or fly_scan.severity == "ok"


def test_one_mode_is_enough_for_coherent_light() -> None:
    """Though on the way a second one hurries what one does as well."""
    finding = check_modes(modes_of(scan_of()))
    assert finding.severity == "ok", finding.sentence
    assert finding.sentence.startswith("One mode will do")


def test_a_fly_scan_is_named_and_is_not_called_incoherent() -> None:
    test = modes_of(scan_of(moves=(STEP, 0.0)))
    finding = check_fly_scan(test)
    assert finding is not None
    assert finding.severity == "warning", finding.sentence
    assert finding.sentence.startswith("A fly scan")
    assert finding.mend == ("reconstruct --fly",)
    assert np.abs(finding.numbers["step"]) == pytest.approx([STEP, 0.0])
    assert check_modes(test).severity == "note"


def test_motion_across_the_lines_is_no_fly_scan() -> None:
    test = modes_of(scan_of(moves=(0.0, STEP)))
    finding = check_fly_scan(test)
    assert finding is not None and finding.severity == "ok"
    assert check_modes(test).severity == "note"  # two modes do not describe a whole step


def test_what_each_condition_is_for() -> None:
    blur = BlurTest(still=0.02, along=0.01, across=0.02, deviations=30.0, step=(6.0, 0.0))
    found = ModesTest(modes=1, given=0.02, more=0.012, deviations=20.0, left=0.04, left_with_more=0.01, patterns=40)
    assert check_modes(found).severity == "warning"
    assert check_fly_scan(found) is None
    for change in ({"more": 0.016}, {"left": 0.008, "left_with_more": 0.0}, {"left_with_more": 0.02}):
        assert check_modes(replace(found, **change)).severity == "note"  # type: ignore[arg-type]
    for change in ({"more": 0.0195}, {"deviations": 5.0}, {"left": 0.003}):
        assert check_modes(replace(found, **change)).severity == "ok"  # type: ignore[arg-type]
    assert check_modes(replace(found, modes=2)).sentence.startswith(
        "Too few modes: unseen patterns are foretold to 0.02"
    )
    flown = replace(found, blur=blur)
    assert flown.flies
    for change in ({"along": 0.016}, {"across": 0.011}, {"deviations": 5.0}):
        assert not replace(flown, blur=replace(blur, **change)).flies
    assert not replace(flown, more=0.009).flies
    assert check_modes(None).severity == "note"


def test_few_patterns_and_many_modes_are_not_modes_of() -> None:
    scan = scan_of()
    few = replace(scan, diff3d=scan.diff3d[:9], xcoords=scan.xcoords[:9], ycoords=scan.ycoords[:9])
    assert modes_of(few) is None
    assert modes_of(replace(scan, probeGuess=orthogonal_modes(scan.probe, (0.6, 0.3, 0.1)))) is None


def test_the_step_of_lines_is_told_and_none_of_other_paths() -> None:
    x, y = (grid.ravel().astype(float) for grid in np.meshgrid(5.0 * np.arange(9), 7.0 * np.arange(6)))
    assert np.abs(line_step(x, y)) == pytest.approx((5, 0))
    turned = (0.8 * x - 0.6 * y, 0.6 * x + 0.8 * y)
    step = line_step(*turned)
    assert step is not None and np.abs(step) == pytest.approx((4, 3))
    order = np.random.default_rng(0).permutation(len(x))
    assert line_step(x[order], y[order]) is None
    angle = np.sqrt(np.arange(60.0)) * 4
    assert line_step(angle * np.cos(angle), angle * np.sin(angle)) is None
    assert line_step(x[:5], y[:5]) is None
    assert line_step(0 * x, 0 * y) is None
