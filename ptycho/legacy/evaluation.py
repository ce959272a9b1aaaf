"""A reconstruction against its truth, in the short names of older callers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ptycho.core.quality.score import score

__all__ = ["eval_reconstruction"]


def eval_reconstruction(stitched_obj: ArrayLike, ground_truth_obj: ArrayLike) -> dict[str, Any]:
    """The figures of a reconstruction against its truth by short names, each a pair (amplitude, phase).

    `mae`, `psnr`, `ssim`, `ms_ssim`, `frc50` (cycles per pixel) and `data_range` of PSNR; `nrmse` of the complex
    object is one number. Global phase, phase plane, sub-pixel shift and scale are removed first
    (`ptycho.core.quality.score.score`, which has more figures).

    Args:
        stitched_obj: complex (h, w), or with axes of length 1 besides; its place in the truth is searched for unless
            the shapes are equal.
        ground_truth_obj: complex (H, W), likewise.

    Raises:
        DataError: images that cannot be compared.
    """
    image, truth = (np.squeeze(np.asarray(array)) for array in (stitched_obj, ground_truth_obj))
    s = score(image, truth, offset=(0, 0) if image.shape == truth.shape else None)
    return {
        "mae": (s.amplitude_mae, s.phase_mae),
        "psnr": (s.amplitude_psnr, s.phase_psnr),
        "ssim": (s.amplitude_ssim, s.phase_ssim),
        "ms_ssim": (s.amplitude_ms_ssim, s.phase_ms_ssim),
        "frc50": (s.frc50_amplitude, s.frc50_phase),
        "data_range": (s.amplitude_range, s.phase_range),
        "nrmse": s.complex_nrmse,
    }
