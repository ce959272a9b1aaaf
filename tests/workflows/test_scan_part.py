"""The part of a scan that decides for the whole."""

from __future__ import annotations

import numpy as np

from ptycho.raw_data import RawData
from ptycho.workflows.scan_part import telling_part


def test_a_part_is_compact_and_where_patterns_differ() -> None:
    """A bare half tells nothing: its patterns are all alike."""
    rng = np.random.default_rng(0)
    x, y = (axis.ravel().astype(float) for axis in np.meshgrid(4.0 * np.arange(30), 4.0 * np.arange(20)))
    patterns = np.ones((600, 8, 8), np.float32) + (x > 60)[:, None, None] * rng.normal(0, 0.3, (600, 8, 8))
    data = RawData(x, y, None, None, patterns, np.ones((8, 8), np.complex64), units="amplitude")
    part = telling_part(data)
    assert len(part.scan) == 60 and 8 <= len(part.unseen) <= 14
    assert np.median(part.scan.xcoords) > 60
    assert np.ptp(part.scan.xcoords) < 50 and np.ptp(part.scan.ycoords) < 50
