"""Zernike polynomials and free space against what is known in closed form."""

import numpy as np
import pytest

from ptycho.core.physics.diffraction import far_field
from ptycho.core.physics.optics import aberration_phase, fresnel_propagate, noll_indices, zernike
from ptycho.core.physics.probes import gaussian_probe, zone_plate_probe
from ptycho.errors import ConfigError

NOLL = [(0, 0), (1, 1), (1, -1), (2, 0), (2, -2), (2, 2), (3, -1), (3, 1), (3, -3), (3, 3), (4, 0), (4, 2), (4, -2)]


def disk(points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points and weights that integrate polynomials over the unit disk: Gauss in rho^2, equal steps in theta."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    theta = 2 * np.pi * np.arange(2 * points) / (2 * points)
    rho = np.sqrt((nodes + 1) / 2)
    return rho[:, None], theta[None, :], (weights / 2)[:, None] / theta.size


def test_the_order_is_that_of_noll() -> None:
    assert [noll_indices(j) for j in range(1, 14)] == NOLL
    with pytest.raises(ConfigError, match="found 0"):
        noll_indices(0)


def test_zernike_polynomials_are_orthonormal_over_the_disk() -> None:
    rho, theta, weights = disk(12)
    values = np.stack([zernike(j, rho, theta) for j in range(1, 22)])
    gram = np.einsum("aij,bij,ij->ab", values, values, weights * np.ones_like(values[0]))
    np.testing.assert_allclose(gram, np.eye(21), atol=1e-12)


@pytest.mark.parametrize(
    ("j", "form"),
    [
        (4, lambda x, y: np.sqrt(3) * (2 * (x**2 + y**2) - 1)),
        (5, lambda x, y: np.sqrt(6) * 2 * x * y),
        (6, lambda x, y: np.sqrt(6) * (x**2 - y**2)),
        (7, lambda x, y: np.sqrt(8) * (3 * (x**2 + y**2) - 2) * y),
        (8, lambda x, y: np.sqrt(8) * (3 * (x**2 + y**2) - 2) * x),
        (11, lambda x, y: np.sqrt(5) * (6 * (x**2 + y**2) ** 2 - 6 * (x**2 + y**2) + 1)),
    ],
)
def test_low_orders_are_the_polynomials_of_the_textbook(j: int, form) -> None:
    x, y = np.array([0.3, -0.5, 0.1]), np.array([0.4, 0.2, -0.9])
    np.testing.assert_allclose(zernike(j, np.hypot(x, y), np.arctan2(y, x)), form(x, y), atol=1e-14)


def test_defocus_of_a_zone_plate_is_its_fourth_zernike_polynomial() -> None:
    """`pi d rho^2` is `2 sqrt(3) a rho^2` with `a = pi d / (2 sqrt 3)`; the piston between them is dropped."""
    plain = zone_plate_probe(64, defocus=1.0)
    mixed = zone_plate_probe(64, defocus=0.4, aberrations={4: 0.6 * np.pi / (2 * np.sqrt(3))})
    pupils = (far_field(probe.astype(np.complex128)) for probe in (plain, mixed))
    inside = np.hypot(*np.ogrid[-32:32, -32:32]) < 12
    first, second = (np.where(inside, pupil, 0) for pupil in pupils)
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    assert abs(np.vdot(first, second)) == pytest.approx(1.0, abs=1e-6)
    assert abs(np.vdot(first, np.abs(first))) < 0.8  # a phase that matters


def test_an_aberration_turns_the_phase_of_the_pupil_by_what_was_asked() -> None:
    with_coma, without = (
        far_field(zone_plate_probe(64, defocus=0.0, aberrations=a).astype(np.complex128)) for a in ({8: 0.5}, None)
    )
    turned = np.angle(with_coma * without.conj())
    rho = 10 / 14
    expected = 0.5 * np.sqrt(8) * (3 * rho**3 - 2 * rho)  # along +x, and the opposite along -x
    assert turned[32, 42] - turned[32, 22] == pytest.approx(2 * expected, abs=1e-5)
    assert turned[42, 32] == pytest.approx(turned[22, 32], abs=1e-5)


def test_the_phase_of_a_pupil_is_held_beyond_its_edge() -> None:
    phase = aberration_phase(32, 8.0, {4: 1.0})
    assert phase[16, 16] == pytest.approx(-np.sqrt(3))
    np.testing.assert_allclose(phase[16, [24, 28, 31]], np.sqrt(3))


def test_a_gaussian_spreads_as_its_closed_form_says() -> None:
    """`exp(-r^2 / w^2)` becomes `exp(-r^2 / (w^2 q)) / q` with `q = 1 + i L / (pi w^2)`."""
    y, x = np.ogrid[-64:64, -64:64]
    r2 = y**2 + x**2
    width, distance = 7.0, 220.0
    q = 1 + 1j * distance / (np.pi * width**2)
    found = fresnel_propagate(np.exp(-r2 / width**2).astype(complex), distance)
    np.testing.assert_allclose(found, np.exp(-r2 / (width**2 * q)) / q, atol=1e-7)


def test_propagation_is_unitary_and_goes_back(rng: np.random.Generator) -> None:
    waves = rng.standard_normal((2, 16, 24)) + 1j * rng.standard_normal((2, 16, 24))
    there = fresnel_propagate(waves, 9.0)
    assert np.linalg.norm(there) == pytest.approx(np.linalg.norm(waves), rel=1e-12)
    np.testing.assert_allclose(fresnel_propagate(there, -9.0), waves, atol=1e-12)
    assert fresnel_propagate(waves.astype(np.complex64), 1.0).dtype == np.complex64
    assert np.linalg.norm(there - waves) > 1


def test_a_defocused_zone_plate_is_its_focus_propagated() -> None:
    """`exp(i pi d (q/R)^2)` over detector pixels q is `exp(-i pi L f^2)` over f = q/N for `L = -d N^2 / R^2`."""
    focus, away = (zone_plate_probe(128, defocus=d).astype(np.complex128) for d in (0.0, 1.5))
    found = fresnel_propagate(focus, -1.5 * 128**2 / 14**2)
    found *= np.exp(-1j * np.angle(found[64, 64]))
    np.testing.assert_allclose(found, away, atol=1e-5 * np.abs(away).max())


def test_a_gaussian_probe_has_a_width_of_its_own_to_begin_with() -> None:
    np.testing.assert_array_equal(gaussian_probe(64), gaussian_probe(64, 16.0))
    with pytest.raises(ConfigError, match="fwhm > 0, found 0"):
        gaussian_probe(64, 0.0)
