"""Figures of merit, under the name that callers import."""

from ptycho.core.quality.metrics import mae, ms_ssim, mse, nrmse, psnr, ssim
from ptycho.core.quality.ring_correlation import frc
from ptycho.core.quality.score import score
from ptycho.legacy.evaluation import eval_reconstruction, frc50, save_metrics

__all__ = [
    "eval_reconstruction",
    "frc",
    "frc50",
    "mae",
    "ms_ssim",
    "mse",
    "nrmse",
    "psnr",
    "save_metrics",
    "score",
    "ssim",
]
