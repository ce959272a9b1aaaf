"""Positions are mirrored and turned where they belong to no object."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.formats.record import ScanRecord
from ptycho.core.formats.registry import read
from ptycho.core.formats.turning import turned
from ptycho.errors import DataError


def test_signs_of_metres_can_be_turned(golden: Path) -> None:
    record = read(golden / "scan.ptyd")
    other = turned(record, "x")
    np.testing.assert_array_equal(other.xcoords, -record.xcoords)  # type: ignore[operator,arg-type]
    np.testing.assert_array_equal(other.ycoords, record.ycoords)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="--flip"):
        turned(read(golden / "product.h5"), "y")


def test_turns_go_from_x_towards_y_and_start_positions_with_them() -> None:
    x, y = np.array([1.0, 0.0, 2.0]), np.array([0.0, 1.0, 0.0])
    record = ScanRecord(xcoords=x, ycoords=y, xcoords_start=x + 1, ycoords_start=y, position_unit="m")
    found = turned(record, rotation_deg=90)
    np.testing.assert_allclose(found.xcoords, [0, -1, 0], atol=1e-15)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.ycoords, [1, 0, 2], atol=1e-15)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.ycoords_start, [2, 1, 3], atol=1e-15)  # type: ignore[arg-type]
    both = turned(record, "y", 90)
    np.testing.assert_allclose(both.xcoords, [0, 1, 0], atol=1e-15)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="scan positions"):
        turned(replace(record, xcoords=None, ycoords=None, xcoords_start=None, ycoords_start=None))
