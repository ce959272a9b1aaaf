"""Beams of real optics: sizes and curvatures as textbooks have them, in a window of metres."""

import numpy as np
import pytest

from ptycho.core.physics.beamline import (
    OPTICS,
    Aperture,
    GaussianFocus,
    Mirrors,
    Window,
    ZonePlate,
    is_optics,
    parse_optics,
)
from ptycho.core.physics.diffraction import far_field
from ptycho.core.physics.optics import fresnel_propagate
from ptycho.errors import ConfigError, DataError

N, PIXEL, WAVELENGTH = 96, 20e-9, 0.124e-9
WINDOW = Window(N, PIXEL, WAVELENGTH)


def spread(intensity: np.ndarray) -> tuple[float, float]:
    """Standard deviation along y and x, pixels."""
    line = np.arange(N) - N // 2
    total = intensity.sum()
    return tuple(float(np.sqrt((intensity.sum(axis=axis) @ line**2) / total)) for axis in (1, 0))


@pytest.mark.parametrize(
    ("text", "optics"),
    [
        ("fzp:diameter=160um,outer=70nm,stop=60um,defocus=0.6mm", ZonePlate(160e-6, 70e-9, 60e-6, 0.6e-3)),
        ("FZP: outer = 70 nm , diameter = 1.6e2 um, defocus=-.6mm", ZonePlate(160e-6, 70e-9, 0.0, -0.6e-3)),
        ("aperture:size=5µm", Aperture(5e-6)),
        ("gaussian:fwhm=0.3um,defocus=2cm", GaussianFocus(0.3e-6, 0.02)),
        ("kb:width=300um,height=200um,focal=0.1m", Mirrors(300e-6, 200e-6, 0.1)),
    ],
)
def test_the_text_form(text: str, optics: object) -> None:
    read = parse_optics(text)
    for name, value in vars(optics).items():
        assert getattr(read, name) == pytest.approx(value, rel=1e-12)
    assert type(read) is type(optics)
    assert is_optics(text)
    assert "sample" in str(read) or "aperture" in str(read)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("laser:power=3um", r"expected one of fzp:diameter=,outer=,.*aperture:size=.*found 'laser'"),
        ("fzp:", "expected diameter and outer as well"),
        ("fzp:diameter=160um", "expected outer as well, found none; add outer="),
        ("fzp:diameter=160,outer=70nm", r"diameter: expected a length with its unit \(m, cm.*found '160'"),
        ("fzp:diameter=160in,outer=70nm", "found '160in'"),
        ("fzp:diameter=160um,outer=70nm,zone=3um", "found 'zone=3um'"),
        ("aperture:size=1um,size=2um", "at most once, found 'size=2um'"),
        ("aperture:size", "found 'size'"),
        ("aperture:size=0um", "size: expected a length above 0, found 0um"),
        ("aperture:size=1um,distance=-1mm", "distance: expected a length above 0"),
    ],
)
def test_what_cannot_be_read_is_one_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_optics(text)
    assert "\n" not in str(caught.value)


def test_a_path_is_no_optics() -> None:
    assert not any(is_optics(text) for text in ("probe.npy", "fzp.npz", "C:/probe.npy", "./fzp:a.npy", "fzp"))
    assert all(is_optics(f"{word}:") for word in OPTICS)


def test_a_zone_plate_lights_a_ring_whose_radius_its_outermost_zone_sets() -> None:
    """The cone's half angle is wavelength / (2 outer), a detector pixel's wavelength / (N pixel)."""
    outer = 48e-9
    wave = ZonePlate(100e-6, outer, stop_m=40e-6).wave(WINDOW)
    pupil = np.abs(far_field(wave)) ** 2
    radius = N * PIXEL / (2 * outer)
    line = np.arange(N) - N // 2
    q = np.hypot(line[:, None], line)
    assert radius == pytest.approx(20.0)
    assert pupil[(q < 0.4 * radius - 1) | (q > radius + 1)].max() < 1e-20
    np.testing.assert_allclose(pupil[(q > 0.4 * radius + 1) & (q < radius - 1)], 1.0, atol=1e-12)
    area = np.pi * radius**2 * (1 - 0.4**2)
    assert np.abs(far_field(wave)).sum() == pytest.approx(area, rel=0.01)


