"""Refinement of a spectrum and its pupil: against the plain descent, from a flat start, and with LEDs that are off."""

from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.fourier_ptychography import (
    Microscope,
    bright_field_start,
    pupil_functions,
    sample_of,
    spectrum_of,
)
from ptycho.core.refinement.device.kernels import Point
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.steps.spectrum import SpectrumPreconditioner, evenly_lit
from ptycho.core.simulation.fourier import LitSample, lit_sample
from ptycho.errors import DataError
from ptycho.raw_data import RawData

N = 24
OPTICS = Microscope(na=0.1, magnification=4.0, wavelength_m=632e-9, camera_pixel_m=6.5e-6)


def board(side: int, step: float) -> np.ndarray:
    """Sines (side^2, 2) of a square board of LEDs."""
    steps = step * (np.arange(side) - (side - 1) / 2)
    return np.stack([each.ravel() for each in np.meshgrid(steps, steps)], axis=1)


@lru_cache(maxsize=4)
def made(aberrations: float = 0.0, turned: float = 0.0, flicker: float = 0.0) -> LitSample:
    """49 images of 24 x 24 pixels."""
    return lit_sample(OPTICS, board(7, 0.05), N, aberrations=aberrations, turned_deg=turned, flicker=flicker, seed=1)


def found(lit: LitSample, flat: bool = False, pupil: bool = True, iterations: int = 25, **options: Any) -> Refinement:
    """From the image of the LED in the middle, or from a spectrum that is 1 everywhere."""
    x, y, side = OPTICS.places(lit.sines, N)
    spectrum, probe = bright_field_start(np.sqrt(lit.images[24].astype(float)), OPTICS, side)
    scan = RawData(x, y, None, None, lit.images, probe, units="counts")
    settings = {"patience": 100, "frame": ObjectFrame(side, side, 0, 0), **options}
    functions = pupil_functions(OPTICS.disk(N), 6) if pupil else None
    start = np.ones_like(spectrum) if flat else spectrum
    return refine_scan(scan, start, iterations, pupil=functions, **settings)


def distance(result: Refinement, lit: LitSample, radius: float = 12) -> float:
    """Of the spectra, relative, up to a factor, where more than one image sees them."""
    truth, shape = spectrum_of(lit.sample), result.object.shape
    k = np.arange(shape[0]) - shape[0] // 2
    known = np.hypot(k[:, None], k[None, :]) < radius
    ours, theirs = result.object[known], truth[known]
    factor = np.vdot(ours, theirs) / np.vdot(ours, ours)
    return float(np.linalg.norm(theirs - factor * ours) / np.linalg.norm(theirs))


def test_the_step_of_a_pupil_solves_its_normal_equations() -> None:
    """A gradient that is the curvature of a move within the functions gives the move back; others are left out."""
    rng = np.random.default_rng(0)
    functions = pupil_functions(OPTICS.disk(8 * 2), 2)
    image = rng.normal(size=(20, 20)) + 1j
    rows = cols = np.array([0, 4])
    probe = np.ones((1, 16, 16), complex)
    seen = sum(np.abs(image[k : k + 16, k : k + 16]) ** 2 for k in (0, 4))
    steps = SpectrumPreconditioner(image, probe, rows, cols, functions)
    move = np.tensordot(rng.normal(size=len(functions)) + 1j, functions, 1)
    step = steps.probe_step((seen * move)[None], probe)
    np.testing.assert_allclose(step[0], move, rtol=1e-3, atol=1e-3 * np.abs(move).max())


def test_a_spectrum_and_an_aberrated_pupil_are_found_from_the_bright_field() -> None:
    """Where the plain descent is still on its way, and a flat start goes astray."""
    lit = made(aberrations=0.4)
    good, plain, flat = found(lit), found(lit, pupil=False), found(lit, flat=True)
    assert distance(good, lit) < 0.03
    assert good.error_history[-1] < 0.5 * plain.error_history[-1]
    assert distance(flat, lit) > 0.5
    assert np.abs(good.probe[0][OPTICS.disk(N) == 0]).max() == 0  # the pupil has an edge


