"""The exposure: dose, truth on file, streaming, masks, position errors."""

import dataclasses
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.probes import zone_plate_probe
from ptycho.core.scan.npz_file import read_scan
from ptycho.core.scan.scan import check_shapes, check_values
from ptycho.core.simulation.exposure import ScanPlan, expose, expose_to_file
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData

EVERYTHING = ScanSettings(
    kind="dead_leaves",
    object_settings={"radii": (4.0, 12.0)},
    shape=(84, 92),
    probe_settings={"aberrations": {5: 0.4}},
    modes=(0.7, 0.3),
    path="fermat",
    step=4.0,
    jitter=0.5,
    position_error=0.6,
    photons=2e4,
    units="counts",
    gap_width=2,
    gap_offset=9,
    bad_pixels=0.01,
    beam_stop=3.0,
    seed=12,
)


def written(folder: Path, settings: ScanSettings, **options: Any) -> Path:
    return expose_to_file(*plan_scan(settings), folder / "scan.npz", {"simulation": {"seed": settings.seed}}, **options)


def test_the_expected_dose_per_pattern_is_what_was_asked() -> None:
    scan = expose(*plan_scan(dataclasses.replace(EVERYTHING, position_error=0.0, noise=False)))
    patches, dx, dy = extract_rounded(scan.object, scan.xcoords, scan.ycoords, 64)
    expected = diffract(scan.probe.astype(np.complex128), patches, dx, dy)
    assert expected.sum(axis=(1, 2)).mean() == pytest.approx(2e4, rel=1e-6)
    assert scan.diffraction.dtype == np.float32
    np.testing.assert_allclose(scan.diffraction, expected * scan.mask, rtol=1e-5, atol=1e-4)


def test_a_background_comes_to_every_frame_beside_the_dose_and_not_where_it_is_masked() -> None:
    plain = dataclasses.replace(EVERYTHING, position_error=0.0, noise=False)
    bare, lit = (expose(*plan_scan(dataclasses.replace(plain, background=counts))) for counts in (0.0, 2.5))
    np.testing.assert_allclose(lit.diffraction, bare.diffraction + 2.5 * lit.mask, rtol=1e-5, atol=1e-4)
    assert lit.photons == bare.photons
    assert lit.recorded == pytest.approx(bare.recorded + 2.5 * lit.mask.sum())
    np.testing.assert_array_equal(lit.probe, bare.probe)


def test_a_background_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="background: expected 0 or more counts per pixel, found -1"):
        plan_scan(dataclasses.replace(EVERYTHING, background=-1.0))
    plan, _ = plan_scan(EVERYTHING)
    for bad in (np.ones((3, 3)), np.full((64, 64), -1.0), np.full((64, 64), np.inf)):
        with pytest.raises(DataError, match=r"background: expected \(64, 64\) finite counts, none below 0"):
            dataclasses.replace(plan, background=bad)


def test_counted_photons_scatter_about_the_dose() -> None:
    scan = expose(*plan_scan(ScanSettings(shape=(84, 84), step=3.0, photons=1e4, units="counts")))
    n = len(scan.xcoords)
    assert n == 49
    assert scan.diffraction.sum() / n == pytest.approx(1e4, abs=5 * np.sqrt(1e4 / n))
    assert len(np.unique(scan.diffraction.sum(axis=(1, 2)))) > 40


def test_a_file_holds_what_an_exposure_in_memory_gives(tmp_path: Path) -> None:
    scan = expose(*plan_scan(EVERYTHING))
    stored = read_scan(written(tmp_path, EVERYTHING))
    check_shapes(stored)
    check_values(stored)
    np.testing.assert_array_equal(stored.diff3d, scan.diffraction)
    np.testing.assert_array_equal(stored.probeGuess, scan.probe)
    np.testing.assert_array_equal(stored.objectGuess, scan.object)
    np.testing.assert_array_equal(stored.mask, scan.mask)
    np.testing.assert_array_equal(stored.xcoords, scan.xcoords)
    np.testing.assert_array_equal(stored.ycoords_start, scan.ycoords_true)
    assert stored.diff3d.dtype == np.uint32
    assert (stored.units, stored.metadata) == ("counts", {"nphotons": scan.recorded, "simulation": {"seed": 12}})


def test_the_photons_that_a_scan_tells_are_those_of_valid_pixels() -> None:
    whole, masked = (
        expose(*plan_scan(dataclasses.replace(EVERYTHING, noise=False, **change)))
        for change in ({"gap_width": 0, "bad_pixels": 0.0, "beam_stop": 0.0}, {})
    )
    n = len(masked.diffraction)
    assert whole.recorded == whole.photons == masked.photons == 2e4
    assert masked.recorded == pytest.approx(masked.diffraction.sum(dtype=np.float64) / n, rel=1e-5)
    assert masked.recorded < 0.97 * 2e4
    np.testing.assert_allclose(whole.probe, masked.probe, rtol=1e-5)


