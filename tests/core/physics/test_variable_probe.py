"""A probe that varies: its energy stays, another way to write the same probes is the same, shapes are looked at."""

import numpy as np
import pytest

from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.recording import Recording
from ptycho.core.physics.variable_probe import ProbeVariation, check_variation, mixture, spanned
from ptycho.errors import DataError

N = 6


def numbers(rng, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def test_every_pattern_has_the_energy_of_the_probe_and_others_of_its_modes_stay(rng) -> None:
    vectors, coefficients, _ = spanned(numbers(rng, 3, N, N), numbers(rng, 5, 3))
    probe = np.stack([vectors[0], numbers(rng, N, N)])
    varied = ProbeVariation(vectors[1:], coefficients)
    probes = varied.probes(probe)
    np.testing.assert_allclose((np.abs(probes[:, 0]) ** 2).sum(axis=(1, 2)), (np.abs(vectors[0]) ** 2).sum())
    np.testing.assert_array_equal(probes[:, 1], np.broadcast_to(probe[1], (5, N, N)))
    expected = (probe[0] + 0.5j * vectors[1]) / np.sqrt(1.25)
    np.testing.assert_allclose(ProbeVariation(vectors[1:2], np.array([[0.5j]])).probes(probe)[0, 0], expected)
    assert ProbeVariation(vectors[1:2], np.array([[0.75j], [0]])).shares == pytest.approx([0.18])


def test_orthogonal_vectors_make_the_same_sums(rng) -> None:
    vectors, weights = numbers(rng, 3, N, N), numbers(rng, 4, 3)
    found, coefficients, energy = spanned(vectors, weights)
    gram = found.reshape(3, -1).conj() @ found.reshape(3, -1).T
    np.testing.assert_allclose(gram, np.vdot(vectors[0], vectors[0]).real * np.eye(3), atol=1e-9)
    np.testing.assert_allclose(found[0], vectors[0])
    before = np.tensordot(weights, vectors, 1).reshape(4, -1)
    after = (np.sqrt(energy)[:, None, None] * np.tensordot(mixture(coefficients), found, 1)).reshape(4, -1)
    # up to a phase of each, which no pattern tells
    overlap = (before.conj() * after).sum(axis=1)
    np.testing.assert_allclose(np.abs(overlap), (np.abs(before) ** 2).sum(axis=1))
    np.testing.assert_allclose((np.abs(after) ** 2).sum(axis=1), (np.abs(before) ** 2).sum(axis=1))


def test_patterns_are_those_of_their_own_probes(rng) -> None:
    varied = ProbeVariation(numbers(rng, 2, N, N), numbers(rng, 3, 2))
    probe, patches = numbers(rng, 2, N, N), numbers(rng, 3, N, N)
    shift = rng.uniform(-0.5, 0.5, (2, 3))
    found = diffract(probe, patches, *shift, Recording(variation=varied))
    for j, own in enumerate(varied.probes(probe)):
        alone = diffract(own, patches[j : j + 1], *shift[:, j : j + 1])
        np.testing.assert_allclose(found[j], alone[0])
    some = Recording(variation=varied).of(np.array([2])).variation
    assert some is not None and some.coefficients.tolist() == [varied.coefficients[2].tolist()]


@pytest.mark.parametrize("modes, coefficients", [((2, N, N + 1), (3, 2)), ((2, N, N), (3, 1)), ((2, N, N), (4, 2))])
def test_shapes_that_do_not_belong_together_are_refused(modes, coefficients) -> None:
    with pytest.raises(DataError, match="variation: expected modes"):
        check_variation(ProbeVariation(np.ones(modes, complex), np.ones(coefficients, complex)), 3, N)


def test_numbers_have_to_be_finite() -> None:
    with pytest.raises(DataError, match="variation: expected finite"):
        check_variation(ProbeVariation(np.ones((1, N, N), complex), np.full((3, 1), np.nan + 0j)), 3, N)
