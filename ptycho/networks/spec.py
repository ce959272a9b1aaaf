"""A network as data, whichever it is: what its settings make of it, for both backends and for archives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import ModelConfig
from ptycho.config.options import NEUTRAL, NetworkOptions
from ptycho.errors import ConfigError
from ptycho.networks.options import MASK_OPTIONS
from ptycho.networks.registry import BUILT_IN, PATTERN_SIZES, NetworkEntry, Recipe, load, network_entry

__all__ = ["NetworkSpec", "ScanStages", "group_members", "network_spec"]


@dataclass(frozen=True)
class ScanStages:
    """The stages of a trained network of gradient steps, as a pass over a whole scan takes them."""

    steps: tuple[float, ...]
    """Of each stage, in units of the preconditioned gradient."""
    momenta: tuple[float, ...]
    correct: Callable[[int, NDArray[np.float32]], NDArray[np.float32]]
    """What a stage adds `(2, h, w)`, real and imaginary part, to what it sees `(7, h, w)`; sides by 8."""


@dataclass(frozen=True)
class NetworkSpec:
    """Everything a backend needs to build a network; each network adds fields of its own."""

    name: ClassVar[str]
    """As the registry has it."""

    N: int
    """Side of a pattern and of a patch, pixels."""
    members: int
    """C = gridsize^2, the patterns that the network sees."""

    @property
    def recipe(self) -> Recipe:
        """How the network trains best."""
        return network_entry(self.name).recipe

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of every trained array; kernels are `(row, column, in, out)`."""
        raise NotImplementedError

    def statistics(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of every running statistic."""
        return {}


def group_members(config: ModelConfig) -> int:
    """C = gridsize^2, of a configuration whose N is possible; else ConfigError."""
    if config.N not in PATTERN_SIZES:
        raise ConfigError(f"N must be one of {list(PATTERN_SIZES)}, found {config.N}: crop or bin the patterns")
    return config.gridsize**2


def network_spec(config: ModelConfig, options: NetworkOptions = NEUTRAL) -> NetworkSpec:
    """Describe the network that a configuration names.

    Raises:
        ConfigError: the name is not in the registry, the settings cannot be built, or options are asked for that the
            network does not take.
    """
    entry = network_entry(config.architecture)
    _check_options(entry, options)
    return cast(NetworkSpec, load(entry.spec)(config, options))


def _check_options(entry: NetworkEntry, options: NetworkOptions) -> None:
    refused = [name for name in options.changed if name not in MASK_OPTIONS]
    if refused and not entry.options:
        others = " or ".join(f"architecture={name!r}" for name, other in BUILT_IN.items() if other.options)
        raise ConfigError(
            f"{', '.join(refused)}: expected the defaults with architecture={entry.name!r}, which has no such choice; "
            f"leave them out or use {others}"
        )
