"""Layers of patches: nothing overlaps within one, and every patch is in one."""

import numpy as np
import pytest

from ptycho.core.refinement.layers import layers_of


@pytest.mark.parametrize("n", [1, 5, 16])
@pytest.mark.parametrize("count", [0, 1, 200])
def test_no_two_patches_of_a_layer_share_a_pixel(n, count, rng) -> None:
    rows, cols = rng.integers(0, 60, (2, count))
    layers = layers_of(rows, cols, n)
    assert sorted(layers.order) == list(range(count)) and sum(layers.sizes) == count
    for some in np.split(layers.order, np.cumsum(layers.sizes)[:-1]) if count else ():
        image = np.zeros((80, 80), int)
        for k in some:
            image[rows[k] : rows[k] + n, cols[k] : cols[k] + n] += 1
        assert image.max() == 1


def test_a_raster_has_as_many_layers_as_patches_that_meet() -> None:
    """Steps of a quarter of a pattern: 16 begin in each square, of which there are four kinds."""
    rows, cols = (each.ravel() for each in np.mgrid[0:64:4, 0:64:4])
    layers = layers_of(rows, cols, 16)
    assert len(layers.sizes) == 4 * 16 and set(layers.sizes) == {4}
