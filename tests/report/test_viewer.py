"""Pictures of a page: their crop, their scale, their size."""

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.colors import Normalize
from PIL import Image

from ptycho.report import viewer as viewer_module
from ptycho.report.viewer import Map, curve, viewer


def pictures(page: str) -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(base64.b64decode(found))) for found in re.findall(r"data:image/png;base64,([^\"]+)", page)
    ]


@pytest.fixture
def shown() -> Map:
    values, seen = np.arange(50 * 80.0).reshape(50, 80), np.zeros((50, 80), bool)
    seen[10:30, 20:60] = True
    return Map("A map", values, seen, "gray", Normalize(0, 4000), "unit", 1.25e-8)


def test_one_pixel_of_the_picture_is_one_of_the_map(shown: Map) -> None:
    made = viewer(shown, "group")
    picture, strip = pictures(made)
    assert picture.size == (44, 24)  # 40 x 20 lit, 2 pixels around
    assert 'data-width="44" data-height="24" data-x="18" data-y="8" data-nm="12.5"' in made
    assert strip.size == (255, 1)
    assert 'alt="A map"' in made and 'tabindex="0"' in made


def test_a_large_map_is_thinned_and_says_so(shown: Map, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer_module, "_MOST", 20)
    made = viewer(shown, "group")
    assert pictures(made)[0].size == (15, 8)
    assert "Every 3th" not in made and "one pixel in 3" in made and 'data-width="44"' in made


def test_positions_are_drawn_where_they_are(shown: Map) -> None:
    made = viewer(shown, "group", (np.array([20.0, 59.25]), np.array([10.0, 29.0])))
    assert 'viewBox="17.5 7.5 44 24"' in made
    assert 'd="M20.0 10.0h0M59.2 29.0h0"' in made


def test_a_detector_counts_from_its_middle(shown: Map) -> None:
    whole = Map("P", shown.values, np.ones((50, 80), bool), "magma", Normalize(0, 1), "intensity", centred=True)
    assert 'data-x="-40" data-y="-25"' in viewer(whole, "p") and "data-nm" not in viewer(whole, "p")


def test_a_curve_has_no_background() -> None:
    made = curve(lambda axes: axes.plot([0, 1]), "a line", size=(4.5, 3.0))
    picture = pictures(made)[0].convert("RGBA")
    assert picture.size == (900, 600)
    assert picture.getpixel((0, 0))[3] == 0 and picture.getpixel((500, 200))[3] == 0
    assert 'alt="a line"' in made and 'width="450"' in made
