"""Prediction in notebooks (`ptycho.legacy.nbutils`), under the name that callers import."""

from ptycho.legacy.nbutils import reconstruct_image

__all__ = ["reconstruct_image"]
