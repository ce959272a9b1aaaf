"""The base of every layer of this backend."""

from __future__ import annotations

from typing import Any

import keras

__all__ = ["DirectLayer"]


class DirectLayer(keras.layers.Layer):
    """A layer whose `call` is called as it is: Keras neither casts its arguments nor adds lines to its errors."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run `call`."""
        return self.call(*args, **kwargs)
