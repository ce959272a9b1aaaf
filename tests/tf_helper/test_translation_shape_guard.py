"""Translation in TensorFlow without XLA: the shapes of training and of evaluation, and counts that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from ptycho.core.physics import patches as oracle
from ptycho.tf.reassembly import translate


def complex_normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def test_non_xla_translation_guard(rng: np.random.Generator) -> None:
    """As many translations as images, one image for many, many images for one; else an error, not a wrong picture."""
    shapes = {
        "training, 3 groups of 4 members": ((3, 4), (3, 4)),
        "evaluation, a last batch of 1 group": ((1, 4), (1, 4)),
        "one canvas, 5 translations": ((1,), (5,)),
        "the canvas of each of 3 groups, 4 members": ((3, 1), (3, 4)),
        "6 images, one translation": ((6,), (1,)),
    }
    for name, (images_shape, shift_shape) in shapes.items():
        images = complex_normal(rng, *images_shape, 7, 9)
        dx, dy = rng.uniform(-2, 2, (2, *shift_shape)).astype(np.float32)
        graph = tf.function(translate, jit_compile=False)
        for run in (translate, graph):
            found = run(tf.constant(images), tf.constant(dx), tf.constant(dy)).numpy()
            wanted = np.broadcast_shapes(images_shape, shift_shape)
            expected = oracle.translate(
                np.broadcast_to(images, (*wanted, 7, 9)), *(np.broadcast_to(shift, wanted) for shift in (dx, dy))
            )
            assert found.shape == (*wanted, 7, 9), name
            np.testing.assert_allclose(found, expected, atol=2e-6, err_msg=name)
    for run in (translate, tf.function(translate, jit_compile=False)):
        with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match="6"):
            run(tf.constant(complex_normal(rng, 6, 7, 9)), tf.zeros(4), tf.zeros(4))
