"""What a refinement found says how the patterns were recorded, and what it is, in a few words."""

import numpy as np

from ptycho.core.refinement.run import refine_scan
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData

N = 16


def test_the_recording_is_that_of_the_patterns() -> None:
    made = make_scan("lines", 36, N, 6.0, 0.5, 1e4, 4)
    scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")
    flux, path = np.linspace(0.9, 1.1, len(scan)), np.zeros((len(scan), 3, 2))
    path[:, :, 0] = (-1, 0, 1)
    found = refine_scan(scan, iterations=1, flux=flux, fly_path=path)
    np.testing.assert_array_equal(found.recording.flux, flux)
    np.testing.assert_array_equal(found.recording.fly_path, path)
    assert found.recording.gap is None and found.recording.variation is None
    said = repr(found)
    assert f"object {found.frame.height} x {found.frame.width}, {len(scan)} positions, N=16, 1 probe mode" in said
    assert "1 iteration in" in said and len(said) < 250
