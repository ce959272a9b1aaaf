"""Environment variables of old: none is a parameter, and whoever sets one is told."""

from __future__ import annotations

import functools
import logging
import os

__all__ = ["warn_of_ignored_variables"]

logger = logging.getLogger(__name__)

_IGNORED = ("USE_XLA_TRANSLATE", "USE_XLA_COMPILE")


@functools.cache
def warn_of_ignored_variables() -> None:
    """Warn, once in a process, of variables that are set and do nothing."""
    found = [name for name in _IGNORED if name in os.environ]
    if found:
        logger.warning("%s: ignored; to compile with XLA use --use_xla (use_xla=True)", ", ".join(found))
