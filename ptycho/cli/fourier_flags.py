"""The flags of `ptycho fourier` that are no settings: the images, the LEDs and the optics."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ptycho.cli.scan_flags import positive
from ptycho.errors import ConfigError

if TYPE_CHECKING:
    from ptycho.core.formats.led_table import Leds
    from ptycho.core.physics.fourier_ptychography import Microscope

__all__ = ["add_fourier_flags", "leds_of", "microscope_of"]

_OPTICS = {
    "na": ("na", 1.0, "numerical aperture of the objective"),
    "magnification": ("magnification", 1.0, "of the image on the camera"),
    "detector_pixel_um": ("camera_pixel_m", 1e-6, "side of a camera pixel, um"),
    "wavelength_nm": ("wavelength_m", 1e-9, "of the light, nm"),
}
"""Flags of the optics: field of the microscope, factor, help; all of them are needed."""
_BOARD = ("led_grid", "led_pitch_mm", "led_height_mm")


def add_fourier_flags(parser: argparse.ArgumentParser) -> None:
    """Add them; what was not given is None."""
    parser.add_argument(
        "images",
        nargs="?",
        default=None,
        metavar="IMAGES",
        help="one image for each LED: a TIFF stack, HDF5, NPY, NPZ, MATLAB as FILE[:PATH]; or a folder of images, or a "
        "quoted pattern as 'image_*.tif'",
    )
    group = parser.add_argument_group("The microscope")
    for name, (_, _, text) in _OPTICS.items():
        group.add_argument(f"--{_dashed(name)}", type=positive, default=None, metavar="X", dest=name, help=text)
    group.add_argument(
        "--region",
        type=_region,
        default=None,
        metavar="X,Y,SIDE",
        help="first column, first row and side of the part to reconstruct, pixels (default: the largest square in the "
        "middle); LEDs are placed by the middle of the whole image",
    )
    group.add_argument(
        "--units", default="counts", choices=("amplitude", "counts"), help="what pixels hold (default: counts)"
    )
    group = parser.add_argument_group("The LEDs, in the order of the images")
    group.add_argument(
        "--leds",
        default=None,
        metavar="FILE",
        help="table with x, y, z of each LED as seen from the sample (metres, or x_mm, y_mm, z_mm), or its direction "
        "sines na_x, na_y, or its wave vector kx, ky (radians per metre); text, NPY, NPZ or HDF5",
    )
    group.add_argument(
        "--led-grid", type=_whole_pair, default=None, metavar="ROWS,COLUMNS", help="instead of a table: a board of LEDs"
    )
    group.add_argument("--led-pitch-mm", type=positive, default=None, metavar="X", help="distance of neighbours, mm")
    group.add_argument(
        "--led-height-mm", type=positive, default=None, metavar="X", help="of the board over the sample, mm"
    )
    group.add_argument(
        "--led-centre",
        type=_pair,
        default=None,
        metavar="ROW,COLUMN",
        help="place on the board above the middle of the images, counted from 0 (default: its middle)",
    )
    group.add_argument(
        "--led-order",
        default="rows",
        choices=("rows", "snake"),
        help="row by row, or every second row backwards (default: rows)",
    )
    group.add_argument(
        "--flip",
        default=None,
        choices=("x", "y", "xy"),
        help="turn the sign of places of LEDs, for a mirrored image",
    )
    group.add_argument(
        "--rotation", type=float, default=0.0, metavar="DEG", help="turn the LEDs, after --flip, from x towards y"
    )


def microscope_of(options: argparse.Namespace) -> Microscope:
    """The optics.

    Raises:
        ConfigError: one that was not given, or that cannot be.
    """
    from ptycho.core.physics.fourier_ptychography import Microscope

    missing = [f"--{_dashed(name)}" for name in _OPTICS if getattr(options, name) is None]
    if missing:
        raise ConfigError(f"expected the optics of the microscope, found no {' and no '.join(missing)}; give them")
    return Microscope(**{field: factor * getattr(options, name) for name, (field, factor, _) in _OPTICS.items()})


def leds_of(options: argparse.Namespace, wavelength_m: float) -> Leds:
    """The LEDs of the table or of the board, turned.

    Raises:
        ConfigError: neither of them, or both. MissingFileError, DataError: as `leds_at`.
    """
    from ptycho.core.formats.led_table import led_board, leds_at

    board = [name for name in _BOARD if getattr(options, name) is not None]
    if (options.leds is None) == (not board):
        found = "both" if board else "neither"
        raise ConfigError(f"LEDs: expected --leds FILE or --{_dashed(_BOARD[0])}, found {found}; give one of them")
    if options.leds is not None:
        found_leds = leds_at(options.leds, wavelength_m)
    elif len(board) < len(_BOARD):
        flags = ", ".join(f"--{_dashed(name)}" for name in _BOARD)
        raise ConfigError(f"LEDs: expected {flags} together, found --{_dashed(board[0])} and not all of them")
    else:
        rows, columns = options.led_grid
        lengths = 1e-3 * options.led_pitch_mm, 1e-3 * options.led_height_mm
        found_leds = led_board(rows, columns, *lengths, options.led_centre, options.led_order)
    return found_leds.turned(options.flip or "", options.rotation)


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _numbers(text: str, count: int, kind: type, expected: str) -> tuple[Any, ...]:
    try:
        numbers = tuple(kind(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise argparse.ArgumentTypeError(f"expected {expected}, found {text}")
    return numbers


def _region(text: str) -> tuple[Any, ...]:
    return _numbers(text, 3, int, "three whole numbers X,Y,SIDE")


def _pair(text: str) -> tuple[Any, ...]:
    return _numbers(text, 2, float, "two numbers ROW,COLUMN")


def _whole_pair(text: str) -> tuple[Any, ...]:
    return _numbers(text, 2, int, "two whole numbers ROWS,COLUMNS")
