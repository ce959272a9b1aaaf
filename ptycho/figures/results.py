"""The picture of anything that has one: what `plot()` and a notebook show."""

from __future__ import annotations

from functools import singledispatch

from matplotlib.figure import Figure

from ptycho.core.formats.scan_npz import record_of
from ptycho.core.quality.comparison import Comparison
from ptycho.core.quality.resolution import Resolution
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.result import reconstruction_of
from ptycho.figures.comparison import comparison_figure
from ptycho.figures.drawing import png_bytes
from ptycho.figures.reconstruction import summary_figure
from ptycho.figures.resolution import resolution_figure
from ptycho.figures.scan import scan_figure
from ptycho.raw_data import RawData

__all__ = ["figure_of", "png_of"]


@singledispatch
def figure_of(shown: object) -> Figure:
    """The sheet of a scan, a reconstruction, a refinement, a comparison or a resolution.

    Raises:
        TypeError: anything else.
    """
    expected = "a scan, a reconstruction, a refinement, a comparison or a resolution"
    raise TypeError(f"expected {expected}, found {type(shown).__name__}")


def png_of(shown: object) -> bytes:
    """The sheet as a PNG file."""
    return png_bytes(figure_of(shown))


@figure_of.register
def _(shown: RawData) -> Figure:
    return scan_figure(record_of(shown.scan_file(), {}), shown.name, shown.units)


@figure_of.register
def _(shown: Reconstruction) -> Figure:
    return summary_figure(shown)


@figure_of.register
def _(shown: Refinement) -> Figure:
    return summary_figure(reconstruction_of(shown))


@figure_of.register
def _(shown: Comparison) -> Figure:
    return comparison_figure(shown)


@figure_of.register
def _(shown: Resolution) -> Figure:
    return resolution_figure(shown)
