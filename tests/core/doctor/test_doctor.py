"""The doctor: every planted fault is found and named, sound scans give no warning."""

import functools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho.core.doctor import examine
from ptycho.core.doctor.findings import Diagnosis
from ptycho.core.doctor.frame_shift import check_shift, rank_shifts, uneven_places
from ptycho.core.doctor.held_out import foretell, inner_points, significance
from ptycho.core.doctor.orientation import check_orientation, check_probe, compare_orientations, compare_probe
from ptycho.core.doctor.position_scale import ScaleTest, check_scale, rank_scales, scaled
from ptycho.core.doctor.reconstructions import examine_sample
from ptycho.core.doctor.samples import Sampler, neighbourhood
from ptycho.core.doctor.statistics import gather
from ptycho.core.formats.opening import open_scan
from ptycho.core.physics.probes import disk_probe, gaussian_probe, zone_plate_probe
from ptycho.core.quality.orientation import ORIENTATIONS, Orientation
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import ScanStream
from ptycho.core.scan_edit.points import move_positions
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, make_scan, plan_scan, simulate_scan
from ptycho.core.simulation.scan_paths import raster_positions, scan_positions
from ptycho.raw_data import RawData


def simulated(kind: str = "lines", photons: float = 1e6, units: str = "counts", **settings: float) -> ScanFile:
    sizes = {"size": 150, "N": 64, "step": 7, "jitter": 2, "seed": 3, **settings}
    made = make_scan(kind, photons=photons, units=units, **sizes)  # type: ignore[arg-type]
    fields = (made.diffraction, made.xcoords, made.ycoords, made.probe)
    return ScanFile(*fields, objectGuess=made.object, units=units, metadata={"nphotons": photons})


def simulated_small(kind: str = "lines", photons: float = 1e6) -> ScanFile:
    """196 patterns of 32 x 32: the short reconstructions take a quarter of the time."""
    return simulated(kind, photons, size=100, N=32, step=5, jitter=1.5)


def some(cases: Sequence[Any], fast: int) -> list[Any]:
    """Cases of one law, of which the first few are tried by the fast tests too."""
    return [*cases[:fast], *(pytest.param(case, marks=pytest.mark.slow) for case in cases[fast:])]


@pytest.fixture(scope="module")
def sound() -> ScanFile:
    return simulated()


def warnings_of(diagnosis: Diagnosis) -> list[str]:
    return [finding.name for finding in diagnosis.findings if finding.severity in ("warning", "fault")]


def with_pixels(scan: ScanFile, value: float, *place: slice | int) -> ScanFile:
    data = scan.diff3d.astype(np.float64) if value != value or value < 0 else scan.diff3d.copy()
    data[(slice(None), *place)] = value
    return replace(scan, diff3d=data)


def permuted(scan: ScanFile) -> ScanFile:
    order = np.random.default_rng(0).permutation(len(scan.xcoords))
    return replace(scan, xcoords=scan.xcoords[order], ycoords=scan.ycoords[order])


def repeated(scan: ScanFile) -> ScanFile:
    x, y = scan.xcoords.copy(), scan.ycoords.copy()
    x[10:13], y[10:13] = x[9], y[9]
    return replace(scan, xcoords=x, ycoords=y)


def dark(scan: ScanFile) -> ScanFile:
    data = scan.diff3d.copy()
    data[7] = 0
    return replace(scan, diff3d=data)


