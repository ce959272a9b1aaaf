"""Every section says what there is, and what is missing and how to get it."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.reconstruction import Reconstruction
from ptycho.report.content import Content
from ptycho.report.sections import SECTIONS, heading


def section(name: str, content: Content) -> str:
    made = SECTIONS[name](content)
    assert made is not None
    return f"{made[0]}: {made[1]}"


def test_the_verdict_comes_first_in_its_colour_and_in_words(content: Content) -> None:
    trust = content.reconstruction.trust
    assert trust is not None
    made = heading(content)
    assert f"Trust: {trust.grade}" in made and "--verdict:#" in made
    first, _, rest = trust.verdict.partition(": ")
    assert first[1:] in made and rest[1:].split(";")[0].replace("<", "&lt;") in made


def test_without_a_trust_the_page_says_so(result: Reconstruction) -> None:
    bare = Content(replace(result, trust=None, uncertainty=None, error_history=(), counts_from=None))
    assert "Not measured" in heading(bare)
    assert [name for name in SECTIONS if SECTIONS[name](bare) is None] == [
        *("slices", "uncertainty", "trust", "positions", "convergence", "residuals", "comparison", "decisions", "files")
    ]
    assert "ptycho frc SCAN" in section("resolution", bare)


def test_error_bars_say_what_they_are_and_whether_they_hold(content: Content) -> None:
    made = section("uncertainty", content)
    assert "One standard deviation" in made and "68 % of the pixels" in made and "by 0.31 deviations" in made
    assert "Uncertainty of the amplitude" in made and "Uncertainty of the phase" in made
    r = content.reconstruction
    assert r.uncertainty is not None
    of_pass = replace(r.uncertainty, of="pass", wide_phase=1.5)
    told = section("uncertainty", replace(content, reconstruction=replace(r, uncertainty=of_pass)))
    assert "The bar of each pixel of a pass" in told and "1.50 (phase)" in told and "standard deviation" not in told
    wrong = replace(r.uncertainty, holds=False, remarks=("the model is wrong",))
    made = section("uncertainty", replace(content, reconstruction=replace(r, uncertainty=wrong)))
    assert "Does not hold" in made and "the model is wrong" in made and "68 %" not in made


def test_all_modes_come_with_their_power(content: Content) -> None:
    made = section("probe", content)
    assert "Mode 1: 80 %" in made and "Mode 2: 20 %" in made
    assert "320 nm wide" in made


@pytest.mark.parametrize(
    ("counts_from", "words"),
    [
        (None, "The error is that of amplitudes"),
        (0, "The error is that of counts"),
        (3, "Up to iteration 3 amplitudes were fitted, then counts"),
    ],
)
def test_the_error_has_its_unit(content: Content, counts_from: int | None, words: str) -> None:
    changed = replace(content, reconstruction=replace(content.reconstruction, counts_from=counts_from))
    assert words in section("convergence", changed)


def test_a_background_is_shown_in_counts(content: Content) -> None:
    assert "Background" not in section("scan", content)
    lit = replace(content.reconstruction, background=np.linspace(0, 3, 256).reshape(16, 16))
    for scale, unit in ((1.0, "counts per pixel"), (None, "squared amplitude")):
        made = section("scan", replace(content, reconstruction=lit, photon_scale=scale))
        assert "Background of every pattern" in made and unit in made


def test_patterns_that_stand_out_are_named(content: Content) -> None:
    assert "1 of 25 patterns stand out: 3" in section("trust", content)


def test_a_network_s_object_is_shown_too(content: Content) -> None:
    made = replace(
        content, reconstruction=replace(content.reconstruction, network_object=content.reconstruction.object)
    )
    assert section("object", made).count('class="viewer"') == 4
    assert "Phase before refinement" in section("object", made)


def test_settings_are_one_row_each(content: Content) -> None:
    made = section("settings", content)
    assert '<th scope="row">settings.<wbr>iterations</th><td>4</td>' in made
    assert '<th scope="row">model</th><td>none</td>' in made


def test_the_object_is_held_against_the_raster(content: Content, result: Reconstruction) -> None:
    """Its steps are 8 x 6 pixels; of other scans nothing is said."""
    x = np.arange(result.object.shape[1])
    for contrast, said in (
        (0.0, "It has no grid with the period"),
        (0.4, "It has a grid with the period"),
    ):
        image = np.broadcast_to(1 + contrast * np.cos(2 * np.pi * x / 8), result.object.shape).astype(np.complex64)
        page = section("object", replace(content, reconstruction=replace(result, object=image)))
        assert said in page and "8 x 6 pixels" in page
    other = replace(result, xcoords=result.xcoords + np.sin(result.ycoords * result.xcoords))
    assert "grid with the period" not in section("object", replace(content, reconstruction=other))
