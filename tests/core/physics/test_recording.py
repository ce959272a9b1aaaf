"""What belongs to patterns beside object and probe goes with them."""

import numpy as np

from ptycho.core.physics.recording import PLAIN, Recording


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
