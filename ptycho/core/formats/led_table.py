"""Where the LEDs of Fourier ptychography are: a table, or a board of rows and columns.

    leds.csv         columns x, y, z (metres, or with units as x_mm) over the sample; or na_x, na_y, the direction sines
                     of each LED; or kx, ky, their wave vectors, radians per metre
    leds.npy         (k, 3) x, y, z in metres, or (k, 2) direction sines
    leds.npz, .h5    arrays x, y, z, or na_x, na_y, or kx, ky

x runs along the columns of the images, y along their rows, z from the sample to the LEDs; a text without a header has
x, y, z in three columns, or direction sines in two. There is one LED for every image, in their order.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.damage import readable
from ptycho.core.formats.position_table import named_columns
from ptycho.core.formats.registry import is_hdf5
from ptycho.core.formats.sources import array_in, source
from ptycho.errors import ConfigError, DataError

__all__ = ["Leds", "Order", "led_board", "leds_at"]

Array = NDArray[Any]
Order = Literal["rows", "snake"]
"""Of the LEDs of a board: row by row, each from left to right, or every second one from right to left."""

_SETS = (("x", "y", "z"), ("na_x", "na_y"), ("kx", "ky"))
_ARRAYS = (".npy", ".npz", ".mat")


@dataclass(frozen=True, eq=False)
class Leds:
    """Where LEDs are, or in which direction."""

    places_m: NDArray[np.float64] | None = None
    """(k, 3) x, y, z as seen from the middle of the images, metres."""
    directions: NDArray[np.float64] | None = None
    """(k, 2) direction sines, where the places are not known."""

    def __len__(self) -> int:
        found = self.directions if self.places_m is None else self.places_m
        assert found is not None
        return len(found)

    def sines(self, offset_m: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float64]:
        """(k, 2) direction sines as seen from a place of the sample that is so far (x, y) from the middle, metres."""
        if self.places_m is None:
            assert self.directions is not None
            return self.directions
        away = self.places_m - [*offset_m, 0.0]
        return np.asarray(away[:, :2] / np.linalg.norm(away, axis=1, keepdims=True))

    def turned(self, flip: str = "", rotation_deg: float = 0.0) -> Leds:
        """The same with the sign of these axes ('x', 'y', 'xy') turned, and then turned from x towards y."""
        angle = float(np.deg2rad(rotation_deg))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turn = turn @ np.diag([-1.0 if axis in flip else 1.0 for axis in "xy"])
        if self.places_m is None:
            assert self.directions is not None
            return replace(self, directions=self.directions @ turn.T)
        return replace(self, places_m=np.column_stack([self.places_m[:, :2] @ turn.T, self.places_m[:, 2]]))


def led_board(
    rows: int,
    columns: int,
    pitch_m: float,
    height_m: float,
    centre: tuple[float, float] | None = None,
    order: Order = "rows",
) -> Leds:
    """The LEDs of a board over the sample.

    Args:
        rows, columns: of the board; rows run along x.
        pitch_m: distance of neighbours, metres.
        height_m: of the board over the sample, metres.
        centre: (row, column) of the place above the middle of the images, counted from 0; None: the middle.
        order: in which they were lit.

    Raises:
        ConfigError: a number that is not positive.
    """
    for name, value in (("rows", rows), ("columns", columns), ("pitch", pitch_m), ("height", height_m)):
        if not (np.isfinite(value) and value > 0):
            raise ConfigError(f"LED board: expected {name} above 0, found {value}; correct it")
    row, column = ((rows - 1) / 2, (columns - 1) / 2) if centre is None else centre
    y, x = np.mgrid[:rows, :columns].astype(np.float64)
    if order == "snake":
        x[1::2] = x[1::2, ::-1]
    places = np.stack([pitch_m * (x - column), pitch_m * (y - row), np.full_like(x, height_m)], axis=-1)
    return Leds(places.reshape(-1, 3))


def leds_at(text: str, wavelength_m: float) -> Leds:
    """The LEDs of a file.

    Raises:
        MissingFileError: no such file.
        DataError: no table of LEDs; one line with the file.
    """
    paths = source(text).paths
    if len(paths) != 1:
        raise DataError(f"{text}: expected one file of LEDs, found {len(paths)}; name one")
    with readable(paths[0], "a table of LEDs"):
        return _of(paths[0], *_read(paths[0]), wavelength_m)


def _read(path: Path) -> tuple[tuple[str, ...], Array]:
    """Which columns there are, a member of `_SETS`, and these (k, 2) or (k, 3)."""
    if path.suffix == ".npy":
        return _unnamed(path, np.asarray(array_in(path, None)))
    if is_hdf5(path) or path.suffix in _ARRAYS:
        for names in _SETS:
            with suppress(DataError):
                return names, np.column_stack([np.asarray(array_in(path, name, axes=1)).ravel() for name in names])
        raise DataError(f"{path}: expected arrays {_listed()}, found none of these; name them so")
    header, factors, table = named_columns(path)
    if not header:
        return _unnamed(path, table)
    for names in _SETS:
        if set(names) <= set(header):
            chosen = [header.index(name) for name in names]
            scales = [1.0 if factors[column] is None or names[0] != "x" else factors[column] for column in chosen]
            return names, table[:, chosen] * np.array(scales, np.float64)
    raise DataError(f"{path}: expected columns {_listed()}, found {', '.join(header)}; name them so")


def _unnamed(path: Path, table: Array) -> tuple[tuple[str, ...], Array]:
    if table.ndim != 2 or table.shape[1] not in (2, 3):
        raise DataError(f"{path}: expected x, y, z or two direction sines of each LED, found shape {table.shape}")
    return _SETS[0] if table.shape[1] == 3 else _SETS[1], table


def _of(path: Path, names: tuple[str, ...], table: Array, wavelength_m: float) -> Leds:
    if table.dtype.kind not in "iuf" or not np.isfinite(table).all():
        raise DataError(f"{path}: expected finite numbers, found others; correct the table")
    values = table.astype(np.float64)
    if names == _SETS[0]:
        if not (values[:, 2] > 0).all():
            raise DataError(f"{path}: expected LEDs at a height z above 0, found {values[:, 2].min():g}; correct it")
        return Leds(places_m=values)
    return Leds(directions=values * (wavelength_m / (2 * np.pi) if names == _SETS[2] else 1.0))


def _listed() -> str:
    return " or ".join(", ".join(names) for names in _SETS)
