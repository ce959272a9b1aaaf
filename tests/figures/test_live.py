"""The small picture of an object that grows."""

import io

import numpy as np
from PIL import Image

from ptycho.figures.live import live_png


def test_phase_and_amplitude_stand_side_by_side() -> None:
    y, x = np.mgrid[:60, :90]
    image = (1 + 0.5 * (x > 45)) * np.exp(0.5j * (y // 10 % 2))
    light = np.zeros((60, 90), np.float32)
    light[5:-5, 5:-5] = 1
    with Image.open(io.BytesIO(live_png(image, light))) as picture:
        shown = np.asarray(picture.convert("RGB")).astype(int)
    height, width = shown.shape[:2]
    assert (height, (width - 8) // 2) == (56, 86)  # cropped to the light, with a margin
    amplitude = shown[:, -86:]
    assert amplitude[28, 60:80].mean() > amplitude[28, 10:30].mean() + 100
    phase = shown[:, :86]
    assert np.abs(phase[11:16, 20:60].mean((0, 1)) - phase[21:26, 20:60].mean((0, 1))).max() > 50


def test_nothing_and_much_are_drawn_too() -> None:
    assert live_png(np.ones((8, 8), complex), np.zeros((8, 8))).startswith(b"\x89PNG")
    with Image.open(io.BytesIO(live_png(np.ones((1500, 100), complex), np.ones((1500, 100))))) as picture:
        assert picture.height <= 700
