"""Propagation and what the detector makes of it, in both backends."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch

from ptycho.core.refinement.device.kernels import Measured
from ptycho.tf import fields as tf_fields
from ptycho_torch import fields as torch_fields

N = 6


def backend(name: str) -> Any:
    """The functions, how arrays come to them, and what their fields are times the unitary ones."""
    if name == "pytorch":
        return SimpleNamespace(functions=torch_fields, of=torch.as_tensor, unit=1)
    return SimpleNamespace(functions=tf_fields, of=tf.constant, unit=N)


def drawn(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


@pytest.mark.parametrize("near", [None, (N, N), (3, 1, N, N), (3, 2, N, N)], ids=["far", "one", "each", "places"])
@pytest.mark.parametrize("name", ["pytorch", "tensorflow"])
def test_going_back_is_the_adjoint_of_propagation(name, near, rng) -> None:
    """`<P w, f> = <w, P^H f>`; two places and two modes; TensorFlow's transfer functions and fields are N times."""
    made, waves, fields = backend(name), drawn(rng, 3, 4, N, N), drawn(rng, 3, 4, N, N)
    transfer = None if near is None else made.of(made.unit * drawn(rng, *near))
    there = np.asarray(made.functions.propagated(made.of(waves.copy()), transfer)) / made.unit
    back = np.asarray(made.functions.back_propagated(made.of(made.unit * fields), transfer))
    assert np.vdot(there, fields) == pytest.approx(np.vdot(waves, back), rel=1e-12)
    if near is None:
        np.testing.assert_allclose(there, np.fft.fft2(waves, norm="ortho"), atol=1e-12)


@pytest.mark.parametrize("name", ["pytorch", "tensorflow"])
def test_a_detector_blurs_first_adds_then_and_does_not_look_where_it_is_not_valid(name, rng) -> None:
    made, waves = backend(name), drawn(rng, 3, 2, N, N)
    intensity, added, blur = (np.abs(waves) ** 2).sum(axis=1), rng.random((N, N)), rng.random((N, N))
    valid = (rng.random((N, N)) > 0.5).astype(float)
    measured = Measured(*map(made.of, (intensity, valid, added, blur)))
    fields = made.functions.Fields(made.of(waves), made.of(intensity))
    np.testing.assert_allclose(made.functions.detected(fields, measured), blur @ intensity @ blur + added, rtol=1e-12)
    np.testing.assert_array_equal(made.functions.masked(made.of(intensity), measured), intensity * valid)
    sharp = measured._replace(background=None, blur=None, valid=None)
    np.testing.assert_array_equal(made.functions.detected(fields, sharp), intensity)
    np.testing.assert_array_equal(made.functions.masked(made.of(intensity), sharp), intensity)


@pytest.mark.parametrize("name", ["pytorch", "tensorflow"])
def test_products_are_summed_over_the_modes(name, rng) -> None:
    made, one, other = backend(name), drawn(rng, 3, 2, N, N), drawn(rng, 3, 2, N, N)
    found = made.functions.product(made.of(one), made.of(other))
    np.testing.assert_allclose(found, (one.conj() * other).real.sum(axis=1), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(made.functions.over_modes(made.of(one)), one.sum(axis=1), rtol=1e-12)
    square = (one.real**2).sum()
    assert float(made.functions.sum_of_squares(made.of(one.real.copy()))) == pytest.approx(
        square / made.unit**2, rel=1e-12
    )


@pytest.mark.parametrize("name", ["pytorch", "tensorflow"])
def test_the_first_mode_of_a_probe_that_varies_is_mixed_in_every_pattern(name, rng) -> None:
    """Two modes and one of variation."""
    made, spectra, weights = backend(name), drawn(rng, 3, N, N), drawn(rng, 4, 2)
    mixed = np.asarray(made.functions.mixed(made.of(spectra), made.of(weights)))
    assert mixed.shape == (4, 1, 2, N, N)
    first = weights[:, :1, None] * spectra[0] + weights[:, 1:, None] * spectra[2]
    np.testing.assert_allclose(mixed[:, 0, 0], first, rtol=1e-12)
    np.testing.assert_array_equal(mixed[:, 0, 1], np.broadcast_to(spectra[1], (4, N, N)))
