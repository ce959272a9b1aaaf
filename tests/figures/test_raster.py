"""Bare pictures: a pixel for a value, transparent where nothing was seen."""

import io

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize
from PIL import Image

from ptycho.figures.raster import colour_strip, raster_png, wave_png


def pixels(png: bytes, mode: str = "RGBA") -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert(mode))


def test_values_have_their_colours_and_the_rest_none() -> None:
    values = np.array([[0.0, 0.5, 1.0], [9.0, -9.0, np.nan]])
    shown = pixels(raster_png(values, np.isfinite(values), "viridis", Normalize(0, 1)))
    ends = (np.array(colormaps["viridis"](end)) * 255 for end in (0.0, 1.0))
    low, high = (np.round(end) for end in ends)
    np.testing.assert_allclose(shown[0, 0], low, atol=1)
    np.testing.assert_allclose(shown[0, 2], high, atol=1)
    np.testing.assert_array_equal(shown[1, :2], shown[0, [2, 0]])  # beyond the ends: their colours
    assert shown[1, 2, 3] == 0 and (shown[..., 3] > 0).sum() == 5


def test_a_logarithmic_scale_is_one() -> None:
    values = np.array([[1.0, 10.0, 100.0]])
    shown = pixels(raster_png(values, values > 0, "gray", LogNorm(1, 100)), "L")
    assert shown[0].tolist() == pytest.approx([0, 128, 255], abs=2)


@pytest.mark.filterwarnings("error")
def test_nothing_seen_is_a_clear_picture() -> None:
    shown = pixels(raster_png(np.full((2, 3), np.nan), np.zeros((2, 3), bool), "gray", Normalize(0, 1)))
    assert shown.shape == (2, 3, 4) and not shown[..., 3].any()


def test_a_wave_is_hue_and_brightness() -> None:
    shown = pixels(wave_png(np.array([[2.0, 1.0], [-2.0, 0.0]]) + 0j), "RGB").astype(int)
    red, half, cyan, dark = shown.reshape(4, 3)
    assert red[0] > red[1] == red[2] and cyan[0] < cyan[1] == cyan[2]
    np.testing.assert_allclose(half, red / 2, atol=1)
    assert not dark.any()


def test_a_strip_runs_from_the_least_value_to_the_largest() -> None:
    shown = pixels(colour_strip("gray"), "L")
    assert shown.shape == (1, 255) and (np.diff(shown[0].astype(int)) >= 0).all()
    assert shown[0, 0] == 0 and shown[0, -1] == 255
