"""The networks by name, with all that the rest of the library asks of one; loads none of them.

A package adds a network by an entry point of the group `ptychopinn.networks` (CONTRIBUTING.md).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ptycho.config.schema import nearest
from ptycho.errors import ConfigError

__all__ = [
    "BUILT_IN",
    "PATTERN_SIZES",
    "RECOMMENDED",
    "NetworkEntry",
    "Recipe",
    "added_names",
    "load",
    "network_class",
    "network_entry",
]

PATTERN_SIZES = (64, 128, 256)
"""Sides N of a pattern that the networks are built for, pixels; the iterative solver takes any (`is_fast_side`)."""

RECOMMENDED = "unrolled"
"""The network that a command line takes for a scan where nothing is said: the better one on every scan measured
(docs/choosing.md). A configuration in Python keeps the older default."""
GROUP = "ptychopinn.networks"


@dataclass(frozen=True)
class Recipe:
    """How a network trains best; what the settings say explicitly comes first."""

    learning_rate: float = 1e-3
    one_cycle: bool = False
    """Whether the rate rises and falls (`ptycho.core.training.schedules.one_cycle`) or is constant."""
    clip: float | None = None
    """Limit of the gradient's norm; the loss is in units of the mean count. None: not clipped."""
    compared: int = 0
    """Patterns that a group is compared with, those that the network sees and the held-out ones together."""
    least_held_out: int = 0

    @property
    def schedule(self) -> str:
        """How the learning rate goes, in words."""
        return "one cycle" if self.one_cycle else "constant"

    def held_out(self, members: int) -> int:
        """Neighbours that a group of so many members is compared with without being shown them."""
        return max(self.least_held_out, self.compared - members)


@dataclass(frozen=True)
class NetworkEntry:
    """What is known of a network without loading it. `spec`, `tensorflow` and `pytorch` are `"module:name"`."""

    name: str
    """As `ModelConfig.architecture` has it."""
    summary: str
    """A few words for the help of the command line."""
    spec: str
    """The function of `(ModelConfig, NetworkOptions)` that gives its `ptycho.networks.spec.NetworkSpec`."""
    tensorflow: str
    """Its class in the TensorFlow backend, of `ptycho.tf.network.PatchNetwork` or `CanvasNetwork`."""
    pytorch: str
    """Its class in the PyTorch backend, of `ptycho_torch.network.PatchNetwork` or `CanvasNetwork`."""
    recipe: Recipe = Recipe()
    canvas: bool = False
    """Whether it makes the canvas of a group itself (`CanvasNetwork`), not a patch of each member.

    With `object_big` its members then lie at whole pixels of the canvas, and neighbours that it is not shown may be
    compared with it.
    """
    options: bool = False
    """Whether it takes the options of `ptycho.networks.options` that are not of the probe's mask."""

    @property
    def subpixel(self) -> Literal["bilinear", "fourier"]:
        """How positions between pixels are met: by interpolated patches, or by a probe that moves by the rest."""
        return "fourier" if self.canvas else "bilinear"


BUILT_IN = {
    entry.name: entry
    for entry in (
        NetworkEntry(
            name="cnn",
            summary="one look at the sample plane",
            spec="ptycho.networks.cnn:cnn_spec",
            tensorflow="ptycho.tf.layers:CnnNetwork",
            pytorch="ptycho_torch.layers:CnnNetwork",
            options=True,
        ),
        NetworkEntry(
            name="unrolled",
            summary="gradient steps with learned corrections",
            spec="ptycho.networks.unrolled:unrolled_spec",
            tensorflow="ptycho.tf.unrolled:UnrolledNetwork",
            pytorch="ptycho_torch.unrolled:UnrolledNetwork",
            recipe=Recipe(learning_rate=4e-3, one_cycle=True, clip=0.02, compared=7, least_held_out=3),
            canvas=True,
        ),
    )
}
"""The networks of this library; the first one is the default."""


def added_names() -> tuple[str, ...]:
    """Names of the networks of other packages."""
    return tuple(_added())


def network_entry(name: str) -> NetworkEntry:
    """The network of a name; other packages are only looked through for a name that is not of this library.

    Raises:
        ConfigError: there is none; the line has the names, and the one that looks like it.
    """
    found = BUILT_IN.get(name) or _added().get(name)
    if found is None:
        names = sorted([*BUILT_IN, *added_names()])
        raise ConfigError(f"architecture must be one of {names}, found {name!r}{nearest(name, names)}")
    return found


def load(path: str) -> Callable[..., Any]:
    """The function or class `"module:name"`."""
    module, _, name = path.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def network_class(name: str, backend: Literal["tensorflow", "pytorch"]) -> Callable[..., Any]:
    """The class that builds a network in a backend.

    Raises:
        ConfigError: no network of the name, or its class and its entry differ in what it makes.
    """
    entry = network_entry(name)
    path = entry.tensorflow if backend == "tensorflow" else entry.pytorch
    found = load(path)
    canvas: Any = getattr(found, "canvas", None)
    if canvas != entry.canvas:
        bases = {False: "PatchNetwork", True: "CanvasNetwork"}
        raise ConfigError(
            f"network {name!r}: expected {path} to be a {bases[entry.canvas]}, because its entry says "
            f"canvas={entry.canvas}, found {bases.get(canvas, 'neither kind of network')}: correct one of them"
        )
    return found


def _added() -> dict[str, NetworkEntry]:
    from ptycho.core.plugins import plugins  # reads the metadata of every package: 30 ms that few need

    return plugins(GROUP, NetworkEntry, tuple(BUILT_IN))