def test_a_board_of_leds_that_is_turned_is_found() -> None:
    """By 3 degrees; all LEDs alike, the spectrum stays as it is."""
    lit = made(turned=3.0)
    before, after = found(lit), found(lit, refine_positions="stage")
    assert after.error_history[-1] < 0.7 * before.error_history[-1]
    away = np.stack([after.xcoords, after.ycoords], axis=1) - after.object.shape[0] // 2
    home = lit.sines * N * OPTICS.pixel_m / OPTICS.wavelength_m
    turn = np.arctan2(np.sum(home[:, 0] * away[:, 1] - home[:, 1] * away[:, 0]), np.sum(home * away))
    assert np.rad2deg(turn) == pytest.approx(3.0, abs=0.3)


def test_nothing_is_found_where_nothing_is() -> None:
    """A pupil without aberrations and LEDs in their places: within 5 % of the error without freedom."""
    lit = made()
    fixed, free = found(lit, refine_probe=False), found(lit, refine_positions="stage")
    assert free.error_history[-1] < 1.05 * fixed.error_history[-1]
    np.testing.assert_allclose(free.xcoords, OPTICS.places(lit.sines, N)[0], atol=0.1)
    assert distance(free, lit) < 0.02
    assert sample_of(free.object).shape == lit.sample.shape


def test_a_pupil_that_is_brighter_on_one_side_goes_to_the_leds() -> None:
    """The images stay as they are: `sqrt(flux) P S` at every LED."""
    rng = np.random.default_rng(0)
    pupil = (OPTICS.disk(16) == 1)[None] * np.exp(np.linspace(-0.3, 0.3, 16)[:, None] + 0j)
    flux, x, y = np.array([0.5, 1.5]), np.array([9.0, 14.0]), np.array([10.0, 13.0])
    point = Point(rng.normal(size=(24, 24)) + 1j, pupil, x, y, flux, np.zeros((16, 16)))

    def fields(at: Point, flux: np.ndarray) -> np.ndarray:
        cut = [
            at.object[int(row) - 8 : int(row) + 8, int(col) - 8 : int(col) + 8] for row, col in zip(y, x, strict=True)
        ]
        return np.sqrt(flux)[:, None, None] * at.probe * np.stack(cut)

    after, changed = evenly_lit(point, flux)
    np.testing.assert_allclose(fields(after, changed), fields(point, flux))
    inside = OPTICS.disk(16) == 1
    np.testing.assert_allclose(np.abs(after.probe[0][inside]), np.abs(after.probe[0][inside]).mean(), rtol=1e-6)


def test_leds_that_are_unequally_bright_are_found() -> None:
    """By 20 % rms, under a pupil that moves, which leaves open how much brighter the board is on one side; where they
    are alike the spectrum is no worse for it.
    """
    optics: dict[str, Any] = {"likelihood": "poisson", "iterations": 30}
    alike, unlike = made(), made(flicker=0.2)
    free, fixed = found(alike, refine_flux=True, **optics), found(alike, **optics)
    assert distance(free, alike, radius=18) < 1.05 * distance(fixed, alike, radius=18)
    good = found(unlike, refine_flux=True, likelihood="poisson", iterations=60)
    assert distance(good, unlike, radius=18) < 1.05 * distance(fixed, alike, radius=18)
    planted = unlike.images.sum((1, 2)) / alike.images.sum((1, 2))
    left = np.log(good.flux / planted)
    assert (left - left.mean()).std() < 0.3 * np.log(planted).std()


def test_functions_of_another_size_are_refused() -> None:
    """With the size that is expected."""
    with pytest.raises(DataError, match=r"pupil: expected finite functions \(K, 24, 24\)"):
        refine_scan(
            RawData([12.0, 14], [12.0, 14], None, None, np.ones((2, N, N)), np.ones((N, N), complex), units="counts"),
            pupil=np.ones((1, 8, 8)),
        )