FAULTS: dict[str, tuple[Callable[[ScanFile], ScanFile], str, str]] = {
    "counts called amplitude": (lambda s: replace(s, units="amplitude"), "units", "numbers say counts"),
    "amplitude called counts": (
        lambda s: replace(simulated(units="amplitude"), units="counts"),
        "units",
        "whole squares",
    ),
    "neither": (lambda s: replace(s, diff3d=s.diff3d * np.float32(0.123) + 0.01, units=None), "units", "Say --units"),
    "not centred": (lambda s: replace(s, diff3d=np.fft.ifftshift(s.diff3d, axes=(1, 2))), "centre", "fftshift"),
    "off centre": (lambda s: replace(s, diff3d=np.roll(s.diff3d, (4, -1), (1, 2))), "centre", r"\(\+4.0, -1.0\)"),
    "saturated": (lambda s: replace(s, diff3d=np.minimum(s.diff3d, 2000)), "saturation", "exactly 2000"),
    "hot pixel": (lambda s: with_pixels(s, 3000, 10, 50), "hot pixels", r"1 hot pixel.*\[10, 50\]"),
    "stuck pixel": (lambda s: with_pixels(s, 500, 30, 40), "hot pixels", r"\[30, 40\]"),
    "dead pixel": (lambda s: with_pixels(s, 0, 40, 30), "dead pixels", r"1 valid pixel is 0 .*\[40, 30\]"),
    "module gap": (lambda s: with_pixels(s, 0, slice(30, 34)), "dead pixels", "256 valid pixels"),
    "NaN": (lambda s: with_pixels(s, np.nan, 3, 3), "numbers", "169 values"),
    "negative": (lambda s: with_pixels(s, -1e6, slice(20)), "numbers", "216320 are negative"),
    "repeated positions": (repeated, "duplicate positions", "3 of 169"),
    "shuffled positions": (permuted, "order", "shuffled"),
    "positions in metres": (
        lambda s: replace(s, xcoords=1e-8 * s.xcoords, ycoords=1e-8 * s.ycoords, objectGuess=None),
        "place",
        "metres",
    ),
    "positions of another object": (lambda s: replace(s, xcoords=s.xcoords + 30), "place", "reach beyond"),
    "little overlap": (lambda s: simulated(size=240, step=20), "overlap", "linear overlap"),
    "no overlap": (lambda s: simulated(size=300, step=40, jitter=1), "overlap", "linear overlap 0 %"),
    "few photons": (lambda s: simulated(photons=200), "dose", "Only 2"),
    "wrong dose": (lambda s: replace(s, metadata={"nphotons": 1e9}), "dose", "believed"),
    "dark pattern": (dark, "dose", "--drop 7"),
    "inverted mask": (lambda s: replace(s, mask=np.hypot(*np.mgrid[-32:32, -32:32]) > 24), "mask", "inverted"),
    "background": (lambda s: replace(s, diff3d=s.diff3d + 400), "detector edge", "background"),
    "probe too wide": (lambda s: replace(s, probeGuess=gaussian_probe(64, 70, 1e6)), "sampling", "cut off"),
    "no light": (lambda s: replace(s, diff3d=0 * s.diff3d), "examination", "dark"),
    "broken probe": (lambda s: replace(s, probeGuess=np.full((64, 64), np.nan + 0j)), "examination", "NaN"),
}


@pytest.mark.parametrize("planted", FAULTS)
def test_a_planted_fault_is_found(sound: ScanFile, planted: str) -> None:
    plant, name, words = FAULTS[planted]
    finding = examine(ScanStream.of(plant(sound)), reconstructions=False).named(name)
    assert finding.severity in ("warning", "fault")
    assert re.search(words, finding.sentence), finding.sentence
    assert finding.numbers or name == "examination"


def test_a_bad_frame_does_not_make_the_order_wrong(sound: ScanFile) -> None:
    """One pattern of noise is like no other, and stands out of every mean."""
    data = sound.diff3d.copy()
    data[57] = np.random.default_rng(0).poisson(data.mean(), data[57].shape)
    finding = examine(ScanStream.of(replace(sound, diff3d=data)), reconstructions=False).named("order")
    assert finding.severity == "ok" and finding.numbers["left_out"] == 1
    shuffled = examine(ScanStream.of(permuted(replace(sound, diff3d=data))), reconstructions=False).named("order")
    assert shuffled.severity == "fault"


def test_a_sample_of_fine_structure_is_in_order_although_no_two_patterns_are_alike() -> None:
    """What is foretold decides; shuffled it is a fault as everywhere."""
    made = make_scan("siemens_star", 120, 32, 5.0, 0.5, 1e5, 3)
    x, y = made.xcoords, made.ycoords
    scan = RawData(x, y, None, None, made.diffraction, made.probe, units=made.units).scan_file()
    found = examine(ScanStream.of(scan), reconstructions=False).named("order")
    assert found.numbers["ratio"] > 0.95
    assert (found.severity, found.numbers["foretold"] < 0.1) == ("ok", True)
    assert examine(ScanStream.of(permuted(scan)), reconstructions=False).named("order").severity == "fault"


