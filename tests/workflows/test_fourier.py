"""From images under many LEDs to a judged sample: planted ones, LEDs that do not fit, and what is said of them."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho.config.options import IterationOptions
from ptycho.core.formats.led_table import Leds, led_board
from ptycho.core.formats.reconstruction_npz import read_npz
from ptycho.core.fourier_result import as_spectrum
from ptycho.core.physics.fourier_ptychography import KEY, Microscope
from ptycho.core.quality.registration import register_subpixel
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.scan.stream import Frames
from ptycho.core.simulation.fourier import LitSample, lit_sample
from ptycho.errors import ConfigError
from ptycho.workflows.fourier import FourierRequest, reconstruct_sample
from ptycho.workflows.iteration.fourier_scan import FourierScan, fourier_scan
from ptycho.workflows.outputs import save_reconstruction

N = 24
OPTICS = Microscope(na=0.1, magnification=4.0, wavelength_m=632e-9, camera_pixel_m=6.5e-6)
BOARD = led_board(7, 7, 4e-3, 80e-3)


@lru_cache(maxsize=4)
def lit(**effects: Any) -> LitSample:
    """49 images of 24 x 24 pixels."""
    return lit_sample(OPTICS, BOARD.sines(), N, seed=1, **effects)


def scan_of(images: np.ndarray, leds: Leds = BOARD, **options: Any) -> FourierScan:
    return fourier_scan(Frames.of(images), leds, OPTICS, **options)


def sample(scan: FourierScan, **options: Any) -> tuple[Reconstruction, list[str]]:
    """The result, and what was told."""
    told: list[str] = []
    request = FourierRequest("pytorch", IterationOptions(**{"iterations": 30, **options}), tell=told.append)
    return reconstruct_sample(scan, request), told


def error(found: np.ndarray, truth: np.ndarray) -> float:
    """Relative distance up to a factor and a shift by less than a pixel, which a slope of the pupil's phase makes."""
    dy, dx = register_subpixel(np.abs(truth), np.abs(found))
    f = np.fft.fftfreq(len(found))
    moved = np.fft.ifft2(np.fft.fft2(found) * np.exp(-2j * np.pi * np.add.outer(dy * f, dx * f)))
    return min(
        float(np.linalg.norm(truth - np.vdot(each, truth) / np.vdot(each, each) * each) / np.linalg.norm(truth))
        for each in (found, moved)
    )


def test_a_sample_is_found_and_its_trust_is_earned_on_unseen_images(tmp_path: Path) -> None:
    """Aberrations of 0.3 radian; the pixel is that of the synthetic aperture; files and report show the sample."""
    made = lit(aberrations=0.3)
    scan = scan_of(made.images)
    found, told = sample(scan)
    assert error(found.object, made.sample) < 0.05
    trust = found.trust
    assert trust is not None and trust.grade == "to the noise" and trust.foretold is not None
    assert trust.foretold.share > 0.9
    assert found.pixel_m == pytest.approx(OPTICS.pixel_m * N / len(found.object))
    assert "9 of them bright" in told[0] and found.metadata[KEY]["na"] == 0.1
    inside = OPTICS.disk(N) == 1
    turned = np.vdot(made.pupil[inside], found.probe[0][inside]) / (
        np.linalg.norm(made.pupil[inside]) * np.linalg.norm(found.probe[0][inside])
    )
    assert abs(turned) > 0.98

    written = {path.name for path in save_reconstruction(found, tmp_path, scan.data)}
    assert {"reconstruction.npz", "report.html", "summary.png", "trust.png"} <= written
    assert "reconstruction.h5" not in written
    again = read_npz(tmp_path / "reconstruction.npz")
    np.testing.assert_array_equal(again.object, found.object)
    assert again.metadata[KEY] == found.metadata[KEY]
    page = (tmp_path / "report.html").read_text()
    assert "Field of view" in page and "Show the scan positions" not in page and "Measured" in page


def test_the_spectrum_of_a_result_predicts_its_images() -> None:
    """What is shown is the sample; what the trust was measured on is its spectrum."""
    found, _ = sample(scan_of(lit().images), refine_probe=False, iterations=12)
    solved = as_spectrum(found)
    assert KEY not in solved.metadata and solved.pixel_m is None
    assert as_spectrum(solved) is solved
    middle = len(found.object) // 2
    assert np.unravel_index(np.argmax(np.abs(solved.object)), solved.object.shape) == (middle, middle)
    np.testing.assert_allclose(np.linalg.norm(solved.object), np.linalg.norm(found.object), rtol=1e-5)


def test_what_would_help_is_named() -> None:
    """A turned board, by its flag; with it the images are explained."""
    scan = scan_of(lit(turned_deg=3.0).images)
    found, _ = sample(scan)
    assert found.trust is not None and "--positions stage" in found.trust.advice
    mended, told = sample(scan, refine_positions="stage")
    assert mended.trust is not None and mended.trust.grade == "to the noise" and not mended.trust.advice
    assert any(line.startswith("The stage:") for line in told)


def test_a_pupil_that_was_held_is_named() -> None:
    """Aberrations are taken out of the sample only where the pupil moves."""
    found, _ = sample(scan_of(lit(aberrations=0.4).images), refine_probe=False, iterations=12)
    assert found.trust is not None and "--refine-probe false" in found.trust.advice


def test_mirrored_images_are_named() -> None:
    """Of a board that is not the same from both sides."""
    scan = scan_of(lit().images, BOARD.turned("x"))
    found, _ = sample(scan, refine_positions=True, background="constant", refine_flux=True, iterations=12)
    assert found.trust is not None and "--flip x" in found.trust.advice


def test_settings_that_mean_nothing_here_are_refused() -> None:
    images = lit().images
    for options in ({"fly_points": 3}, {"modes": 2}, {"detector_blur": "find"}, {"object_prior": "tv"}):
        with pytest.raises(ConfigError, match="leave --"):
            sample(scan_of(images), **options)
