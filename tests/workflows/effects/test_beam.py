"""A beam that changes in the course of a scan is told from bright and dark places of the sample."""

import numpy as np
import pytest

from ptycho.raw_data import RawData
from ptycho.workflows.effects.beam import beam_trend
from ptycho.workflows.shared_object import joined

COUNT = 121
ORDER = np.arange(COUNT) / (COUNT - 1)
ROWS = 1 + 0.3 * np.sin(2 * np.pi * 11 * ORDER)
"""A sample under a raster of eleven rows."""


def scan_of(brightness):
    amplitude = np.sqrt(brightness)[:, None, None] * np.ones((COUNT, 16, 16), np.float32)
    points = 20.0 + np.arange(COUNT)
    return RawData(points, points, None, None, amplitude.astype(np.float32), None, units="amplitude")


def test_the_trend_follows_a_step_and_not_the_sample():
    left = np.where(ORDER < 0.5, 1.0, 0.3)
    flux = beam_trend(scan_of(left * ROWS))
    assert flux.mean() == pytest.approx(1)
    off = np.abs(flux / left * left.mean() - 1)
    assert off.mean() < 0.1 and off.max() < 0.25  # the sample changes by 30 %
    assert beam_trend(scan_of(ROWS)) is None


def test_scans_of_other_doses_have_no_trend_and_each_its_own():
    dim, falling = scan_of(0.3 * ROWS), scan_of(np.where(ORDER < 0.5, 1.0, 0.3) * ROWS)
    probe = np.ones((16, 16), complex)
    assert beam_trend(joined([scan_of(ROWS).with_probe(probe), dim.with_probe(probe)])) is None
    flux = beam_trend(joined([dim.with_probe(probe), falling.with_probe(probe)]))
    np.testing.assert_array_equal(flux[:COUNT], 1)
    np.testing.assert_array_equal(flux[COUNT:], beam_trend(falling))
