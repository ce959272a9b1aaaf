"""The committed files, laid out as other programs do, give the scan that was put into them."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest

from ptycho.core.formats.record import ScanRecord, completed, in_metres, in_pixels
from ptycho.core.formats.registry import read, recognise
from ptycho.core.physics.near_field import NearField

X_PX, Y_PX = np.array([4.0, 10.5, 4.25, 11.0]), np.array([4.0, 4.0, 8.0, 7.5])
X_M, Y_M = np.array([1.65, 2.3, 1.675, 2.35]) * 1e-6, np.array([-1.2, -1.2, -0.8, -0.85]) * 1e-6

FORMATS = {
    "legacy.npz": "scan",
    "product.h5": "ptychodus-product",
    "product_1_2.h5": "ptychodus-product",
    "product.npz": "ptychodus-product-npz",
    "diffraction.h5": "ptychodus-diffraction",
    "training.h5": "ptychodus-training",
    "scan.cxi": "cxi",
    "scan.nxs": "nexus",
    "raster.nxs": "nxdata",
    "scan.ptyd": "ptyd",
}
IN_METRES = ("scan.cxi", "scan.nxs", "scan.ptyd")
PRODUCTS = ("product.h5", "product_1_2.h5", "product.npz")


def patterns() -> np.ndarray:
    """Frame j has the number 100 j + 8 row + column in each pixel."""
    return np.fromfunction(lambda j, r, c: 100 * j + 8 * r + c, (4, 8, 8))


def loaded(record: ScanRecord) -> np.ndarray:
    assert record.patterns is not None
    return record.patterns.read(np.arange(len(record.patterns)))


def script() -> ModuleType:
    file = Path(__file__).parents[3] / "scripts" / "make_format_fixtures.py"
    spec = importlib.util.spec_from_file_location("make_format_fixtures", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_makes_what_is_committed(golden: Path, tmp_path: Path) -> None:
    assert script().main(tmp_path) == 0
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in golden.iterdir()} == set(FORMATS)
    for made in tmp_path.iterdir():
        if made.suffix == ".npz":
            with np.load(made) as ours, np.load(golden / made.name) as theirs:
                assert ours.files == theirs.files
                for key in ours.files:
                    np.testing.assert_array_equal(ours[key], theirs[key], err_msg=f"{made.name} {key}")
            continue
        with h5py.File(made) as ours, h5py.File(golden / made.name) as theirs:
            names: list[str] = []
            ours.visit(names.append)
            for name in names:
                assert sorted(ours[name].attrs) == sorted(theirs[name].attrs)
                if isinstance(ours[name], h5py.Dataset):
                    np.testing.assert_array_equal(ours[name][()], theirs[name][()], err_msg=f"{made.name} {name}")


@pytest.mark.parametrize(("name", "expected"), FORMATS.items())
def test_content_tells_the_format_whatever_the_name(name: str, expected: str, golden: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "file.dat"
    renamed.write_bytes((golden / name).read_bytes())
    assert recognise(renamed).name == expected


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in (*PRODUCTS, "diffraction.h5", "legacy.npz")])
def test_patterns_are_counts(name: str, golden: Path) -> None:
    record = read(golden / name)
    assert record.units == "counts"
    np.testing.assert_array_equal(loaded(record), patterns())


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("diffraction.h5", "legacy.npz")])
def test_geometry(name: str, golden: Path) -> None:
    """1e-10 m * 0.8 m / (8 * 1e-4 m) = 1e-7 m."""
    record = completed(read(golden / name))
    assert record.energy_eV == pytest.approx(12398.4198433, rel=1e-14)
    assert record.distance_m == pytest.approx(0.8, rel=1e-14)
    assert record.detector_pixel_m == pytest.approx(1e-4, rel=1e-11)
    assert record.object_pixel_m == pytest.approx(1e-7, rel=1e-11)


@pytest.mark.parametrize("name", IN_METRES)
def test_positions_in_metres(name: str, golden: Path) -> None:
    """Whatever unit, order and sign the file has them in."""
    record = read(golden / name)
    assert record.position_unit == "m"
    np.testing.assert_allclose(record.xcoords, X_M, rtol=1e-12)
    np.testing.assert_allclose(record.ycoords, Y_M, rtol=1e-12)


@pytest.mark.parametrize("name", IN_METRES)
def test_metres_become_pixels_of_the_smallest_frame(name: str, golden: Path) -> None:
    """x: 16.5 px - 4 = 12.5 is in the middle of pixel 12; y: -12 px - 4 = -16 is whole."""
    record = in_pixels(read(golden / name), "test")
    assert record.origin_px == (12.0, -16.0)
    np.testing.assert_allclose(record.xcoords, [4.5, 11.0, 4.75, 11.5], atol=1e-8)
    np.testing.assert_allclose(record.ycoords, [4.0, 4.0, 8.0, 7.5], atol=1e-8)


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_every_version_have_pixels_of_their_object(name: str, golden: Path) -> None:
    record = read(golden / name)
    np.testing.assert_allclose(record.xcoords, X_PX, atol=1e-12)
    np.testing.assert_allclose(record.ycoords, Y_PX, atol=1e-12)
    assert record.origin_px == pytest.approx((12.5, -16.0))
    metres = in_metres(record, "test")
    np.testing.assert_allclose(metres.xcoords, X_M, rtol=1e-12)
    np.testing.assert_allclose(metres.ycoords, Y_M, rtol=1e-12)
    assert record.losses == (0.5, 0.25)
    assert record.object is not None
    assert record.object.shape == (12, 15)
    assert record.patterns is None
    assert record.probe is not None
    np.testing.assert_allclose(np.abs(record.probe.reshape(-1)), 1 + np.arange(128), rtol=1e-6)


def test_training_data_count_half_a_pixel_less(golden: Path) -> None:
    record = read(golden / "training.h5")
    np.testing.assert_array_equal(record.xcoords, X_PX)
    np.testing.assert_array_equal(record.ycoords, Y_PX)
    assert record.origin_px == (-7.5, -6.0)
    with h5py.File(golden / "training.h5") as file:
        assert file["probe_position_x_px"][0] == 3.5


def test_an_empty_slot_of_a_diffraction_file_is_left_out(golden: Path) -> None:
    record = read(golden / "diffraction.h5")
    np.testing.assert_array_equal(loaded(record), patterns()[[0, 1, 3]])
    assert record.indexes is not None
    assert record.indexes.tolist() == [0, 1, 3]
    assert record.detector_pixel_m == 1e-4


@pytest.mark.parametrize("name", ["legacy.npz", "diffraction.h5", "training.h5", "scan.cxi", "scan.ptyd"])
def test_one_pixel_is_bad(name: str, golden: Path) -> None:
    mask = read(golden / name).mask
    assert mask is not None
    assert np.argwhere(~mask).tolist() == [[2, 5]]


def test_the_oldest_scan_has_its_patterns_last(golden: Path) -> None:
    record = read(golden / "legacy.npz")
    np.testing.assert_allclose(loaded(record) ** 2, patterns(), rtol=1e-6)
    assert record.units is None
    np.testing.assert_array_equal(record.xcoords, X_PX)


def test_a_raster_has_one_position_per_pattern(golden: Path) -> None:
    record = read(golden / "raster.nxs")
    np.testing.assert_allclose(record.xcoords, np.array([1, 2, 1, 2]) * 1e-6, rtol=1e-12)
    np.testing.assert_allclose(record.ycoords, np.array([5, 5, 7, 7]) * 1e-6, rtol=1e-12)


def test_cxi_signs_follow_the_axes_of_the_detector(golden: Path, tmp_path: Path) -> None:
    """Rows that run upwards turn the sign of y; the default axes leave both as they are; swapped axes swap."""
    for axes, x, y in (
        ([[0, 1e-4, 0], [-1e-4, 0, 0]], X_M, Y_M),
        ([[0, -1e-4, 0], [-1e-4, 0, 0]], X_M, -Y_M),
        ([[-1e-4, 0, 0], [0, -1e-4, 0]], -Y_M, X_M),
    ):
        path = tmp_path / "turned.cxi"
        path.write_bytes((golden / "scan.cxi").read_bytes())
        with h5py.File(path, "r+") as file:
            file["entry_1/instrument_1/detector_1/basis_vectors"][:] = axes
        record = read(path)
        np.testing.assert_allclose(record.xcoords, x, rtol=1e-12)
        np.testing.assert_allclose(record.ycoords, y, rtol=1e-12)


def test_the_energy_of_the_machine_is_not_that_of_the_photons(golden: Path, tmp_path: Path) -> None:
    path = tmp_path / "scan.nxs"
    path.write_bytes((golden / "scan.nxs").read_bytes())
    with h5py.File(path, "r+") as file:
        del file["entry_1/instrument_1/beam_1"]
    assert read(path).energy_eV is None


@pytest.mark.parametrize("name", ["scan.ptyd", "product.h5"])
def test_a_file_of_the_near_field_says_so(name: str, golden: Path, tmp_path: Path) -> None:
    shutil.copy(golden / name, tmp_path / name)
    with h5py.File(tmp_path / name, "r+") as file:
        if name == "product.h5":
            file.attrs["far_field"] = False
        else:
            for part in ("meta", "info"):
                file.pop(f"{part}/propagation", None)
            file["meta/propagation"] = "nearfield"
    record = read(tmp_path / name)
    assert record.near_field
    made = in_pixels(record, "test")
    assert NearField.of(made.metadata) is not None
    if name == "scan.ptyd":  # the pixels of the detector are those of the object, of which a product has a size already
        assert made.object_pixel_m == pytest.approx(made.detector_pixel_m)
