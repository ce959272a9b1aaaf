"""Python's numbers of a search; tests/torch/test_images.py has those of a device."""

import numpy as np
import pytest

from ptycho.core.refinement.device.numbers import PlainNumbers


@pytest.mark.parametrize("below, expected", [(2.0, 1.5), (0.0, 0.0), (-2.0, 0.0), (np.nan, 0.0), (np.inf, 0.0)])
def test_a_ratio_is_0_where_there_is_none(below, expected) -> None:
    assert PlainNumbers().ratio(3.0, below) == expected


def test_a_scalar_becomes_a_float() -> None:
    assert type(PlainNumbers().of(np.float32(0.5))) is float
    assert PlainNumbers().choose(False, 1.0, 2.0) == 2.0
