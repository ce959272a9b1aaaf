"""A result of PtychoShelves, of both kinds of MATLAB files."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.core.formats import registry
from ptycho.core.formats.record import ScanRecord

Arrays = dict[str, np.ndarray]
Same = Callable[[ScanRecord], None]
N, H, W, PIXEL_M = 8, 21, 18, 1e-7
X_PX, Y_PX = np.array([4.0, 13.5, 9.25]), np.array([4.0, 4.5, 16.0])


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_a_result_of_ptychoshelves(version: str, arrays: Arrays, same: Same, tmp_path: Path) -> None:
    """Its positions are pixels from the middle of the object; MATLAB has the modes last."""
    from scipy import io

    probe, positions = np.moveaxis(arrays["probe"], 0, -1), np.c_[X_PX - W / 2, Y_PX - H / 2]
    parts = (
        {"lambda": 1e-10, "dx_spec": [PIXEL_M, PIXEL_M]},
        {"probe_positions": positions, "fourier_error_out": [3, 2.5]},
    )
    path = tmp_path / "result.mat"
    if version == "5":
        whole = {"object": arrays["object"], "probe": probe, "p": parts[0], "outputs": parts[1]}
        io.savemat(path, whole)
    else:
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, image in (("object", arrays["object"]), ("probe", probe)):
                pairs = np.zeros(image.T.shape, [("real", "f4"), ("imag", "f4")])
                pairs["real"], pairs["imag"] = image.T.real, image.T.imag
                file[name] = pairs
            for group, content in zip(("p", "outputs"), parts, strict=True):
                for name, values in content.items():
                    file[f"{group}/{name}"] = np.atleast_2d(values).T
        with path.open("r+b") as stream:
            stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    found = registry.read(path)
    same(found)
    assert found.losses == (3.0, 2.5)
    assert found.energy_eV == pytest.approx(12398.4198)
