"""A result of ptypy, laid out as it writes it."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.core.formats import registry
from ptycho.core.formats.record import ScanRecord
from ptycho.errors import DataError

Arrays = dict[str, np.ndarray]
Same = Callable[[ScanRecord], None]
N, H, W, PIXEL_M = 8, 21, 18, 1e-7
X_PX, Y_PX = np.array([4.0, 13.5, 9.25]), np.array([4.0, 4.5, 16.0])


def test_a_result_of_ptypy(arrays: Arrays, same: Same, tmp_path: Path) -> None:
    """The origin of its positions lies at pixel (10, 9) of its object."""
    with h5py.File(tmp_path / "a.ptyr", "w") as file:
        for name, stack in (("probe", arrays["probe"]), ("obj", arrays["object"][None])):
            file[f"content/{name}/SMFG00/data"] = stack
            file[f"content/{name}/SMFG00/_psize"] = [PIXEL_M, PIXEL_M]
            file[f"content/{name}/SMFG00/_center"] = [10, 9] if name == "obj" else [N // 2, N // 2]
        file["content/positions/SMFG00"] = PIXEL_M * np.c_[Y_PX - 10, X_PX - 9]
        file["content/pars/scans/MF/data/energy"], file["content/pars/scans/MF/data/distance"] = 6.2, 7.0
    assert registry.recognise(tmp_path / "a.ptyr").name == "ptyr"
    found = registry.read(tmp_path / "a.ptyr")
    same(found)
    assert (found.energy_eV, found.distance_m) == (pytest.approx(6200), 7.0)
    with h5py.File(tmp_path / "a.ptyr", "r+") as file:
        del file["content/positions"]
    assert registry.read(tmp_path / "a.ptyr").xcoords is None
    with h5py.File(tmp_path / "a.ptyr", "r+") as file:
        del file["content/obj/SMFG00/_center"]
    with pytest.raises(DataError, match=r"a\.ptyr: content/obj/SMFG00/_center: expected two numbers, found none"):
        registry.read(tmp_path / "a.ptyr")
