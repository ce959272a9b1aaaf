"""The picture of a resolution says the length where pixels have one."""

from pathlib import Path

import numpy as np

from ptycho.core.quality.resolution import Resolution
from ptycho.core.quality.ring_correlation import FrcCurve
from ptycho.figures.resolution import resolution_figure, save_resolution_png

CURVE = FrcCurve(np.linspace(0, 0.5, 21), np.linspace(1, -0.1, 21), np.arange(1, 22) * 6)


def test_the_upper_axis_is_the_period() -> None:
    figure = resolution_figure(Resolution(CURVE, (5, 5), 2e-8))
    (above,) = figure.axes[0].child_axes
    assert above.get_xlabel() == "period (nm)"
    assert [text.get_text() for text in above.get_xticklabels()] == ["200", "100", "66.7", "50", "40"]
    assert figure.get_suptitle().startswith("Two halves of the scan agree down to\na period of ")


def test_without_a_pixel_size_there_is_none(tmp_path: Path) -> None:
    found = Resolution(CURVE, (5, 5))
    assert resolution_figure(found).axes[0].child_axes == []
    assert save_resolution_png(found, tmp_path / "frc.png", pdf=True).stat().st_size > 5000
    assert (tmp_path / "frc.pdf").is_file()
