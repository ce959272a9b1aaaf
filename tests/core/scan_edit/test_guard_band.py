"""A band that is not measured around near-field patterns with light at their rim."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.physics.near_field import NearField
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan_edit.fit_detector import fitted
from ptycho.errors import ConfigError

NEAR = NearField(0.1)


def scan(side: int = 30, height: int | None = None) -> ScanFile:
    counts = np.arange(1, 1 + 3 * side * (height or side)).reshape(3, height or side, side).astype(np.float32)
    probe = None if height else np.ones((side, side), complex)
    x = np.array([20.0, 25.5, 31.0])
    return ScanFile(counts, x, x + 1, probe, units="counts", metadata=NEAR.noted())


def test_light_at_the_rim_gets_a_band_that_waves_do_not_cross() -> None:
    """1/(2 F) = 5 pixels on every side."""
    given = scan()
    made, said = fitted(given)
    assert made.diff3d.shape == (3, 40, 40)
    np.testing.assert_array_equal(made.diff3d[:, 5:35, 5:35], given.diff3d)
    assert made.mask.sum() == 30 * 30
    assert made.mask[5:35, 5:35].all()
    assert made.probe.shape == (40, 40)
    np.testing.assert_array_equal(made.xcoords, given.xcoords)
    assert said == (
        "30 x 30 pixels: 40 x 40 with what is beyond masked, for light up to the rim, which near-field waves cross "
        "by 5 pixels",
    )
    again, said = fitted(made)
    assert again is made
    assert said == ()


def test_a_dark_rim_and_a_masked_one_need_none() -> None:
    dark, rim = scan(), np.zeros((30, 30), bool)
    rim[3:-3, 3:-3] = True
    dark.diff3d[:, ~rim] = 0
    masked = replace(scan(), mask=rim)
    for given in (dark, masked):
        assert fitted(given) == (given, ())


def test_an_odd_detector_and_a_crop() -> None:
    odd, _ = fitted(replace(scan(31, 33), metadata=NearField(10.0).noted()))
    assert odd.diff3d.shape == (3, 36, 36)
    assert odd.mask.sum() == 31 * 33
    np.testing.assert_array_equal(odd.diff3d[:, 18, 18], scan(31, 33).diff3d[:, 16, 15])
    made, said = fitted(scan(), crop=20)
    assert made.diff3d.shape == (3, 30, 30)
    assert said[0] == "patterns of 30 x 30 pixels: 20 x 20 kept"
    np.testing.assert_array_equal(made.diff3d[:, 5:25, 5:25], scan().diff3d[:, 5:25, 5:25])


@pytest.mark.parametrize("asked", [{"crop": 31}, {"bin": 2}, {"sizes": (64,)}])
def test_what_cannot_be_is_one_line(asked) -> None:
    with pytest.raises(ConfigError, match="expected"):
        fitted(scan(), **asked)
