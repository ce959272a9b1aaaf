"""An object against single patterns and against another object."""

from dataclasses import replace

import numpy as np

from ptycho.report.content import Content
from ptycho.report.evidence import comparison_section, position_section, residual_section


def test_the_worst_patterns_and_the_median_one(content: Content) -> None:
    made = residual_section(content)
    assert made is not None
    assert "Pattern 3 (worst), 6 times the deviance of noise" in made[1]
    assert "Pattern 1 (next worst)" in made[1] and "Pattern 0 (median)" in made[1]
    assert made[1].count('class="viewer"') == 9
    assert "σ of photon noise" in made[1]


def test_without_a_dose_a_difference_is_one_of_amplitudes(content: Content) -> None:
    made = residual_section(replace(content, photon_scale=None))
    assert made is not None and "σ of photon noise" not in made[1]


def test_both_objects_their_difference_and_the_figures(content: Content) -> None:
    made = comparison_section(content)
    assert made is not None
    assert made[1].count('class="viewer"') == 6
    assert "PSNR (dB)" in made[1]
    assert "Could not be compared" in made[1]
    assert comparison_section(replace(content, compared=())) is None


def test_positions_that_moved_are_shown_and_told_of(content: Content) -> None:
    assert position_section(replace(content, home=None)) is None
    r = content.reconstruction
    away = np.where(np.arange(r.xcoords.size) == 3, 2.0, 0.0)
    made = position_section(replace(content, home=(r.xcoords - away, r.ycoords)))
    assert made is not None and made[0] == "Positions"
    assert "scale" in made[1] and "pixels rms" in made[1] and "Arrows go from where the scan has a position" in made[1]