def test_any_detector_is_examined_as_it_is_reconstructed(sound: ScanFile) -> None:
    """Ten columns are missing on the left: the beam is at column 22 of 54."""
    diagnosis = examine(ScanStream.of(replace(sound, diff3d=sound.diff3d[:, :, 10:])), reconstructions=False)
    finding = diagnosis.named("pattern size")
    assert finding.severity == "note"
    assert "patterns of 64 x 54 pixels" in finding.sentence
    assert "is at row 32 and column 22 by the probe: moved to the middle" in finding.sentence
    assert warnings_of(diagnosis) == []
    wide = replace(
        sound, diff3d=np.pad(sound.diff3d, ((0, 0), (16, 16), (16, 16))), probeGuess=np.pad(sound.probeGuess, 16)
    )
    finding = examine(ScanStream.of(wide), reconstructions=False).named("pattern size")
    assert finding.numbers["N"] == 96
    assert "Networks, which take 64, 128, 256, are given the nearest size" in finding.sentence


@pytest.mark.parametrize(
    ("make", "kind", "photons"),
    [
        (simulated_small, "lines", 1e6),
        pytest.param(simulated_small, "smooth", 1e4, marks=pytest.mark.slow),
        pytest.param(simulated, "siemens_star", 1e9, marks=pytest.mark.slow),
    ],
)
def test_sound_scans_give_no_warning(make: Callable[[str, float], ScanFile], kind: str, photons: float) -> None:
    diagnosis = examine(ScanStream.of(make(kind, photons)))
    assert warnings_of(diagnosis) == []
    assert diagnosis.healthy
    assert diagnosis.named("orientation").severity == "ok"
    assert diagnosis.named("position scale").severity in ("ok", "note")
    assert diagnosis.named("frame shift").severity == "ok"
    assert diagnosis.named("settings").numbers["N"] == 64  # the least that networks take
    assert diagnosis.named("dose").numbers["photons_per_pattern"] == pytest.approx(photons, rel=0.05)
    json.dumps(diagnosis.as_dict(), allow_nan=False)


@pytest.mark.parametrize("units", ["counts", "amplitude"])
@pytest.mark.parametrize("photons", [2e3, 1e5])
@pytest.mark.parametrize("jitter", [0, 2])
def test_sound_patterns_give_no_warning_without_reconstructions(units: str, photons: float, jitter: float) -> None:
    diagnosis = examine(ScanStream.of(simulated("lines", photons, units, jitter=jitter, seed=5)), reconstructions=False)
    assert warnings_of(diagnosis) == []
    with pytest.raises(KeyError):
        diagnosis.named("orientation")


@functools.cache
def drawn() -> np.ndarray:
    """An object of 100 x 100."""
    found = simulated(size=100).objectGuess
    assert found is not None
    return found


@pytest.fixture(scope="module")
def small() -> ScanFile:
    """Patterns of 32 x 32: eight reconstructions in a fraction of a second."""
    probe = zone_plate_probe(32, pupil_radius=7, defocus=1.3)
    x, y = raster_positions((100, 100), 32, 5, 1.5, np.random.default_rng(1))
    made = simulate_scan(drawn(), probe, x, y, 1e6, np.random.default_rng(2), "counts")
    return ScanFile(made.diffraction, x, y, made.probe, objectGuess=made.object, units="counts")


def sampler(scan: ScanFile) -> Sampler:
    stream = ScanStream.of(scan)
    return Sampler(stream, gather(stream), (0, 0), np.zeros(scan.diff3d.shape[1:], bool))


def probe_finding(test):
    return check_probe(test.given_probe, test.free_probe, test.noise)


def compared(scan: ScanFile):
    return compare_orientations(sampler(scan).middle())


@pytest.mark.parametrize("planted", some(ORIENTATIONS, 3), ids=lambda o: o.name)
def test_each_orientation_is_found_again(small: ScanFile, planted: Orientation) -> None:
    """The finding names what brings the axes back."""
    turned = np.ascontiguousarray(planted.patterns(small.diff3d))
    test = compared(replace(small, diff3d=turned))
    finding = check_orientation(test)
    if planted == ORIENTATIONS[0]:
        assert finding.severity == "ok"
        assert finding.numbers["margin"] > 1.3
    else:
        assert finding.severity == "fault"
        np.testing.assert_array_equal(test.ranking[0][0].patterns(turned), small.diff3d)
        assert finding.numbers["errors"]["as it is"] > 1.3 * test.ranking[0][1]
    assert probe_finding(test).severity == "ok"


