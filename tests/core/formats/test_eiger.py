"""A master file with its frames beside it, laid out as the detector writes them."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.core.formats import registry
from ptycho.core.formats.record import completed
from ptycho.errors import MissingFileError

FRAMES = np.arange(5 * 6 * 4, dtype=np.uint32).reshape(5, 6, 4)


@pytest.fixture
def master(tmp_path: Path) -> Path:
    """5 frames of 6 x 4 in two files, one pixel in a gap; 1 angstrom, 2 m, 75 um."""
    for number, part in ((1, FRAMES[:3]), (2, FRAMES[3:])):
        with h5py.File(tmp_path / f"run_data_{number:06d}.h5", "w") as file:
            file["entry/data/data"] = part
    mask = np.zeros((6, 4), np.uint32)
    mask[2, 3] = 1
    with h5py.File(tmp_path / "run_master.h5", "w") as file:
        for number in (2, 1):
            target = f"run_data_{number:06d}.h5"
            file[f"entry/data/data_{number:06d}"] = h5py.ExternalLink(target, "entry/data/data")
        file["entry"].attrs["NX_class"], file["entry/data"].attrs["NX_class"] = "NXentry", "NXdata"
        detector = file.create_group("entry/instrument/detector")
        detector["detectorSpecific/pixel_mask"] = mask
        for name, value in (("x_pixel_size", 75e-6), ("y_pixel_size", 75e-6), ("detector_distance", 2.0)):
            detector[name] = value
            detector[name].attrs["units"] = "m"
        file["entry/instrument/beam/incident_wavelength"] = 1.0
    return tmp_path / "run_master.h5"


def test_frames_and_set_up(master: Path) -> None:
    assert registry.recognise(master).name == "eiger"
    record = registry.read(master)
    assert record.patterns is not None
    np.testing.assert_array_equal(record.patterns.whole(), FRAMES)
    assert record.mask is not None
    assert np.argwhere(~record.mask).tolist() == [[2, 3]]
    assert record.energy_eV == pytest.approx(12398.4198)
    assert (record.distance_m, record.detector_pixel_m, record.units) == (2.0, 75e-6, "counts")
    assert completed(record).object_pixel_m == pytest.approx(1e-10 * 2 / (6 * 75e-6))


def test_energies(master: Path) -> None:
    with h5py.File(master, "r+") as file:
        file["entry/instrument/beam/incident_wavelength"].attrs["units"] = "nm"
    assert registry.read(master).energy_eV == pytest.approx(1239.84198)
    with h5py.File(master, "r+") as file:
        file["entry/instrument/beam/incident_energy"] = 9.5
        file["entry/instrument/beam/incident_energy"].attrs["units"] = "keV"
    assert registry.read(master).energy_eV == pytest.approx(9500)


def test_a_file_of_frames_that_is_gone(master: Path) -> None:
    (master.parent / "run_data_000002.h5").unlink()
    with pytest.raises(MissingFileError, match=r"run_master\.h5: expected run_data_000002\.h5 in its folder"):
        registry.read(master)
