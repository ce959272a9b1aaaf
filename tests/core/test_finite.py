"""What is not finite in named arrays, counted by hand."""

import numpy as np

from ptycho.core.finite import non_finite


def test_nothing_to_say_of_finite_numbers() -> None:
    assert non_finite([]) == non_finite([("a", np.ones(3)), ("b", np.arange(2)), ("c", 1 + 2j)]) == ""


def test_numbers_and_the_first_array_with_one() -> None:
    arrays = [("good", np.ones(2)), ("bad", np.array([np.inf, 1, -np.inf])), ("worse", np.array([1j * np.nan]))]
    assert non_finite(arrays) == "3 of 6 numbers that are not (the first in bad)"
