"""What photon noise does to the misfit of a pixel, in both backends as in the oracle."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch

from ptycho.core.physics.poisson import BRIGHT, DIM, poisson_moments
from ptycho.tf import poisson as tf_poisson
from ptycho_torch import poisson as torch_poisson


def torch_moments(photons: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    of = torch_poisson.Moments(torch.device("cpu"))
    return of(torch.from_numpy(photons), None if valid is None else torch.from_numpy(valid)).numpy()


def tf_moments(photons: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    return np.asarray(tf_poisson.Moments()(tf.constant(photons), None if valid is None else tf.constant(valid)))


@pytest.mark.parametrize("moments", [torch_moments, tf_moments])
def test_moments_of_photon_noise_at_any_dose(moments: Any, rng: np.random.Generator) -> None:
    """Of single pixels from none to 1e9 photons, and of patterns with masks."""
    beside = np.array([1 - 1e-12, 1 + 1e-12])
    photons = np.concatenate([[0.0, 1e-300], DIM * beside, BRIGHT * beside, 10 ** np.linspace(-12, 9, 500)])
    found, expected = (of(photons[:, None, None]) for of in (partial(moments, valid=None), poisson_moments))
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-24)
    # where the table ends and the series begins rounding says which of them it is
    found, expected = (of(np.array([[[BRIGHT]]])) for of in (partial(moments, valid=None), poisson_moments))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    photons = 10 ** rng.uniform(-12, 9, (3, 5, 7))
    for shape in ((5, 7), (3, 5, 7)):
        valid = rng.random(shape) > 0.4
        expected = poisson_moments(photons, valid)
        np.testing.assert_allclose(moments(photons, valid.astype(float)), expected, rtol=1e-12)