def test_exchanged_and_mirrored_positions_are_found(small: ScanFile) -> None:
    """With a round probe, a mistaken position axis looks like the same mistake of the detector."""
    exchanged = check_orientation(compared(replace(small, xcoords=small.ycoords, ycoords=small.xcoords)))
    assert exchanged.numbers["best"] == "transpose"
    mirrored = check_orientation(compared(replace(small, xcoords=100 - small.xcoords)))
    assert mirrored.numbers["best"] == "flip-x"
    assert {exchanged.severity, mirrored.severity} == {"fault"}


def test_a_flat_probe_cannot_tell_a_half_turn(small: ScanFile) -> None:
    assert small.objectGuess is not None
    probe = gaussian_probe(32, 9)
    made = simulate_scan(
        small.objectGuess, probe, small.xcoords, small.ycoords, 1e6, np.random.default_rng(2), "counts"
    )
    finding = check_orientation(compared(replace(small, diff3d=made.diffraction, probeGuess=made.probe)))
    assert finding.numbers["half_turn_degenerate"]
    errors = finding.numbers["errors"]
    assert errors["flip-y+flip-x"] == pytest.approx(errors["as it is"], rel=0.1)
    assert finding.severity in ("ok", "note")


@pytest.mark.parametrize("probe", ["disk", "defocus"])
def test_a_probe_that_does_not_fit_is_told(small: ScanFile, probe: str) -> None:
    other = disk_probe(32) if probe == "disk" else zone_plate_probe(32, pupil_radius=7, defocus=2.6)
    finding = compare_probe(sampler(replace(small, probeGuess=other)).middle())
    assert finding.severity == "warning"
    assert "does not fit" in finding.sentence
    assert compare_probe(sampler(replace(small, probeGuess=7 * small.probeGuess)).middle()).severity == "ok"


def test_modes_and_masks_go_into_the_reconstructions(small: ScanFile) -> None:
    mask = np.ones((32, 32), bool)
    mask[10, 12:20] = False
    spoilt = np.where(mask, small.diff3d, 10**6)
    modes = np.stack([0.9 * small.probeGuess, 0.1 * np.roll(small.probeGuess, 1, 0)])
    test = compared(replace(small, diff3d=spoilt, mask=mask, probeGuess=modes))
    assert check_orientation(test).severity == "ok"
    assert test.given_probe.probe.shape == (2, 32, 32)


def enlarged(scan: ScanFile, factor: float) -> ScanFile:
    return replace(scan, xcoords=factor * scan.xcoords, ycoords=factor * scan.ycoords, objectGuess=None)


def rolled(scan: ScanFile, frames: int) -> ScanFile:
    """Pattern j gets the position that belongs to pattern j + frames."""
    return replace(scan, xcoords=np.roll(scan.xcoords, -frames), ycoords=np.roll(scan.ycoords, -frames))


@functools.cache
def along(path: str, jitter: float = 0.0, photons: float = 1e6) -> ScanFile:
    """A sound scan of 32 x 32 patterns along a path; rows without jitter go there and back."""
    probe = zone_plate_probe(32, pupil_radius=7, defocus=1.3)
    x, y = scan_positions(path, (100, 100), 32, 5, jitter, np.random.default_rng(1))
    if path == "raster" and not jitter:
        order = np.arange(len(x)).reshape(-1, len(np.unique(x)))
        order[1::2] = order[1::2, ::-1]
        x, y = x[order.ravel()], y[order.ravel()]
    shot = simulate_scan(drawn(), probe, x, y, photons, np.random.default_rng(2), "counts")
    return ScanFile(shot.diffraction, x, y, shot.probe, objectGuess=shot.object, units="counts")


