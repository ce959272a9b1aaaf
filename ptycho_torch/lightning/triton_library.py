"""The library of PyTorch's compiler, loaded so that TensorFlow may lie in the same process."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from contextlib import suppress

__all__ = ["load_triton"]

_LIBRARY = "triton._C.libtriton"


def load_triton() -> None:
    """Load Triton's library, where it is installed, bound to its own symbols; nothing where that is done already.

    To be called before Lightning is imported, which imports Triton. TensorFlow and Triton both have LLVM inside, of
    different releases, and TensorFlow's is offered to every library that is loaded after it: Triton 3.8 after
    TensorFlow 2.21 takes that one and ends the process with a segmentation fault (exit status 139). On Linux the
    flag RTLD_DEEPBIND of the loader (dlopen(3)) lets a library look among its own symbols first.
    """
    if _LIBRARY in sys.modules or not hasattr(os, "RTLD_DEEPBIND") or importlib.util.find_spec("triton") is None:
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        with suppress(ImportError):  # PyTorch does without one that does not load
            importlib.import_module(_LIBRARY)
    finally:
        sys.setdlopenflags(flags)
