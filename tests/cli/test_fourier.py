"""`ptycho fourier`: from images and a board of LEDs to a folder with the sample; faults are one line."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import ptycho
from ptycho.cli import progress
from ptycho.cli.command import main
from ptycho.core.formats.led_table import led_board
from ptycho.core.physics.fourier_ptychography import Microscope
from ptycho.core.progress import Progress
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


def test_a_run_that_was_cut_off_ends_as_the_whole_one(
    images: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it leaves until then is the sample, on its own pixels."""
    asked = ["fourier", images, *OPTICS, *BOARD, "--iterations", "13", "--likelihood", "amplitude"]
    monkeypatch.setattr("ptycho.core.refinement.state_file.StateFile.due", lambda self: True)
    assert main([*asked, "-o", "whole"]) == 0

    def stop(progress: Progress) -> None:
        if progress.done == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(progress, "log_progress", stop)
        assert main([*asked, "-o", "cut"]) == 143
    said = capsys.readouterr().err.splitlines()[-1]
    assert "the object so far is in cut/so_far.npz; go on with ptycho fourier --resume cut" in said
    so_far = ptycho.load_reconstruction(tmp_path / "cut" / "so_far.npz")
    assert len(so_far.error_history) == 13
    seen: list[int] = []
    monkeypatch.setattr(progress, "log_progress", lambda progress: seen.append(progress.done))
    assert main(["fourier", "--resume", "cut"]) == 0
    assert seen[0] == 10
    whole, cut = (ptycho.load_reconstruction(tmp_path / name) for name in ("whole", "cut"))
    np.testing.assert_array_equal(whole.object, cut.object)
    np.testing.assert_array_equal(whole.probe, cut.probe)
    assert so_far.pixel_m == cut.pixel_m
    alike = abs(np.vdot(so_far.object, cut.object)) / (np.linalg.norm(so_far.object) * np.linalg.norm(cut.object))
    assert alike > 0.99
    assert not {"so_far.npz", "preview.png", "state"} & {path.name for path in (tmp_path / "cut").iterdir()}


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
