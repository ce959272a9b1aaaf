"""What a detector does not see."""

import numpy as np
import pytest

from ptycho.core.simulation.detector import bad_pixel_mask, beam_stop_mask, detector_mask, gap_mask, without_rim
from ptycho.errors import ConfigError


def test_a_gap_is_a_cross_of_the_width_asked_for() -> None:
    mask = gap_mask(12, 3, offset=2)
    assert mask.sum() == 9 * 9
    assert not mask[7:10].any()
    assert not mask[:, 7:10].any()
    assert mask[6, 6]
    assert mask[10, 10]
    assert gap_mask(12, 0).all()


def test_as_many_pixels_are_bad_as_asked_for(rng: np.random.Generator) -> None:
    first, other = bad_pixel_mask(32, 0.05, rng), bad_pixel_mask(32, 0.05, rng)
    assert np.sum(~first) == np.sum(~other) == 51
    assert np.any(first != other)


def test_a_beam_stop_is_a_disk_on_the_zero_frequency() -> None:
    mask = beam_stop_mask(16, 4.0)
    assert np.sum(~mask) == 13
    assert not mask[8, 8]
    assert not mask[6, 8]
    assert mask[6, 7]
    assert beam_stop_mask(16, 0.0).all()


def test_all_parts_come_together(rng: np.random.Generator) -> None:
    mask = detector_mask(32, rng, gap_width=2, gap_offset=6, bad_pixels=0.01, beam_stop=5.0)
    assert mask is not None
    alone = gap_mask(32, 2, 6) & beam_stop_mask(32, 5.0)
    assert not mask[~alone].any()
    assert 0 < np.sum(alone & ~mask) <= 10
    assert detector_mask(32, rng) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gap_width": -1}, "found width -1"),
        ({"gap_width": 4, "gap_offset": 15}, "offset 15"),
        ({"bad_pixels": 1.0}, r"found 1\.0"),
        ({"beam_stop": -2.0}, r"found -2\.0"),
        ({"beam_stop": 90.0}, "expected valid pixels, found none of 32 x 32"),
    ],
)
def test_a_detector_that_cannot_be_is_refused(settings: dict, words: str, rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match=words):
        detector_mask(32, rng, **settings)


def test_a_rim_is_not_measured() -> None:
    assert without_rim(None, 12, 0) is None
    mask = without_rim(gap_mask(12, 2), 12, 3)
    assert mask is not None
    assert mask.sum() == 6 * 6 - 6 * 4 + 4
    assert without_rim(None, 12, 3).sum() == 36