@pytest.mark.parametrize(
    ("path", "factor"),
    [
        ("raster", 0.9),
        ("raster", 2.0),
        ("fermat", 1.1),
        ("fermat", 0.5),
        *(
            pytest.param(path, factor, marks=pytest.mark.slow)
            for path in ("raster", "spiral", "fermat")
            for factor in (0.8, 0.93, 1.07, 1.25)
        ),
    ],
)
def test_a_wrong_scale_of_the_positions_is_found(path: str, factor: float) -> None:
    test = rank_scales(sampler(enlarged(along(path, jitter=0.5), factor)).middle())
    finding = check_scale(test)
    assert finding.severity == "fault", finding.sentence
    assert finding.numbers["scale"] * factor == pytest.approx(1, abs=0.04)
    assert f"Multiply xcoords and ycoords by {test.scale:.3g}" in finding.sentence
    assert finding.numbers["error"] < 0.9 * finding.numbers["error_of_rival"]


def test_another_scale_has_to_explain_the_patterns_clearly() -> None:
    """What each condition of a finding is for, one at a time."""
    found = ScaleTest(
        scale=1.25,
        errors=((1.0, 0.02), (1.26, 0.003)),
        compared=(0.002, 0.02),
        deviations=30.0,
        trained_ratio=0.5,
        unexplained=0.02,
        excess=0.001,
        noise=0.1,
        overlap=0.7,
        patterns=60,
    )
    assert found.wrong
    assert check_scale(found).sentence.startswith("The positions are too small: 60 neighbouring patterns")
    assert "too large" in check_scale(replace(found, scale=0.8)).sentence
    for change in ({"scale": 1.05}, {"deviations": 3.0}, {"noise": 0.9}, {"overlap": 0.3}, {"trained_ratio": 1.5}):
        assert not replace(found, **change).wrong
        assert check_scale(replace(found, **change)).severity in ("ok", "note")
    assert replace(found, trained_ratio=1.5, unexplained=0.0).wrong
    noisy = replace(found, noise=0.5, overlap=0.68)  # 0.4 apart where 0.8 is best: exp(-0.06 - 4.5 0.5 0.4^3) = 0.815
    assert [replace(noisy, scale=scale).wrong for scale in (0.79, 0.83, 1.1)] == [True, False, True]
    assert "cannot be told" in check_scale(replace(noisy, scale=0.83)).sentence
    for change in ({"unexplained": 0.1}, {"excess": 0.02}):
        assert "Refine the probe" in check_scale(replace(found, **change)).sentence
    assert check_scale(replace(found, errors=())).sentence.startswith("Not tested")


@pytest.mark.parametrize("path", some(["raster", "raster and jitter", "spiral", "fermat"], 1))
@pytest.mark.parametrize("frames", [-1, 1])
def test_positions_a_frame_late_or_early_are_found(path: str, frames: int) -> None:
    sound = along(path.split()[0], jitter=1.5 * ("jitter" in path))
    spoilt = rolled(sound, frames)
    finding = check_shift(rank_shifts(sampler(spoilt), 1.0))
    assert finding.severity == "fault", finding.sentence
    assert finding.numbers["frames"] == -frames
    assert f"j {'-' if frames > 0 else '+'} 1" in finding.sentence
    assert finding.sentence.endswith(f"ptycho dataset move --frames={-frames}.")
    mended = move_positions(ScanStream.of(spoilt), frames=-frames).scan()  # what the sentence says
    kept = slice(1, None) if frames > 0 else slice(None, -1)
    np.testing.assert_array_equal(mended.xcoords, sound.xcoords[kept])
    np.testing.assert_array_equal(mended.diff3d, sound.diff3d[kept])


@pytest.mark.slow
def test_few_photons_at_a_wide_step_make_no_false_scale() -> None:
    """There the patterns kept back favour denser positions, here 0.91 times the true ones."""
    made = expose(*plan_scan(ScanSettings(kind="lines", shape=(180, 180), step=11, photons=1e4, seed=2)))
    scan = ScanFile(
        diff3d=made.diffraction,
        xcoords=made.xcoords,
        ycoords=made.ycoords,
        probeGuess=made.probe,
        units="amplitude",
    )
    test = rank_scales(sampler(scan).middle())
    assert test.scale < 0.95
    assert check_scale(test).severity == "note"


@pytest.mark.parametrize("path", some(["raster", "raster and jitter", "spiral", "fermat", "random"], 2))
def test_right_positions_are_called_right(path: str) -> None:
    scan = along(path.split()[0], jitter=1.5 * ("jitter" in path))
    scale, shift = rank_scales(sampler(scan).middle()), rank_shifts(sampler(scan), 1.0)
    assert check_scale(scale).severity in ("ok", "note")
    assert scale.scale == pytest.approx(1, abs=0.05)
    assert check_shift(shift).severity == "ok"
    assert check_shift(shift).numbers["frames"] == 0


