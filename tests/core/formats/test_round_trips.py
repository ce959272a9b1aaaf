"""What is written comes back, in every format and from each into every other, as far as it can hold it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.core.formats import registry
from ptycho.core.formats.merging import merged
from ptycho.core.formats.record import ScanRecord, completed, in_metres
from ptycho.core.scan.stream import Frames
from ptycho.errors import DataError, OutputError

PATTERNS, POSITIONS, RESULT, GEOMETRY, INDEXES = "patterns", "positions", "result", "geometry", "indexes"
HOLDS = {
    "scan": {PATTERNS, POSITIONS, RESULT, GEOMETRY, INDEXES},
    "ptychodus-product": {POSITIONS, RESULT, GEOMETRY, INDEXES},
    "ptychodus-product-npz": {POSITIONS, RESULT, GEOMETRY, INDEXES},
    "ptychodus-training": {PATTERNS, RESULT, GEOMETRY},
    "ptychodus-diffraction": {PATTERNS, INDEXES},
    "cxi": {PATTERNS, POSITIONS, RESULT, GEOMETRY, INDEXES},
    "nexus": {PATTERNS, POSITIONS, RESULT, GEOMETRY, INDEXES},
    "ptyd": {PATTERNS, POSITIONS, GEOMETRY, INDEXES},
}
"""Training data have positions too, but about the centre of the object: `test_training_data_keep_pixels`."""


def loaded(stack: Frames | None) -> np.ndarray:
    assert stack is not None
    return stack.read(np.arange(len(stack)))


def assert_same(found: ScanRecord, expected: ScanRecord, parts: set[str]) -> None:
    if PATTERNS in parts:
        np.testing.assert_array_equal(loaded(found.patterns), loaded(expected.patterns))
        assert found.patterns is not None
        assert found.patterns.dtype in (np.uint16, np.int32)
        assert found.units == "counts"
        np.testing.assert_array_equal(found.mask, expected.mask)
    if POSITIONS in parts:
        ours, theirs = in_metres(found, "test"), in_metres(expected, "test")
        np.testing.assert_allclose(ours.xcoords, theirs.xcoords, rtol=1e-14)
        np.testing.assert_allclose(ours.ycoords, theirs.ycoords, rtol=1e-14)
    if RESULT in parts:
        for part in ("probe", "object"):
            np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
            assert getattr(found, part).dtype == np.complex64
    if GEOMETRY in parts:
        found = completed(found)
        for name in ("energy_eV", "distance_m", "detector_pixel_m", "object_pixel_m"):
            assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-14), name
    if INDEXES in parts:
        np.testing.assert_array_equal(found.indexes, expected.indexes)


@pytest.mark.parametrize("name", HOLDS)
def test_what_is_written_comes_back(name: str, full: ScanRecord, tmp_path: Path) -> None:
    registry.write(tmp_path / "file", full, name)
    assert registry.recognise(tmp_path / "file").name == name
    found = registry.read(tmp_path / "file")
    assert_same(found, full, HOLDS[name])
    assert found.patterns is None or found.patterns.dtype == (np.int32 if name in ("cxi", "nexus") else np.uint16)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("first", [name for name in HOLDS if name != "ptychodus-diffraction"])
def test_from_each_format_into_every_other(first: str, full: ScanRecord, tmp_path: Path) -> None:
    """Through two files, with a product beside a file that has no probe and patterns beside one that has none."""
    registry.write(tmp_path / "first", full, first)
    record = registry.read(tmp_path / "first")
    if record.patterns is None:
        registry.write(tmp_path / "patterns", full, "ptychodus-diffraction")
        record = merged(registry.read(tmp_path / "patterns"), record)
    if record.probe is None:
        registry.write(tmp_path / "product", full, "ptychodus-product")
        record = merged(record, registry.read(tmp_path / "product"))
    lost = {POSITIONS, INDEXES} if first == "ptychodus-training" else set()
    for second, parts in HOLDS.items():
        registry.write(tmp_path / "second", record, second)
        assert_same(registry.read(tmp_path / "second"), full, parts - lost)


@pytest.mark.parametrize("name", ["scan", "ptychodus-product", "ptychodus-training", "cxi", "nexus"])
def test_pixels_of_the_object_stay(name: str, full: ScanRecord, tmp_path: Path) -> None:
    registry.write(tmp_path / "file", full, name)
    found = registry.read(tmp_path / "file")
    assert found.position_unit == "px"
    np.testing.assert_allclose(found.xcoords, full.xcoords, atol=1e-13)
    np.testing.assert_allclose(found.ycoords, full.ycoords, atol=1e-13)


def test_what_only_a_scan_knows_stays_in_a_scan(full: ScanRecord, tmp_path: Path, rng: np.random.Generator) -> None:
    assert full.xcoords is not None
    assert full.ycoords is not None
    truth = Frames.of((rng.random((5, 8, 8)) * 1j).astype(np.complex64))
    told = {"nphotons": 576.0, "sample": "chip", "steps": [1, 2]}
    starts = {"xcoords_start": full.xcoords + 0.5, "ycoords_start": full.ycoords - 0.25}
    scan = replace(full, true_patches=truth, scan_index=np.array([0, 0, 1, 1, 1]), metadata=told, **starts)
    registry.write(tmp_path / "scan.npz", scan)
    found = registry.read(tmp_path / "scan.npz")
    np.testing.assert_array_equal(loaded(found.true_patches), loaded(truth))
    for name in ("scan_index", *starts):
        np.testing.assert_array_equal(getattr(found, name), getattr(scan, name))
    assert found.metadata == told
    assert found.origin_px == (30.5, -12.25)


@pytest.mark.parametrize("name", ["cxi", "nexus", "ptyd", "scan"])
def test_a_mask_of_every_pattern(name: str, full: ScanRecord, tmp_path: Path, rng: np.random.Generator) -> None:
    full = replace(full, mask=rng.random((5, 8, 8)) > 0.2)
    registry.write(tmp_path / "file", full, name)
    np.testing.assert_array_equal(registry.read(tmp_path / "file").mask, full.mask)


@pytest.mark.parametrize("name", ["ptychodus-diffraction", "ptychodus-training"])
def test_one_mask_for_all_is_bad_where_any_is(name: str, full: ScanRecord, tmp_path: Path) -> None:
    mask = np.ones((5, 8, 8), bool)
    mask[1, 2, 3] = mask[4, 5, 6] = False
    registry.write(tmp_path / "file", replace(full, mask=mask), name)
    found = registry.read(tmp_path / "file").mask
    assert found is not None
    assert np.argwhere(~found).tolist() == [[2, 3], [5, 6]]


@pytest.mark.parametrize("name", ["ptychodus-diffraction", "ptychodus-training", "cxi", "nexus", "ptyd"])
def test_amplitudes_are_written_as_counts(name: str, full: ScanRecord, tmp_path: Path) -> None:
    counts = loaded(full.patterns)
    amplitudes = Frames.of(np.sqrt(counts).astype(np.float32))
    for units in ("amplitude", None):
        registry.write(tmp_path / "file", replace(full, patterns=amplitudes, units=units), name)
        found = loaded(registry.read(tmp_path / "file").patterns)
        assert found.dtype == (np.int32 if name in ("cxi", "nexus") else np.float32)
        np.testing.assert_allclose(found, counts, rtol=3e-7)


def test_amplitudes_stay_amplitudes_in_a_scan(full: ScanRecord, tmp_path: Path) -> None:
    amplitudes = np.sqrt(loaded(full.patterns)).astype(np.float32)
    registry.write(tmp_path / "scan.npz", replace(full, patterns=Frames.of(amplitudes), units=None))
    found = registry.read(tmp_path / "scan.npz")
    assert found.units == "amplitude"
    np.testing.assert_array_equal(loaded(found.patterns), amplitudes)


def test_the_writers_repeat_their_bytes(full: ScanRecord, tmp_path: Path) -> None:
    for name in HOLDS:
        for target in ("a", "b"):
            registry.write(tmp_path / target, full, name)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes(), name


def test_product_has_every_spelling(full: ScanRecord, tmp_path: Path) -> None:
    registry.write(tmp_path / "product.h5", full, "ptychodus-product")
    with h5py.File(tmp_path / "product.h5") as file:
        assert file.attrs["photon_energy_eV"] == file.attrs["probe_energy_eV"] == full.energy_eV
        assert {"mass_attenuation_m2_per_kg", "mass_attenuation_m2_kg", "exposure_time_s"} <= set(file.attrs)
        assert dict(file["object"].attrs.items()) == {
            "pixel_width_m": 1e-7,
            "pixel_height_m": 1e-7,
            "center_x_m": pytest.approx((30.5 + 9) * 1e-7),
            "center_y_m": pytest.approx((-12.25 + 10.5) * 1e-7),
        }
        assert sorted(file["probe"].attrs) == ["pixel_height_m", "pixel_width_m"]
        assert file["probe"].shape == (1, 2, 8, 8)
        assert file["object"].shape == (1, 21, 18)
        assert not any(name.startswith(("object_pixel", "probe_pixel")) for name in file.attrs)


def test_a_product_without_an_object_has_vacuum_and_says_so(full: ScanRecord, tmp_path: Path) -> None:
    registry.write(tmp_path / "product.h5", replace(full, object=None), "ptychodus-product")
    found = registry.read(tmp_path / "product.h5")
    assert found.object is not None
    np.testing.assert_array_equal(found.object, 1)
    assert found.metadata["comments"] == "by hand No object known: 1 everywhere."
    assert_same(found, full, {POSITIONS})


def test_nexus_says_its_classes(full: ScanRecord, tmp_path: Path) -> None:
    registry.write(tmp_path / "scan.nxs", full)
    with h5py.File(tmp_path / "scan.nxs") as file:
        assert file["entry_1/definition"].asstr()[()] == "NXcxi_ptycho"
        assert file.attrs["default"] == "entry_1"
        assert file["entry_1"].attrs["NX_class"] == "NXentry"
        assert file["entry_1/data_1"].attrs["NX_class"] == "NXdata"
        assert file["entry_1/data_1/data"].shape == (5, 8, 8)
        for axis, column in (("x", 0), ("y", 1)):
            motor = file[f"entry_1/data_1/{axis}"]
            np.testing.assert_array_equal(motor[()], file["entry_1/sample_1/geometry_1/translation"][:, column])
            assert motor.attrs["units"] == "m"
        for name in ("distance", "x_pixel_size", "y_pixel_size", "beam_center_x"):
            assert file[f"entry_1/instrument_1/detector_1/{name}"].attrs["units"] == "m"


def test_cxi_is_version_1_6_and_puts_the_beam_on_the_middle_pixel(full: ScanRecord, tmp_path: Path) -> None:
    registry.write(tmp_path / "scan.cxi", full)
    with h5py.File(tmp_path / "scan.cxi") as file:
        assert file["cxi_version"][()] == 160
        detector = file["entry_1/instrument_1/detector_1"]
        corner, axes = detector["corner_position"][()], detector["basis_vectors"][()]
        np.testing.assert_allclose(corner + axes.T @ [4.5, 4.5], [0, 0, 0.8], atol=1e-18)
        assert file["entry_1/instrument_1/source_1/energy"][()] == pytest.approx(12398.41984332 * 1.602176634e-19)
        assert detector["mask"].dtype == np.uint32
        assert np.argwhere(detector["mask"][()] == 1).tolist() == [[3, 6]]


def test_ptyd_positions_are_rows_first(full: ScanRecord, tmp_path: Path) -> None:
    registry.write(tmp_path / "scan.ptyd", full)
    with h5py.File(tmp_path / "scan.ptyd") as file:
        np.testing.assert_allclose(file["chunks/0/positions"][0], [(4 - 12.25) * 1e-7, (4 + 30.5) * 1e-7], rtol=1e-14)
        assert file["meta/energy"][()] == pytest.approx(12.39841984332)
        assert file["chunks/0/weights"].shape == (0,)
        np.testing.assert_array_equal(file["meta/weight2d"][()], full.mask)


@pytest.mark.parametrize(
    ("name", "field", "message"),
    [
        ("ptychodus-product", "energy_eV", "ptychodus product file needs the energy.*--energy-keV"),
        ("ptychodus-product", "distance_m", "ptychodus product file needs the distance.*--distance-m"),
        ("ptychodus-product", "probe", "ptychodus product file needs a probe.*further input file"),
        ("ptychodus-diffraction", "patterns", "ptychodus diffraction file needs diffraction patterns"),
        ("ptychodus-training", "object", "ptychodus training data file needs an object"),
        ("cxi", "energy_eV", "CXI file needs the energy.*--energy-keV"),
        ("nexus", "xcoords", "NeXus NXcxi_ptycho file needs scan positions"),
        ("ptyd", "distance_m", "ptypy data file needs the distance.*--distance-m"),
    ],
)
def test_what_is_missing_is_named(name: str, field: str, message: str, full: ScanRecord, tmp_path: Path) -> None:
    gone = {"xcoords": ("xcoords", "ycoords")}.get(field, (field,))
    record = replace(full, **dict.fromkeys(gone))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        registry.write(tmp_path / "file", record, name)
    assert list(tmp_path.iterdir()) == []


def test_a_pixel_size_follows_from_three_numbers_or_is_asked_for(full: ScanRecord, tmp_path: Path) -> None:
    record = replace(full, object_pixel_m=None)
    registry.write(tmp_path / "product.h5", record, "ptychodus-product")
    assert registry.read(tmp_path / "product.h5").object_pixel_m == pytest.approx(1e-7, rel=1e-14)
    with pytest.raises(DataError, match=r"object pixel.*--object-pixel-nm"):
        registry.write(tmp_path / "other.h5", replace(record, detector_pixel_m=None), "ptychodus-product")


def test_a_geometry_that_contradicts_itself(full: ScanRecord, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected 1e-07 m from 12398\.4 eV, 0\.8 m .* found 1\.1e-07 m; say which"):
        registry.write(tmp_path / "scan.cxi", replace(full, object_pixel_m=1.1e-7))


@pytest.mark.parametrize("name", HOLDS)
def test_a_failed_write_leaves_nothing(name: str, full: ScanRecord, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="expected the folder"):
        registry.write(tmp_path / "gone" / "file", full, name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_may_be_converted_into_itself(full: ScanRecord, tmp_path: Path, command: Callable[..., int]) -> None:
    registry.write(tmp_path / "scan", full, "scan")
    assert command(tmp_path / "scan", tmp_path / "scan", "--to", "cxi") == 0
    assert_same(registry.read(tmp_path / "scan"), full, HOLDS["cxi"])
