"""Which refinement engines there are: kernels by name, built in or from other packages.

An engine is a name, the kernels that work on a batch of patterns (`ptycho.core.refinement.device.kernels.Kernels`), and
the keywords that these take beside the likelihood: device, precision, compilation. The order of the steps is one for
all of them (`ptycho.core.refinement.run`). A new engine of this package is a file with its kernels and an `ENGINE`, and
a line in `BUILT_IN`; a package of its own names its `Engine` in an entry point of the group `ptychopinn.engines` and
touches no file here.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ptycho.core.refinement.device.kernels import Kernels
from ptycho.errors import BackendError, ConfigError

__all__ = ["BUILT_IN", "ENTRY_POINTS", "Engine", "engine_names", "find_engine"]

logger = logging.getLogger(__name__)

BUILT_IN = {
    "numpy": "ptycho.core.refinement.device.kernels_numpy:ENGINE",
    "tensorflow": "ptycho.tf.refine:ENGINE",
    "pytorch": "ptycho_torch.refine:ENGINE",
}
"""Engines of this package, imported when they are asked for."""
ENTRY_POINTS = "ptychopinn.engines"
"""Group of the entry points by which other packages bring engines."""
_LOADING = (
    *(ImportError, AttributeError, LookupError, NameError, OSError),
    *(RuntimeError, SyntaxError, TypeError, ValueError),
)
"""What goes wrong when the code of others is imported."""


@dataclass(frozen=True)
class Engine:
    """What works on the patterns of a refinement."""

    name: str
    make_kernels: Callable[..., Kernels]
    """`make_kernels(likelihood, floor, **options)`, the options by keyword."""
    options: tuple[str, ...] = ()
    """Keywords that `make_kernels` takes, such as `device` or `dtype`."""

    def kernels(self, likelihood: str, floor: float, options: Mapping[str, Any]) -> Kernels:
        """Kernels for one refinement.

        Raises:
            ConfigError: an option that this engine does not have.
        """
        for name in options:
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise ConfigError(f"engine {self.name}: expected options among ({known}), found {name}; leave it out")
        return self.make_kernels(likelihood, floor, **options)


def engine_names() -> tuple[str, ...]:
    """Names of all engines, the built-in ones first; nothing is imported.

    An entry point that has the name of a built-in engine is left out, with a warning that names its package.
    """
    others = set()
    for claim in entry_points(group=ENTRY_POINTS):
        if claim.name in BUILT_IN:
            text = "engine %s of the package %s is left out: the name is that of a built-in engine; rename it"
            logger.warning(text, claim.name, _package(claim))
        else:
            others.add(claim.name)
    return (*BUILT_IN, *sorted(others))


def find_engine(name: str) -> Engine:
    """The engine of this name; a built-in name always means the built-in engine.

    Raises:
        ConfigError: no such engine, or two packages claim the name.
        BackendError: the engine is there but cannot be imported.
    """
    if name in BUILT_IN:
        return _built_in(name)
    claims = list(entry_points(group=ENTRY_POINTS, name=name))
    if not claims:
        raise ConfigError(f"engine: expected one of {', '.join(engine_names())}, found {name!r}; install or rename it")
    if len(claims) > 1:
        packages = " and ".join(_package(claim) for claim in claims)
        raise ConfigError(f"engine {name}: expected one package to bring it, found {packages}; remove one of them")
    return _third_party(claims[0])


def _built_in(name: str) -> Engine:
    module, _, attribute = BUILT_IN[name].partition(":")
    try:
        found: Engine = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise BackendError(f"engine {name}: expected its framework, found {error}; install it") from error
    return found


def _third_party(claim: EntryPoint) -> Engine:
    try:
        found = claim.load()
    except _LOADING as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BackendError(
            f"engine {claim.name}: expected {claim.value} of {_package(claim)} to load, found {reason}; mend or remove "
            "that package"
        ) from error
    if not isinstance(found, Engine):
        raise BackendError(
            f"engine {claim.name}: expected {claim.value} of {_package(claim)} to be an Engine, found "
            f"{type(found).__name__}; mend or remove that package"
        )
    return found


def _package(claim: EntryPoint) -> str:
    return claim.dist.name if claim.dist is not None else claim.value
