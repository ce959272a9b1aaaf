"""Synthetic objects for training sets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.simulation.objects import make_object
from ptycho.errors import ConfigError

__all__ = ["simulate_synthetic_objects"]


def simulate_synthetic_objects(
    image_size: tuple[int, int],
    count: int,
    rng: np.random.Generator,
    object_class: str = "dead_leaves",
    amplitude: tuple[float, float] = (0.4, 1.0),
    phase: tuple[float, float] = (-1.0, 1.0),
    **settings: Any,
) -> NDArray[np.complex64]:
    """Draw objects of one kind.

    Args:
        image_size: (H, W), pixels.
        count: how many.
        rng: source of every random number.
        object_class: a kind of `ptycho.core.simulation.objects.OBJECTS`.
        amplitude: (lowest, highest) of each object.
        phase: (lowest, highest) of each object, radians.
        settings: settings of the kind.

    Returns:
        complex64 (count, H, W).

    Raises:
        ConfigError: a count below 1, or what `make_object` refuses.
    """
    if count < 1:
        raise ConfigError(f"objects: expected 1 or more, found {count}; ask for some")
    shape = (int(image_size[0]), int(image_size[1]))
    return np.stack([make_object(object_class, shape, rng, amplitude, phase, **settings) for _ in range(count)])
