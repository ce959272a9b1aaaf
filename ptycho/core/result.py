"""What results share: equality by value, amplitude and phase, and the way to pictures and files.

Pictures and files are made in rooms that know every kind of result and therefore import this one. So a result names
the module that shows or writes it, and that is loaded when somebody asks for a picture or a file.
"""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PICTURES", "WRITERS", "ByValue", "ObjectResult", "Pictured", "percent", "plural", "same_value"]

PICTURES = "ptycho.figures.results"
"""The module whose `figure_of` draws a result and whose `png_of` makes a picture file of it."""
WRITERS = "ptycho.workflows.outputs"
"""The module whose `save_result` writes a result, and whose `write_report` its report."""


class ByValue:
    """A dataclass whose equality compares arrays by shape and value, NaN with NaN; like any mutable thing not hashable.

    The dataclass is made with `eq=False`.
    """

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(same_value(getattr(self, f.name), getattr(other, f.name)) for f in fields(self) if f.compare)  # type: ignore[arg-type]  # a dataclass


def same_value(one: Any, other: Any) -> bool:
    """Whether two values are the same, arrays and NaN included."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other, equal_nan=one.dtype.kind in "fc" and other.dtype.kind in "fc")
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return False
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same_value, one, other))
    return bool(one == other or (one != one and other != other))  # NaN is the only thing unlike itself


class Pictured:
    """Something that has a picture."""

    def plot(self) -> Figure:
        """The picture as a Matplotlib figure of its own: no window opens and pyplot does not know of it."""
        figure: Figure = import_module(PICTURES).figure_of(self)
        return figure

    def _repr_png_(self) -> bytes:
        """The picture in a notebook."""
        png: bytes = import_module(PICTURES).png_of(self)
        return png


class ObjectResult(ByValue, Pictured):
    """A result that holds an object."""

    object: NDArray[np.complex64]
    slices: NDArray[np.complex64] | None

    @property
    def layers(self) -> NDArray[np.complex64]:
        """What the beam goes through: (K, H, W) slices of a thick object, else the object (H, W)."""
        return self.object if self.slices is None else self.slices

    @property
    def amplitude(self) -> NDArray[np.float32]:
        """(H, W) modulus of the object."""
        return np.abs(self.object)

    @property
    def phase(self) -> NDArray[np.float32]:
        """(H, W) phase of the object, radians from -pi to pi."""
        return np.angle(self.object)

    def save(self, path: Path | str) -> Path:
        """Write the result, whole or not at all, and return the path.

        Args:
            path: `.npz` is the library's own file (`ptycho.load_reconstruction` reads it back), `.h5` or `.hdf5` a
                ptychodus product; a path without a suffix is a folder that gets both and the pictures.

        Raises:
            ConfigError: another suffix.
            OutputError: a place that cannot be written.
        """
        written: Path = import_module(WRITERS).save_result(self, Path(path))
        return written

    def report(
        self,
        path: Path | str = "report.html",
        scan: Any = None,
        compare: Path | str | None = None,
    ) -> Path:
        """Write the report, one HTML file that needs no network, and return its path.

        Args:
            path: file to write.
            scan: the scan of the result, a `ptycho.RawData` or its file: brings its patterns beside those predicted,
                and the truth.
            compare: an earlier result or a truth, a file, to compare it with.

        Raises:
            MissingFileError, DataError: no such file, or a scan that the result is not of.
            OutputError: a place that cannot be written.
        """
        other = None if compare is None else Path(compare)
        written: Path = import_module(WRITERS).write_report(self, Path(path), scan, other)
        return written


def plural(count: int, word: str) -> str:
    """A number with its word.

    >>> plural(1, "position"), plural(64, "position")
    ('1 position', '64 positions')
    """
    return f"{count} {word}{'' if count == 1 else 's'}"


def percent(part: float) -> str:
    """A part in per cent, two digits and never a power of ten.

    >>> percent(0.9961), percent(0.0213), percent(1.0), percent(2.5)
    ('100 %', '2.1 %', '100 %', '250 %')
    """
    return f"{100 * part:.0f} %" if part >= 0.0995 else f"{100 * part:.2g} %"
