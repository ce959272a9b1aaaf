"""The share of kept-back patterns that the others foretell."""

import numpy as np
import pytest

from ptycho.core.quality.foretold import Foretold
from ptycho.errors import DataError


def told(misfit: float, deviation: float = 1.0) -> Foretold:
    """Two patterns of noise 10 whose blank misfit is 110 and 60."""
    noise, blank = np.array([10.0, 10]), np.array([110.0, 60])
    return Foretold(np.array([4, 17]), np.array([misfit, 10.0]), noise, blank, np.full(2, deviation))


@pytest.mark.parametrize(("misfit", "share"), [(10.0, 1.0), (85.0, 0.5), (160.0, 0.0)])
def test_the_share_is_that_of_the_structure(misfit, share):
    assert told(misfit).telling and told(misfit).share == pytest.approx(share)


def test_where_noise_hides_all_structure_there_is_no_share():
    """150 above the noise are 5 standard deviations of 30."""
    assert told(10.0, 150 / 5.01 / np.sqrt(2)).telling
    dim = told(10.0, 150 / 4.99 / np.sqrt(2))
    assert not dim.telling and np.isnan(dim.share)


def test_equal_by_value_and_parts_belong_together():
    assert told(10.0) == told(10.0) != told(11.0)
    with pytest.raises(DataError, match="expected one number per pattern"):
        Foretold(np.arange(3), np.ones(2), np.ones(2), np.ones(2), np.ones(2))
