"""Grouped data compare and print like what they are: a dictionary of large arrays."""

import numpy as np

from ptycho.raw_data import RawData


def test_equal_by_value(patterns: RawData) -> None:
    first, again = (patterns.generate_grouped_data(64, K=4, nsamples=5, seed=3, gridsize=2) for _ in range(2))
    assert first == again
    assert first == first.copy()
    again["X_full"] = again["X_full"] + np.float32(1)
    assert first != again and first != 3


def test_print_is_short_and_makes_nothing(patterns: RawData) -> None:
    grouped = patterns.generate_grouped_data(64, K=4, nsamples=5, seed=3, gridsize=2)
    assert repr(grouped) == "GroupedData(5 groups of 4, 11 arrays; not made yet: diffraction, X_full)"
    grouped["X_full"]
    assert repr(grouped).endswith("not made yet: diffraction)")
