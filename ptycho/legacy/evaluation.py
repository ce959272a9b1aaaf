"""A reconstruction against its truth, in the short names of older callers."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.core.files.atomic import atomic_path, output_folder
from ptycho.core.quality.alignment import align
from ptycho.core.quality.comparison import PlacedObject, scanned_region
from ptycho.core.quality.registration import register_subpixel, shift_subpixel
from ptycho.core.quality.ring_correlation import frc
from ptycho.core.quality.score import score
from ptycho.errors import ConfigError, DataError

__all__ = ["align_for_evaluation", "eval_reconstruction", "frc50", "register_and_align", "save_metrics"]

Image = NDArray[Any]


def eval_reconstruction(stitched_obj: ArrayLike, ground_truth_obj: ArrayLike, label: str = "") -> dict[str, Any]:
    """The figures of a reconstruction against its truth by short names, each a pair (amplitude, phase).

    `mae`, `psnr`, `ssim`, `ms_ssim`, `frc50` (cycles per pixel) and `data_range` of PSNR; `nrmse` of the complex
    object is one number. Global phase, phase plane, sub-pixel shift and scale are removed first
    (`ptycho.core.quality.score.score`, which has more figures).

    Args:
        stitched_obj: complex (h, w), or with axes of length 1 besides; its place in the truth is searched for unless
            the shapes are equal.
        ground_truth_obj: complex (H, W), likewise.
        label: words of the caller, kept under `label`; '' keeps none.

    Raises:
        DataError: images that cannot be compared.
    """
    image, truth = (np.squeeze(np.asarray(array)) for array in (stitched_obj, ground_truth_obj))
    s = score(image, truth, offset=(0, 0) if image.shape == truth.shape else None)
    return {
        **({"label": label} if label else {}),
        "mae": (s.amplitude_mae, s.phase_mae),
        "psnr": (s.amplitude_psnr, s.phase_psnr),
        "ssim": (s.amplitude_ssim, s.phase_ssim),
        "ms_ssim": (s.amplitude_ms_ssim, s.phase_ms_ssim),
        "frc50": (s.frc50_amplitude, s.frc50_phase),
        "data_range": (s.amplitude_range, s.phase_range),
        "nrmse": s.complex_nrmse,
    }


def frc50(image: Image, reference: Image) -> float:
    """The frequency, cycles per pixel, at which the ring correlation of two images (H, W) falls below 1/2.

    0.5 when it never does. Both are compared as they lie: `eval_reconstruction` aligns first.

    Raises:
        DataError: as `ptycho.core.quality.ring_correlation.frc`.
    """
    return frc(image, reference).cutoff()


def save_metrics(
    stitched_obj: ArrayLike, ground_truth_obj: ArrayLike, label: str = "", output_dir: Path | str = "."
) -> Path:
    """Write the figures of `eval_reconstruction` as a table, `metric,amplitude,phase`, and return its path.

    Args:
        stitched_obj, ground_truth_obj: as in `eval_reconstruction`.
        label: the file is `metrics_<label>.csv`, or `metrics.csv` without one.
        output_dir: its folder, which is made.

    Raises:
        ConfigError: a label that no file can be named by.
        DataError: images that cannot be compared. OutputError: a place that cannot be written.
    """
    if label and Path(label).name != label:
        raise ConfigError(f"label: expected a word to name a file with, found {label!r}; choose another")
    figures = eval_reconstruction(stitched_obj, ground_truth_obj)
    path = output_folder(Path(output_dir)) / (f"metrics_{label}.csv" if label else "metrics.csv")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("metric", "amplitude", "phase"))
    for name, value in figures.items():
        table.writerow((name, *value) if isinstance(value, tuple) else (name, value, value))
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    return path


def register_and_align(image: Image, reference: Image, upsample: int = 100) -> tuple[Image, Image]:
    """An image moved onto a reference of the same shape (`register_subpixel`), and that reference, both (h, w).

    Both are cut by the shift, rounded up: what the move brings in from the opposite edge is not there.

    Args:
        image, reference: real or complex (H, W).
        upsample: steps per pixel that the shift is found to.

    Raises:
        DataError: unequal shapes, or a shift that leaves nothing. ConfigError: `upsample` below 1.
    """
    dy, dx = register_subpixel(image, reference, upsample)
    rows, cols = (int(np.ceil(abs(shift) - 0.5 / upsample)) for shift in (dy, dx))
    height, width = image.shape
    if 2 * rows >= height or 2 * cols >= width:
        raise DataError(
            f"images: expected a shift below half their size, found ({dy:g}, {dx:g}) pixels of {image.shape}"
        )
    kept = np.s_[rows : height - rows, cols : width - cols]
    return shift_subpixel(image, dy, dx)[kept], reference[kept]


def align_for_evaluation(
    reconstruction: Image, ground_truth: Image, scan_coords_yx: ArrayLike | None = None
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """A reconstruction and its truth, complex (h, w) each, on the same pixels of the part that was scanned.

    Global phase, phase plane, shift and scale are taken out of the reconstruction (`alignment.align`).

    Args:
        reconstruction: complex; its place in the truth is searched for unless the shapes are equal.
        ground_truth: complex (H, W).
        scan_coords_yx: (n, 2) positions [y, x] in pixels of the truth; None compares all of it.

    Raises:
        DataError: images that cannot be compared.
    """
    image, truth = np.squeeze(reconstruction), np.squeeze(ground_truth)
    places = [None, None] if scan_coords_yx is None else list(np.asarray(scan_coords_yx, np.float64).T)
    scanned = PlacedObject("truth", truth, ycoords=places[0], xcoords=places[1])
    region = scanned_region(PlacedObject("reconstruction", image), scanned)
    found = align(image, truth, region, (0, 0) if image.shape == truth.shape else None)
    return found.image, found.truth
