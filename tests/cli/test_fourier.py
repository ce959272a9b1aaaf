"""`ptycho fourier`: from images and a board of LEDs to a folder with the sample; faults are one line."""

import json
from pathlib import Path

import numpy as np
import pytest

import ptycho
from ptycho.cli.command import main
from ptycho.core.formats.led_table import led_board
from ptycho.core.physics.fourier_ptychography import Microscope
from ptycho.core.simulation.fourier import lit_sample

OPTICS = ["--na", "0.1", "--magnification", "4", "--detector-pixel-um", "6.5", "--wavelength-nm", "632"]
BOARD = ["--led-grid", "3,3", "--led-pitch-mm", "4", "--led-height-mm", "80"]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Nine images of 16 x 16 pixels in the working directory."""
    monkeypatch.chdir(tmp_path)
    microscope = Microscope(0.1, 4.0, 632e-9, 6.5e-6)
    made = lit_sample(microscope, led_board(3, 3, 4e-3, 80e-3).sines(), 16, kind="smooth", seed=1)
    np.save("images.npy", made.images)
    return "images.npy"


def test_images_and_a_board_make_a_folder(images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Named after the images; the report links the files, the result is the sample on its own pixels."""
    assert main(["fourier", images, *OPTICS, *BOARD, "--iterations", "6", "--positions", "stage"]) == 0
    told = capsys.readouterr().err
    assert "9 images of 16 x 16 pixels, 9 of them bright" in told and "Trust: " in told.splitlines()[-2]
    folder = tmp_path / "images_fourier"
    assert {"reconstruction.npz", "report.html", "run.json", "run.log"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "run.json").read_text())["arguments"][0] == images
    found = ptycho.load_reconstruction(folder / "reconstruction.npz")
    assert found.pixel_m == pytest.approx(6.5e-6 / 4 * 16 / len(found.object))
    assert "Reconstructed" in (folder / "run.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "IMAGES is required"),
        (["images.npy", *BOARD], "found no --na and no --magnification and no --detector-pixel-um"),
        (["images.npy", *OPTICS], "expected --leds FILE or --led-grid, found neither"),
        (["images.npy", *OPTICS, *BOARD, "--leds", "leds.csv"], "found both"),
        (["images.npy", *OPTICS, *BOARD[:2]], "expected --led-grid, --led-pitch-mm, --led-height-mm together"),
        (["gone.tif", *OPTICS, *BOARD], "gone.tif: expected a file"),
        (["images.npy", *OPTICS, "--leds", "gone.csv"], "gone.csv: expected a file"),
        (["images.npy", *OPTICS, *BOARD, "--region", "0,0"], "expected three whole numbers X,Y,SIDE, found 0,0"),
        (["images.npy", *OPTICS, "--led-grid", "4,4", *BOARD[2:]], "expected one LED for every image, found 16 for 9"),
        (["images.npy", *OPTICS, *BOARD, "--fly"], "LEDs do not move"),
    ],
)
def test_bad_input_is_one_line(
    images: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """And leaves no folder."""
    assert main(["fourier", *arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1] and said[-1].startswith("ptycho fourier: error: ")
    assert not any(path.name.endswith(".npz") for path in tmp_path.rglob("*"))
