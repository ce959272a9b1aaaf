"""A function as a graph: computed as it stands, and never cut in two by a signal."""

import os
import signal

import numpy as np
import pytest
import tensorflow as tf

from ptycho.cli.stopping import Stopped, Stops
from ptycho.tf.graphs import graph_of


@pytest.mark.parametrize("use_xla", [False, True])
def test_a_graph_gives_what_the_function_gives(use_xla: bool) -> None:
    calls = []

    def function(x: tf.Tensor) -> tf.Tensor:
        calls.append(1)
        return 3 * x + 1

    graph = graph_of(function, use_xla)
    for _ in range(3):
        np.testing.assert_array_equal(graph(tf.constant([1.0, 2.0, 5.0])), [4, 7, 16])
    assert len(calls) == 1


@pytest.mark.usefixtures("interrupts")
def test_a_signal_waits_until_the_call_is_over() -> None:
    found, made = tf.Variable(0.0), []

    @tf.custom_gradient
    def function(x: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            os.kill(os.getpid(), signal.SIGTERM)  # while TensorFlow calls Python from its own code
            made.append(1)
            return 5 * upstream

        return 5 * x, gradient

    def step(x: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        found.assign(tape.gradient(y, x))

    with pytest.raises(Stopped) as stop, Stops():
        graph_of(step)(tf.constant(2.0))
    assert (float(found), made, stop.value.number) == (5.0, [1], signal.SIGTERM)
