"""What belongs to patterns beside object and probe goes with them."""

import numpy as np
import pytest

from ptycho.core.physics.recording import PLAIN, Recording, check_background, check_flux
from ptycho.errors import DataError


def test_a_plain_scan_has_nothing() -> None:
    assert PLAIN.known == {} and PLAIN.of(slice(2)).known == {}


def test_some_patterns_take_theirs_along() -> None:
    path = np.arange(12.0).reshape(3, 2, 2)
    some = Recording(np.array([1.0, 2.0, 3.0]), path).of(np.array([2, 0]))
    assert some.known["flux"].tolist() == [3.0, 1.0]
    np.testing.assert_array_equal(some.known["fly_path"], path[[2, 0]])
    assert list(Recording(fly_path=path).of(slice(1)).known) == ["fly_path"]


def test_a_background_is_of_every_pattern() -> None:
    background = np.ones((4, 4))
    assert Recording(np.ones(3), background=background).of(slice(1)).background is background


def test_what_cannot_be_is_refused() -> None:
    assert check_flux([1, 2], 2).dtype == check_background([[0]], 1).dtype == np.float64
    for flux in ([1.0], [1.0, 0.0], [1.0, np.nan]):
        with pytest.raises(DataError, match="flux: expected 2 finite numbers above 0"):
            check_flux(flux, 2)
    for background in ([1.0], [[-1.0]], [[np.inf]]):
        with pytest.raises(DataError, match=r"background: expected \(1, 1\) finite numbers, none below 0"):
            check_background(background, 1)
