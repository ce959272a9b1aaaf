"""The background that was found, in one sentence."""

import numpy as np
import pytest

from ptycho.raw_data import RawData
from ptycho.workflows.background import background_note


@pytest.mark.parametrize(
    ("units", "said"),
    [("counts", "2 counts per pixel, 0 to 4"), ("amplitude", "2 squared amplitude per pixel, 0 to 4")],
)
def test_it_says_counts_where_the_dose_is_known(units, said) -> None:
    x, patterns = np.arange(2.0), np.full((2, 4, 4), 16.0, np.float32)
    values = patterns if units == "counts" else np.sqrt(patterns) + np.float32(0.3)
    mask = np.ones((4, 4), bool)
    mask[0] = False
    scan = RawData(x, x, None, None, values * mask, np.ones((4, 4), complex), mask=mask, units=units)
    background = np.full((4, 4), 2.0)
    background[1, 0], background[1, 1], background[0] = 0, 4, 100
    share = 100 * 24 / scan.mean_energy
    expected = f"The background of every pattern is {said} of them, {share:.2g} % of all light"
    assert background_note(background, scan) == expected
