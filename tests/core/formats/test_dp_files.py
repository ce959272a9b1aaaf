"""Data and parameters of pty-chi and PtychoShelves, laid out as they write them."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.core.formats import registry
from ptycho.core.formats.record import ScanRecord, in_pixels
from ptycho.errors import DataError

Arrays = dict[str, np.ndarray]
Same = Callable[[ScanRecord], None]
N, H, W, PIXEL_M = 8, 21, 18, 1e-7
X_PX, Y_PX = np.array([4.0, 13.5, 9.25]), np.array([4.0, 4.5, 16.0])


def write_ptychi(folder: Path, arrays: Arrays, centre: bool) -> None:
    with h5py.File(folder / "scan_dp.hdf5", "w") as file:
        file["dp"] = arrays["dp"]
    with h5py.File(folder / "scan_para.hdf5", "w") as file:
        file["probe"], file["object"] = arrays["probe"][None], arrays["object"][None]
        file["probe_position_x_m"], file["probe_position_y_m"] = PIXEL_M * (X_PX - W / 2), PIXEL_M * (Y_PX - H / 2)
        for name in ("probe", "object"):
            file[name].attrs.update({"pixel_height_m": PIXEL_M, "pixel_width_m": PIXEL_M})
        if centre:
            file["object"].attrs.update({"center_x_m": 0.0, "center_y_m": 0.0})


def test_data_and_parameters_of_pty_chi(arrays: Arrays, same: Same, tmp_path: Path) -> None:
    """The parameters come along; an object only where its place is said."""
    for centre in (True, False):
        write_ptychi(tmp_path, arrays, centre)
        found = registry.read(tmp_path / "scan_dp.hdf5")
        assert found.patterns is not None
        np.testing.assert_array_equal(found.patterns.whole(), arrays["dp"])
        if centre:
            same(found)
            continue
        assert found.object is None
        moved = in_pixels(found, "test")
        np.testing.assert_allclose(np.diff(moved.xcoords), np.diff(X_PX), atol=1e-9)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.probe, arrays["probe"])
    (tmp_path / "scan_para.hdf5").rename(tmp_path / "other.hdf5")
    alone = registry.read(tmp_path / "scan_dp.hdf5")
    assert alone.xcoords is None
    assert registry.recognise(tmp_path / "other.hdf5").name == "dp"


def test_data_and_parameters_of_ptychoshelves(arrays: Arrays, same: Same, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data_roi0_dp.hdf5", "w") as file:
        file["dp"] = arrays["dp"]
    with h5py.File(tmp_path / "data_roi0_para.hdf5", "w") as file:
        file["ppX"], file["ppY"] = PIXEL_M * X_PX[:, None], PIXEL_M * Y_PX[:, None]
        file["lambda"], file["dx"] = [[1e-10]], [[PIXEL_M]]
    found = registry.read(tmp_path / "data_roi0_dp.hdf5")
    assert found.patterns is not None
    assert found.energy_eV == pytest.approx(12398.4198)
    moved = in_pixels(found, "test")
    np.testing.assert_allclose(np.diff(moved.ycoords), np.diff(Y_PX), atol=1e-9)  # type: ignore[arg-type]


def test_damage_of_parameters_beside_is_found(arrays: Arrays, tmp_path: Path) -> None:
    """A heap of names that leads in circles, for which HDF5 would take all memory; an attribute that is no number."""
    write_ptychi(tmp_path, arrays, centre=True)
    beside = tmp_path / "scan_para.hdf5"
    content = beside.read_bytes()
    head = content.find(b"HEAP")
    first, data = (int.from_bytes(content[head + place :][:8], "little") for place in (16, 24))
    beside.write_bytes(content[: data + first] + first.to_bytes(8, "little") + content[data + first + 8 :])
    with pytest.raises(DataError, match="found a heap of names that is damaged"):
        registry.read(tmp_path / "scan_dp.hdf5")
    beside.write_bytes(content)
    with h5py.File(beside, "r+") as file:
        file["object"].attrs.create("pixel_width_m", np.zeros(1), dtype=h5py.opaque_dtype("M8[s]"))
    with pytest.raises(DataError, match="/object: attribute pixel_width_m: expected numbers or text, found opaque"):
        registry.read(tmp_path / "scan_dp.hdf5")