def test_two_frames_are_found_with_what_to_leave_out() -> None:
    scan = along("fermat")
    n = len(scan.xcoords)
    finding = check_shift(rank_shifts(sampler(rolled(scan, -2)), 1.0))
    assert finding.numbers["frames"] == 2
    assert finding.mend == ("move --frames=2",)
    mended = move_positions(ScanStream.of(rolled(scan, -2)), frames=2).scan()
    np.testing.assert_array_equal(mended.ycoords, scan.ycoords[: n - 2])


def test_what_cannot_be_told_of_positions_is_not_guessed(small: ScanFile) -> None:
    """A wrong probe, few photons, few points, points in one place: a note each time."""
    noisy = along("raster", photons=200)
    pieces = [
        replace(small, probeGuess=disk_probe(32)),
        noisy,
        replace(noisy, xcoords=np.roll(noisy.xcoords, 1), ycoords=np.roll(noisy.ycoords, 1)),
        replace(small, diff3d=small.diff3d[:10], xcoords=small.xcoords[:10], ycoords=small.ycoords[:10]),
        replace(small, xcoords=0 * small.xcoords + 50, ycoords=0 * small.ycoords + 50),
    ]
    for scan in pieces[:2] + pieces[3:]:
        assert check_scale(rank_scales(sampler(scan).middle())).severity == "note"
    for scan in pieces[1:]:
        assert check_shift(rank_shifts(sampler(scan), 1.0)).severity == "note"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "name"), [(lambda s: enlarged(s, 0.8), "position scale"), (lambda s: rolled(s, 1), "frame shift")]
)
def test_axes_and_probe_are_told_with_the_positions_mended(plant: Callable[[ScanFile], ScanFile], name: str) -> None:
    """One fault is one fault: nothing else is called wrong because of it."""
    diagnosis = examine(ScanStream.of(plant(simulated_small())))
    found = {finding.name: finding.severity for finding in diagnosis.findings}
    assert found[name] == "fault"
    assert found["orientation"] == found["probe"] == "ok"
    json.dumps(diagnosis.as_dict(), allow_nan=False)


def test_mistaken_axes_leave_the_positions_untested(small: ScanFile) -> None:
    turned = np.ascontiguousarray(small.diff3d.swapaxes(1, 2))
    findings, test = examine_sample(sampler(replace(small, diff3d=turned)))
    assert test.mistaken
    assert [finding.name for finding in findings] == ["orientation", "probe"]


def test_patterns_kept_back_are_foretold_by_the_right_positions_only(small: ScanFile) -> None:
    """Drawn apart, patterns explain themselves ever better and foretell each other ever worse."""
    sample = sampler(small).middle()
    kept_back = inner_points(sample.xcoords, sample.ycoords)
    right, apart = (foretell(scaled(sample, factor), kept_back, 12, refine_probe=False) for factor in (1.0, 4.0))
    assert right.squares.shape == (kept_back.sum(), 32, 32)
    assert right.flat > 3 * right.error > 3 * right.excess > 0
    assert apart.error > apart.flat > 2 * apart.trained
    assert significance(apart.squares, right.squares) > 10
    assert significance(right.squares, right.squares) == 0


def test_inner_points_are_surrounded_and_take_turns() -> None:
    x, y = (grid.ravel().astype(float) for grid in np.meshgrid(np.arange(5), np.arange(7)))
    turns = [inner_points(x, y, first) for first in range(3)]
    assert np.array_equal(sum(turn.astype(int) for turn in turns) > 0, np.logical_or.reduce(turns))
    assert sum(turn.sum() for turn in turns) == np.logical_or.reduce(turns).sum() == 21
    assert not any(turn[[0, 4, 30, 34]].any() for turn in turns)