@pytest.mark.parametrize("kind", ["fzp", "kb", "gaussian"])
def test_a_sample_behind_the_focus_is_the_focus_propagated(kind: str) -> None:
    made = {
        "fzp": ZonePlate(100e-6, 80e-9, defocus_m=0.3e-3),
        "kb": Mirrors(100e-6, 60e-6, 0.09, defocus_m=0.3e-3),
        "gaussian": GaussianFocus(250e-9, 0.3e-3),
    }[kind]
    focus = type(made)(**{**vars(made), "defocus_m": 0.0}).wave(WINDOW)
    expected = fresnel_propagate(focus.astype(np.complex128), WAVELENGTH * 0.3e-3 / PIXEL**2)
    np.testing.assert_allclose(made.wave(WINDOW), expected, atol=1e-12)


def test_a_defocused_zone_plate_is_as_wide_as_its_cone() -> None:
    """An even disk of diameter d has the standard deviation d / 4 along an axis."""
    diameter, outer, defocus = 100e-6, 80e-9, 0.6e-3
    focal = diameter * outer / WAVELENGTH
    wave = ZonePlate(diameter, outer, defocus_m=defocus).wave(WINDOW)
    geometric = diameter * defocus / focal / PIXEL
    np.testing.assert_allclose(spread(np.abs(wave) ** 2), geometric / 4, rtol=0.06)


def test_a_gaussian_focus_widens_as_its_rayleigh_length_says() -> None:
    fwhm = 240e-9
    waist = fwhm / np.sqrt(2 * np.log(2))
    rayleigh = np.pi * waist**2 / WAVELENGTH
    for distance in (0.0, rayleigh, -rayleigh):
        wave = GaussianFocus(fwhm, distance).wave(WINDOW)
        width = waist / 2 / PIXEL * np.sqrt(1 + (distance / rayleigh) ** 2)
        np.testing.assert_allclose(spread(np.abs(wave) ** 2), width, rtol=1e-3)


def test_mirrors_have_a_rectangular_pupil() -> None:
    pupil = np.abs(far_field(Mirrors(width_m=90e-6, height_m=45e-6, focal_m=0.1).wave(WINDOW)))
    per_pixel = WAVELENGTH * 0.1 / (N * PIXEL)
    assert pupil.sum(axis=1).max() == pytest.approx(90e-6 / per_pixel, rel=0.06)
    assert pupil.sum(axis=0).max() == pytest.approx(45e-6 / per_pixel, rel=0.12)


def test_an_aperture_near_and_far() -> None:
    near = Aperture(600e-9).wave(WINDOW)
    assert np.sum(np.abs(near)) == pytest.approx(np.pi * 15**2, rel=0.005)
    far = Aperture(600e-9, 1e-3).wave(WINDOW)
    assert np.sum(np.abs(far) ** 2) == pytest.approx(np.sum(np.abs(near) ** 2), rel=1e-9)
    assert min(spread(np.abs(far) ** 2)) > max(spread(np.abs(near) ** 2))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fzp:diameter=100um,outer=80nm,defocus=6mm", "the beam would be 9.3 um wide .* the detector is 1.92 um"),
        ("aperture:size=2um", "2 um wide at the sample"),
        ("aperture:size=200nm,distance=10mm", "6.2 um wide"),
        ("gaussian:fwhm=10nm", r"smaller than an object pixel \(20 nm\)"),
        ("fzp:diameter=100um,outer=80um", "narrower than two detector pixels"),
    ],
)
def test_beams_that_do_not_fit_say_so(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        parse_optics(text).wave(WINDOW)


def test_a_stop_as_large_as_the_zone_plate() -> None:
    with pytest.raises(ConfigError, match="expected a stop smaller than the zone plate"):
        ZonePlate(100e-6, 80e-9, 100e-6).wave(WINDOW)
