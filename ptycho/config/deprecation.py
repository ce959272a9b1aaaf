"""Names that are kept for older callers: one warning, which says what to use instead and when the name goes."""

from __future__ import annotations

import warnings

__all__ = ["REMOVAL", "deprecation_text", "warn_deprecated"]

REMOVAL = "1.0"
"""The version in which deprecated names are removed."""


def deprecation_text(name: str, instead: str, removal: str = REMOVAL) -> str:
    """One line about a deprecated name.

    >>> deprecation_text("n_images", "use n_groups=7")
    'n_images is deprecated: use n_groups=7; removed in 1.0'
    """
    return f"{name} is deprecated: {instead}; removed in {removal}"


def warn_deprecated(name: str, instead: str, *, removal: str = REMOVAL, stacklevel: int = 2) -> None:
    """Give the DeprecationWarning of a name.

    Args:
        name: what was used: a field, a flag or a function.
        instead: what to do, "use ..." in most cases.
        removal: the version without the name.
        stacklevel: whose line the warning names, as in `warnings.warn`: 2 is the caller of whoever calls this.
    """
    warnings.warn(deprecation_text(name, instead, removal), DeprecationWarning, stacklevel=stacklevel + 1)
