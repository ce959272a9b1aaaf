"""Grouped data for TensorFlow from a callback, as older callers make it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from numpy.typing import NDArray

from ptycho import params
from ptycho.errors import ConfigError, DataError
from ptycho.tf.loader import PtychoDataContainer

__all__ = ["load"]

PER_SCAN = ("objectGuess", "sample_indices")
"""Keys of the grouped dict that are of the scan, not of a group."""


def load(
    cb: Callable[[], Any],
    probeGuess: NDArray[Any],
    which: Literal["train", "test"] | None = None,
    create_split: bool = False,
) -> PtychoDataContainer:
    """Container of the grouped data that a callback returns; its `norm_Y_I` is `params.cfg["intensity_scale"]`.

    Args:
        cb: returns the grouped dict; with `create_split` the pair `(grouped dict, fraction for training)`.
        probeGuess: complex `(N, N)` or `(M, N, N)`.
        which: with `create_split`, the part to take: the first groups ('train') or the others ('test').
        create_split: whether to take a part; otherwise `which` is a name without effect.

    Raises:
        ConfigError: `create_split` with an unknown part or fraction.
        DataError: the part is empty.
    """
    grouped = cb()
    if create_split:
        grouped, fraction = grouped
        grouped = _part(grouped, which, float(fraction))
    return PtychoDataContainer(grouped, probeGuess, norm_Y_I=params.cfg.get("intensity_scale"))


def _part(grouped: Mapping[str, Any], which: str | None, fraction: float) -> dict[str, Any]:
    """The groups of the training or of the test part."""
    if which not in ("train", "test") or not 0 < fraction < 1:
        raise ConfigError(
            f"create_split expects which='train' or 'test' and a fraction between 0 and 1, found which={which!r} and "
            f"{fraction}: correct them, or use create_split=False"
        )
    count = len(grouped["nn_indices"])
    border = round(count * fraction)
    part = slice(0, border) if which == "train" else slice(border, count)
    if not 0 < border < count:
        raise DataError(
            f"a fraction of {fraction} of {count} groups leaves one part empty: group more, or do not split"
        )
    return {key: value if key in PER_SCAN or value is None else value[part] for key, value in grouped.items()}
