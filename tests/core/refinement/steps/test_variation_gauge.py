"""What patterns cannot tell of a probe that varies."""

import numpy as np
import pytest

from ptycho.core.physics.variable_probe import mixture, spanned
from ptycho.core.refinement.device.kernels import Point
from ptycho.core.refinement.steps.variation_gauge import _evenly, _slopes, level, orthogonal, principal

N = 16


def numbers(rng, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


@pytest.fixture
def point(rng) -> Point:
    x = np.full(5, 8.0)
    made = Point(np.ones((N, N), complex), numbers(rng, 2, N, N), x, x, np.ones(5), np.zeros((N, N)))
    return made._replace(variation=numbers(rng, 2, N, N), coefficients=0.3 * numbers(rng, 5, 2))


def probes(point: Point) -> np.ndarray:
    """(n, N^2) the first mode in each pattern, as far as patterns tell it."""
    first = np.concatenate([point.probe[:1], point.variation])
    found = np.tensordot(mixture(point.coefficients), first, 1).reshape(len(point.x), -1)
    return found * np.exp(-1j * np.angle(found[:, :1]))


def test_what_is_made_orthogonal_and_principal_is_the_same_probes(point) -> None:
    once = orthogonal(point)
    shape = probes(point) / np.linalg.norm(probes(point), axis=1, keepdims=True)
    again = probes(once) / np.linalg.norm(probes(once), axis=1, keepdims=True)
    np.testing.assert_allclose(again, shape)
    assert np.linalg.norm(probes(once)) == pytest.approx(np.linalg.norm(probes(point)))
    best = principal(once)
    np.testing.assert_allclose(probes(best), probes(once))
    np.testing.assert_array_equal(best.probe[1], point.probe[1])
    weights = mixture(best.coefficients)
    products = weights.conj().T @ weights
    np.testing.assert_allclose(products[1, 2], 0, atol=1e-9)
    assert products[0, 0].real > products[1, 1].real > products[2, 2].real
    assert principal(replaced := point._replace(coefficients=np.zeros((5, 2), complex))) is replaced


def test_slopes_that_the_object_could_have_are_taken_from_the_probes() -> None:
    u, bend = np.arange(N) - N // 2, np.array([[4e-4, -1e-4], [-1e-4, 2e-4]])
    x, y = (values.ravel().astype(float) for values in np.meshgrid(np.arange(10, 35, 4.0), np.arange(12, 40, 5.0)))
    probe = np.exp(-(u**2 + u[:, None] ** 2) / 12) * (1 + 0.2j * u)
    # every probe has a slope of its place, as a first order of it
    vectors = np.stack([probe, probe * u, probe * u[:, None]])
    place = np.stack([x - x.mean(), y - y.mean()], axis=1)
    weights = np.concatenate([np.ones((len(x), 1)), 1j * place @ bend], axis=1)
    varied, coefficients, _ = spanned(vectors, weights)
    height, width = 52, 48
    row, column = np.mgrid[:height, :width]
    image = 1 + 0.3 * np.cos(column / 5) + 0.2j * np.sin(row / 3)
    made = Point(image, varied[:1], x, y, np.ones(len(x)), np.zeros((N, N)))
    made = made._replace(variation=varied[1:], coefficients=coefficients)
    found = level(made)

    def slope(point: Point) -> np.ndarray:
        return _evenly(_slopes(point.vectors, mixture(point.coefficients)), place)

    np.testing.assert_allclose(slope(made), bend, rtol=0.02)
    np.testing.assert_allclose(slope(found), 0, atol=0.03 * bend.max())
    assert np.abs(found.coefficients).max() < 0.03 * np.abs(coefficients).max()

    def exit_waves(point: Point) -> np.ndarray:
        patches = [point.object[j - N // 2 : j + N // 2, i - N // 2 : i + N // 2] for i, j in zip(*places, strict=True)]
        return probes(point).reshape(-1, N, N) * np.stack(patches)

    places = x.astype(int), y.astype(int)
    one, other = exit_waves(made), exit_waves(found)
    alike = np.abs((one.conj() * other).sum(axis=(1, 2)))
    norms = np.linalg.norm(one, axis=(1, 2)) * np.linalg.norm(other, axis=(1, 2))
    assert (alike / norms).min() > 1 - 1e-4
    # the rows of a strip are where they are in the whole object
    np.testing.assert_allclose(level(made._replace(object=image[20:41]), 20).object, found.object[20:41], rtol=1e-14)
    # the waves of the object alone do not stay
    assert np.abs(np.angle(found.object / made.object)).max() > 0.05
    several = made._replace(probe=np.concatenate([made.probe, made.probe]))
    assert level(several) is several
