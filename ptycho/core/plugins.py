"""What other packages add by entry points: networks, file formats. Loads nothing until somebody asks."""

from __future__ import annotations

import functools
import logging
from importlib import metadata
from typing import Any, TypeVar

__all__ = ["FAILURES", "plugins"]

logger = logging.getLogger(__name__)

Entry = TypeVar("Entry")

FAILURES = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError),
    *(RuntimeError, SyntaxError, TypeError, ValueError),
)
"""What somebody else's module may raise."""


@functools.cache
def plugins(group: str, kind: type[Entry], reserved: tuple[str, ...] = ()) -> dict[str, Entry]:
    """The entries that installed packages give under an entry point group, by name; looked up once a process.

    A package that cannot be loaded, or that gives something else than a `kind`, is left out with one line that names
    it; of two with one name the first one counts.

    Args:
        group: as `ptychopinn.networks`.
        kind: of the entries, a class with `name`.
        reserved: names that this library has itself.
    """
    found: dict[str, Entry] = {}
    for point in sorted(metadata.entry_points(group=group), key=lambda each: each.name):
        entry, problem = _loaded(point, kind)
        if entry is not None and entry.name != point.name:
            problem = f"expected an entry of that name, found {entry.name!r}"
        elif point.name in found or point.name in reserved:
            problem = "expected a name of its own, found one that is taken"
        if problem:
            package = point.dist.name if point.dist else point.value
            logger.warning(
                "package %s: %s = %s is left out: %s; update or remove it", package, point.name, point.value, problem
            )
        else:
            found[point.name] = entry
    return found


def _loaded(point: metadata.EntryPoint, kind: type[Any]) -> tuple[Any, str]:
    """The entry behind an entry point, or None and what is wrong with it, on one line."""
    try:
        entry = point.load()
    except FAILURES as error:
        return None, " ".join(f"{type(error).__name__}: {error}".split())
    if not isinstance(entry, kind):
        return None, f"expected a {kind.__name__}, found {type(entry).__name__}"
    return entry, ""
