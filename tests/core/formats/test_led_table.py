"""Where LEDs are: boards by hand, tables of every kind, and what is said where they are none."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.core.formats.led_table import Leds, led_board, leds_at
from ptycho.errors import ConfigError, DataError, MissingFileError

PLACES = np.array([[3e-3, 0.0, 4e-3], [0.0, -4e-3, 3e-3]])
SINES = np.array([[0.6, 0.0], [0.0, -0.8]])


def test_a_board_has_rows_along_x() -> None:
    """2 x 3 LEDs 4 mm apart: the middle is between the rows; a snake goes back in the second."""
    board = led_board(2, 3, 4e-3, 60e-3)
    assert board.places_m is not None
    np.testing.assert_allclose(board.places_m[[0, 2, 3]] * 1e3, [[-4, -2, 60], [4, -2, 60], [-4, 2, 60]])
    snake = led_board(2, 3, 4e-3, 60e-3, (0, 0), "snake").places_m
    assert snake is not None
    np.testing.assert_allclose(snake[[0, 3, 5]] * 1e3, [[0, 0, 60], [8, 4, 60], [0, 4, 60]])
    for wrong in ((0, 3, 1.0, 1.0), (2, 3, -1.0, 1.0), (2, 3, 1.0, np.inf)):
        with pytest.raises(ConfigError, match="LED board: expected"):
            led_board(*wrong)


def test_directions_are_those_from_the_place_of_the_sample() -> None:
    """3-4-5 triangles; a place below the LED sees it straight above; directions do not change."""
    np.testing.assert_allclose(Leds(PLACES).sines(), SINES)
    np.testing.assert_allclose(Leds(PLACES).sines((3e-3, 0.0))[0], 0, atol=1e-15)
    np.testing.assert_allclose(Leds(directions=SINES).sines((3e-3, 0.0)), SINES)


def test_leds_are_mirrored_and_turned() -> None:
    """X first mirrored, then x towards y by a right angle; heights stay."""
    turned = Leds(PLACES).turned("x", 90.0)
    assert turned.places_m is not None
    np.testing.assert_allclose(turned.places_m * 1e3, [[0, -3, 4], [4, 0, 3]], atol=1e-12)
    np.testing.assert_allclose(Leds(directions=SINES).turned("xy").sines(), -SINES)


def test_tables_of_every_kind_say_the_same(tmp_path: Path) -> None:
    """Text with and without units and header, sines, wave vectors, NPY, NPZ, HDF5."""
    wavelength, k = 500e-9, 2 * np.pi / 500e-9
    texts = {
        "metres.txt": "\n".join(" ".join(map(repr, row.tolist())) for row in PLACES),
        "mm.csv": "led,x_mm,y_mm,z_mm\n" + "\n".join(f"{n},{x},{y},{z}" for n, (x, y, z) in enumerate(PLACES * 1e3)),
        "sines.csv": "na_x,na_y\n" + "\n".join(f"{x},{y}" for x, y in SINES),
        "waves.csv": "kx;ky\n" + "\n".join(f"{k * x};{k * y}" for x, y in SINES),
        "bare.csv": "\n".join(f"{x},{y}" for x, y in SINES),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    np.save(tmp_path / "places.npy", PLACES)
    np.savez(tmp_path / "waves.npz", kx=k * SINES[:, 0], ky=k * SINES[:, 1])
    with h5py.File(tmp_path / "places.h5", "w") as file:
        for column, name in enumerate("xyz"):
            file[name] = PLACES[:, column]
    for name in (*texts, "places.npy", "waves.npz", "places.h5"):
        np.testing.assert_allclose(leds_at(str(tmp_path / name), wavelength).sines(), SINES, err_msg=name)
        assert len(leds_at(str(tmp_path / name), wavelength)) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "expected columns x, y, z or na_x, na_y or kx, ky, found a, b"),
        ("1,2,3,4\n", "expected x, y, z or two direction sines"),
        ("x,y,z\n1,2,-3\n", "at a height z above 0, found -3"),
        ("x,y,z\n1,2,nan\n", "finite numbers"),
        ("x,y,z\n1,2,3\n1,2,far\n", "numbers in every column"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """In one line with the file."""
    path = tmp_path / "leds.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        leds_at(str(path), 5e-7)
    assert str(path) in str(caught.value)


def test_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """And archives without such arrays."""
    with pytest.raises(MissingFileError):
        leds_at(str(tmp_path / "none.csv"), 5e-7)
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(DataError, match="expected arrays x, y, z"):
        leds_at(str(tmp_path / "other.npz"), 5e-7)
