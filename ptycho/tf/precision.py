"""Arithmetic of TensorFlow on a GPU: no rounding of the factors of a product while the library computes."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf

from ptycho.core.process_settings import changed_once

__all__ = ["full_float32"]


@changed_once
def full_float32() -> Iterator[None]:
    """Compute in full float32; TensorFlow's TF32, on by default on a GPU, is off inside and as it was afterwards.

    TF32 rounds the factors of matrix products and convolutions to ten bits. A shift is a matrix product
    (`ptycho.tf.reassembly`) and would lose three digits. The setting is the process's: it comes back when the last
    thread is through. Also a decorator.
    """
    switch = tf.config.experimental
    before = switch.tensor_float_32_execution_enabled()
    switch.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        switch.enable_tensor_float_32_execution(before)
