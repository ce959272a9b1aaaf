"""Functions as graphs of TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ptycho.core.interrupts import uninterrupted

__all__ = ["graph_of"]


def graph_of(function: Callable[..., Any], use_xla: bool = False) -> Callable[..., Any]:
    """A function as a graph, which is made at its first call, one for every shape of its arguments.

    The signals of a command wait until a call is over: while a graph or its gradients are made TensorFlow calls Python
    from within its own code, and an exception that a signal raises there can end the process.

    Args:
        function: of tensors; `if` and `for` in it are Python's.
        use_xla: compile it.
    """
    return uninterrupted()(tf.function(function, autograph=False, jit_compile=use_xla))
