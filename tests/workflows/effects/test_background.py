"""The background that was found, and the one that was subtracted, a sentence each."""

import numpy as np
import pytest

from ptycho.raw_data import RawData
from ptycho.workflows.effects.background import background_notes


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
    assert background_notes(background, scan) == [expected]


def test_what_was_subtracted_is_said_apart_from_what_is_found(rng: np.random.Generator) -> None:
    counts = rng.poisson(9, (40, 16, 16)) - 9.0
    counts[:, 6:10, 6:10] += 80
    x = np.arange(40.0)
    scan = RawData(x, x, None, None, counts, np.ones((16, 16), complex), units="counts")
    added = scan.background
    assert added is not None
    said = background_notes(added, scan)
    assert len(said) == 1 and said[0].startswith(
        f"Patterns go below 0, as after a background is subtracted: {added.mean():.3g}"
    )
    for more, words in (
        (2.0, "The background of every pattern is 2 counts per pixel"),
        (-1.0, "Too much was subtracted from every pattern: 1 counts per pixel"),
    ):
        first, second = background_notes(added + more, scan)
        assert first == said[0] and second.startswith(words)
