"""Cutting images to what can be compared, under the name that callers import."""

from ptycho.core.geometry import ObjectFrame, object_frame, reframe
from ptycho.core.quality.comparison import scanned_region
from ptycho.core.quality.registration import checked_region
from ptycho.legacy.evaluation import align_for_evaluation

__all__ = ["ObjectFrame", "align_for_evaluation", "checked_region", "object_frame", "reframe", "scanned_region"]
