"""Photons shared out: nothing lost, each part Poisson by itself and independent of the others."""

import numpy as np
import pytest

from ptycho.core.scan_edit.thinning import PhotonShares
from ptycho.errors import ConfigError


def test_nothing_is_lost_and_nothing_is_below_zero():
    counts = np.random.default_rng(1).poisson(3.0, (5, 7, 9))
    parts = PhotonShares((0.2, 0.3, 0.5), seed=4).split(counts)
    assert (sum(parts) == counts).all()
    assert min(part.min() for part in parts) >= 0


@pytest.mark.parametrize("mean", [0.3, 40.0])
def test_parts_of_poisson_counts_are_independent_poisson_counts(mean):
    """Mean and variance of each are p L and they do not vary together; the whole of 200,000 scatters by 1 / 450."""
    counts, shares = np.random.default_rng(2).poisson(mean, 200_000), (0.25, 0.75)
    first, second = (part.astype(float) for part in PhotonShares(shares, seed=3).split(counts))
    for part, share in zip((first, second), shares, strict=True):
        assert part.mean() == pytest.approx(share * mean, rel=0.02)
        assert part.var() == pytest.approx(share * mean, rel=0.02)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.01


def test_halves_of_a_fixed_number_do_vary_together():
    """What the test above would find in parts that are not independent."""
    first, second = PhotonShares(seed=3).split(np.full(1000, 50))
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(-1)


def test_what_is_not_whole_keeps_its_mean():
    photons = np.full(100_000, 2.3)
    parts = PhotonShares(seed=5).split(photons)
    total = sum(parts)
    assert set(np.unique(total)) == {2, 3}
    assert total.mean() == pytest.approx(2.3, abs=0.01)


def test_blocks_of_any_size_get_the_same_photons():
    counts = np.random.default_rng(6).poisson(5.0, (10, 4, 4)) + 0.25
    whole, blocks = PhotonShares(seed=7), PhotonShares(seed=7)
    together = whole.split(counts)
    apart = [blocks.split(counts[some]) for some in (slice(0, 3), slice(3, 10))]
    for k in range(2):
        np.testing.assert_array_equal(together[k], np.concatenate([part[k] for part in apart]))


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.6), (1.2, -0.2), ()])
def test_other_shares_are_refused(shares):
    with pytest.raises(ConfigError, match="shares"):
        PhotonShares(shares)