def test_a_mask_that_leaves_no_light_is_refused() -> None:
    dark = np.zeros((64, 64), bool)
    plan = ScanPlan(np.ones((80, 80)), zone_plate_probe(64), np.array([40.0]), np.array([40.0]), 1e4, mask=dark)
    with pytest.raises(DataError, match="expected valid pixels with light"):
        expose(plan, np.random.default_rng(0))


def test_blocks_on_the_way_to_the_file_do_not_change_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptycho.core import scaling

    whole = written(tmp_path, EVERYTHING).read_bytes()
    monkeypatch.setattr(scaling, "_BLOCK_PIXELS", 7 * 64 * 64)
    assert written(tmp_path, EVERYTHING).read_bytes() == whole


def test_raw_data_reads_every_kind_of_scan(tmp_path: Path) -> None:
    for change in ({}, {"units": "amplitude"}, {"noise": False}, {"noise": False, "units": "amplitude"}):
        settings = dataclasses.replace(EVERYTHING, **change)
        scan = RawData.from_file(written(tmp_path, settings))
        assert scan.units == settings.units
        assert scan.mask is not None
        assert not scan.diff3d[:, ~scan.mask].any()
        assert 0.001 < np.mean(~scan.mask) < 0.1


def test_the_truth_can_be_left_out(tmp_path: Path) -> None:
    assert read_scan(written(tmp_path, EVERYTHING, truth=False)).objectGuess is None


def test_a_position_error_moves_the_probe_and_not_what_the_scan_says() -> None:
    right, wrong = (plan_scan(dataclasses.replace(EVERYTHING, position_error=e))[0] for e in (0.0, 0.6))
    np.testing.assert_array_equal(right.xcoords, wrong.xcoords)
    assert right.xcoords_true is None
    assert wrong.xcoords_true is not None
    assert np.std(wrong.xcoords_true - wrong.xcoords) == pytest.approx(0.6, abs=0.15)
    exact = dataclasses.replace(wrong, noise=False, mask=None)
    scan = expose(exact, np.random.default_rng(0))
    patches, dx, dy = extract_rounded(exact.object, *exact.true_positions, 64)
    expected = diffract(scan.probe.astype(np.complex128), patches, dx, dy)
    np.testing.assert_allclose(scan.diffraction, expected, rtol=1e-5, atol=1e-4)


def test_true_positions_reach_the_file_as_positions_of_the_start(tmp_path: Path) -> None:
    scan = RawData.from_file(written(tmp_path, EVERYTHING))
    plan, _ = plan_scan(EVERYTHING)
    np.testing.assert_array_equal(scan.xcoords_start, plan.xcoords_true)
    assert np.abs(scan.xcoords_start - scan.xcoords).max() > 0.6


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"photons": 1e6}, ("object", "xcoords", "xcoords_true", "mask")),
        ({"step": 6.0}, ("object", "mask")),
        ({"bad_pixels": 0.02}, ("object", "xcoords", "xcoords_true")),
        ({"position_error": 0.1}, ("object", "xcoords", "mask")),
    ],
)
def test_parts_have_random_numbers_of_their_own(change: dict, kept: tuple[str, ...]) -> None:
    first, other = (plan_scan(settings)[0] for settings in (EVERYTHING, dataclasses.replace(EVERYTHING, **change)))
    for name in kept:
        np.testing.assert_array_equal(getattr(first, name), getattr(other, name))


def test_memory_does_not_grow_with_the_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptycho.core import scaling

    monkeypatch.setattr(scaling, "_BLOCK_PIXELS", 16 * 64 * 64)
    peaks = []
    for count in (64, 512):
        plan, rng = plan_scan(ScanSettings(shape=(96, 96), path="random", count=count, units="counts", photons=1e4))
        tracemalloc.start()
        expose_to_file(plan, rng, tmp_path / "scan.npz", {})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (tmp_path / "scan.npz").stat().st_size > 512 * 64 * 64 * 4
    assert peaks[1] - peaks[0] < 0.1 * 448 * 64 * 64 * 4


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"photons": -1.0}, ConfigError, "found -1"),
        ({"xcoords_true": np.zeros(2)}, DataError, r"true positions: expected shape \(1,\) as xcoords, found \(2,\)"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(change: dict, error: type[Exception], words: str) -> None:
    plan = {"object": np.ones((80, 80)), "probe": zone_plate_probe(64), "photons": 1e4}
    with pytest.raises(error, match=words):
        ScanPlan(**{**plan, "xcoords": np.array([40.0]), "ycoords": np.array([40.0]), **change})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (ScanSettings(step=3.0, overlap=0.5), r"one of step, overlap and count, found step=3.0, overlap=0.5"),
        (ScanSettings(seed=-1), "found -1"),
        (ScanSettings(N=34), r"prime factor above 13 .*64, 128, 256\), found 34; for example 36"),
        (ScanSettings(shape=(80, 80), photons=1e15), r"below 2\^31"),
    ],
)
def test_nothing_is_left_of_a_scan_that_cannot_be(settings: ScanSettings, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        written(tmp_path, settings)
    assert list(tmp_path.iterdir()) == []