def test_uneven_places_are_the_ends_of_lines() -> None:
    """Row by row from left to right: steps are even but from the last column and to the first."""
    x, y = (grid.ravel().astype(float) for grid in np.meshgrid(5.0 * np.arange(14), 5.0 * np.arange(9)))
    regions = uneven_places(x, y, 12.0)
    assert [len(region) for region in regions] == [25, 25]
    assert x[regions[0]].max() == 65
    assert x[regions[1]].min() == 0
    assert uneven_places(x[:14], y[:14], 12.0) == []  # a straight line shows nothing
    assert uneven_places(x[:15], y[:15], 12.0) == []  # too few


def test_a_neighbourhood_is_contiguous_and_in_scan_order() -> None:
    x, y = (grid.ravel().astype(float) for grid in np.meshgrid(np.arange(20), np.arange(20)))
    chosen = neighbourhood(x, y, 9)
    assert np.all(np.diff(chosen) > 0)
    assert np.ptp(x[chosen]) == np.ptp(y[chosen]) == 2
    assert len(neighbourhood(x[:1], y[:1], 9)) == 1


def test_small_scans_are_examined_too(sound: ScanFile) -> None:
    one = replace(sound, diff3d=sound.diff3d[:1], xcoords=sound.xcoords[:1], ycoords=sound.ycoords[:1])
    diagnosis = examine(ScanStream.of(one))
    assert diagnosis.named("overlap").severity == "fault"
    assert diagnosis.named("order").severity == "note"
    json.dumps(diagnosis.as_dict())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "margin"), [("siemens_star_128", 1.25), ("tungsten_64", 2.0)])
def test_real_scans_have_the_right_axes_and_a_probe_to_refine(scan_dir: Path, name: str, margin: float) -> None:
    stream = open_scan(scan_dir / f"{name}.npz")
    diagnosis = examine(stream)
    assert warnings_of(diagnosis) == ["probe"]
    assert diagnosis.named("orientation").numbers["best"] == "as it is"
    assert diagnosis.named("orientation").numbers["margin"] > margin
    assert "refine the probe" in diagnosis.named("probe").sentence
    assert diagnosis.named("position scale").severity == "note"  # the probe is not good enough to tell
    assert diagnosis.named("frame shift").severity == "ok"


@pytest.mark.slow
def test_a_frame_is_found_in_the_tungsten(scan_dir: Path) -> None:
    stream = open_scan(scan_dir / "tungsten_64.npz")
    diagnosis = examine(replace(stream, fields=rolled(stream.fields, 1)))
    assert diagnosis.named("frame shift").numbers["frames"] == -1
    assert diagnosis.named("orientation").severity == "ok"


@pytest.mark.slow
def test_a_frame_is_found_in_the_star(scan_dir: Path) -> None:
    """In the other direction, and without the other questions of the doctor."""
    stream = open_scan(scan_dir / "siemens_star_128.npz")
    stream = replace(stream, fields=rolled(stream.fields, -1))
    mask = np.zeros(stream.fields.diff3d.shape[1:], bool)
    finding = check_shift(rank_shifts(Sampler(stream, gather(stream), (0, 0), mask), 1.0))
    assert finding.severity == "fault"
    assert finding.numbers["frames"] == 1


def test_a_scan_without_a_probe_is_examined_as_far_as_it_goes(sound: ScanFile) -> None:
    diagnosis = examine(ScanStream.of(replace(sound, probeGuess=None)))
    assert warnings_of(diagnosis) == []
    assert [finding.name for finding in diagnosis.findings][-1] == "probe"
    assert "has no probe: order, overlap" in diagnosis.named("probe").sentence
    assert diagnosis.named("dose").numbers["photons_per_pattern"] == pytest.approx(1e6, rel=0.05)
    moved = np.roll(sound.diff3d, 12, axis=-1)
    off = examine(ScanStream.of(replace(sound, probeGuess=None, diff3d=moved))).named("centre")
    assert (off.severity, round(off.numbers["dx"]), off.numbers["likeness"]) == ("fault", 12, None)


def test_a_regular_raster_is_named_and_others_are_not() -> None:
    regular, varied = (simulated(size=100, N=32, step=5, jitter=jitter) for jitter in (0, 1.5))
    named = {one.name: one for one in examine(ScanStream.of(regular), reconstructions=False).findings}
    assert "a regular raster with steps of 5 x 5 pixels" in named["raster"].sentence
    assert named["raster"].severity == "note"
    found = examine(ScanStream.of(varied), reconstructions=False).findings
    assert all(one.name != "raster" for one in found)
