"""From patches to one object: turned where that explains the data better, then a weighted mean.

The rule, in one place. Phases and ramps that the overlaps ask for (`ptycho.core.stitching.synchronise`) are kept where
both

1. overlapping pixels that they were not fitted to agree better, which noise would not do, and
2. the object made with them predicts a sample of the measured patterns with an error smaller by `GAIN` at least.
   Overlaps alone cannot tell: patches may agree with each other better than the true ones do, and where the scan
   hardly overlaps, patterns say little about phases from patch to patch: a smaller gain may come with a worse object.

A phase plane through the object is the same ramp in every patch, which no overlap shows, but it shifts every predicted
pattern. The shift is read from the centres of mass of predicted and measured patterns, and the plane is taken out where
that, too, makes the error smaller.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.options import NEUTRAL_STITCHING, StitchOptions
from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.diffraction import cleared, diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.recording import Recording
from ptycho.core.quality.metrics import relative_fourier_error
from ptycho.core.stitching.options import patch_weight
from ptycho.core.stitching.stitch import probe_weight, stitch_variants
from ptycho.core.stitching.sums import MakeSums, NumpySums
from ptycho.core.stitching.synchronise import synchronise
from ptycho.raw_data import RawData
from ptycho.workflows.scan_part import mask_of

__all__ = ["LevelledObject", "PatternSample", "StitchedObject", "stitch_scan"]

logger = logging.getLogger(__name__)

SAMPLE = 64
"""Patterns, spread over the scan, that decide."""
GAIN = 0.02
"""Part of the error that synchronised phases must take away to be kept."""
_PLANE = 1e-3  # cycles per patch: a smaller shift of the patterns is not looked into


@dataclass(frozen=True)
class StitchedObject:
    """An object from patches, and what was decided about their phases."""

    object: NDArray[np.complex64]
    coverage: NDArray[np.float32]
    spread: NDArray[np.float32] | None
    """(H, W) standard deviation of one patch about the mean, as in `stitching.Stitched`; None without patches."""
    synchronised: bool
    agreement: tuple[float, float]
    plane: tuple[float, float]
    """Phase plane that was taken out, (x, y), radians per pixel; 0 where there was none."""


def stitch_scan(
    patches: NDArray[np.complex64],
    positions: NDArray[np.floating[Any]],
    data: RawData,
    probe: NDArray[np.complex64],
    frame: ObjectFrame,
    options: StitchOptions = NEUTRAL_STITCHING,
    sums: MakeSums = NumpySums,
) -> StitchedObject:
    """Average the patches in a frame, turned as the module's rule says.

    Args:
        patches: (B, C, N, N) object patches of the members of each group, which share one phase; may be
            memory-mapped (`patch_store.patch_array`).
        positions: (B, 1, 2, C) their centres (x, y), pixels of the object grid.
        data: the scan, for its patterns.
        probe: (M, N, N) modes in the unit of the scan's amplitudes; `sum |P|^2` weighs the overlaps, and the patches
            unless the options say otherwise.
        frame: which part of the object grid to make.
        options: weights of the patches and the part of them that is stitched. What of the canvas is shown, `window`
            and `pad_eval`, is cut when nothing has to predict patterns any more (`stitch_options.result_frames`).
        sums: what adds the patches, that of the backend (`Backend.canvas_sums`).
    """
    groups, members, n, _ = patches.shape
    x, y = (coords.reshape(-1) for coords in np.moveaxis(positions[:, 0], 1, 0))
    flat, weight = patches.reshape(-1, n, n), probe_weight(probe)
    found = synchronise(flat, x, y, weight, labels=np.repeat(np.arange(groups), members))
    variants = [None, found.solved] if found.beyond_noise else [None]
    made = stitch_variants(flat, x, y, patch_weight(probe, options), frame, variants, options.middle(n), sums)
    sample = PatternSample(data, probe, frame)
    levelled = [sample.level(each.object, each.coverage) for each in made]
    errors = [each.error for each in levelled]
    chosen = int(errors[-1] < (1 - GAIN) * errors[0])
    logger.info("relative Fourier error of the stitched object %.4g%s", errors[0], _turned(errors[1:]))
    if any(levelled[chosen].plane):
        logger.info("a phase plane of (%.3g, %.3g) rad/pixel was taken out", *levelled[chosen].plane)
    return StitchedObject(
        object=levelled[chosen].object,
        coverage=made[chosen].coverage,
        spread=made[chosen].spread,
        synchronised=chosen == 1,
        agreement=(found.agreement_before, found.agreement_after),
        plane=levelled[chosen].plane,
    )


def _turned(errors: list[float]) -> str:
    return f", with synchronised phases {errors[0]:.4g}" if errors else ""


@dataclass(frozen=True)
class LevelledObject:
    """An object, the plane that was taken out of it, and its relative Fourier error on the sample."""

    object: NDArray[np.complex64]
    plane: tuple[float, float]
    error: float


class PatternSample:
    """Some patterns of the scan, without the background and under the beam of the probe as far as both are known, and
    how well an object predicts them, blurred as they are.
    """

    def __init__(self, data: RawData, probe: NDArray[np.complex64], frame: ObjectFrame) -> None:
        chosen = np.unique(np.linspace(0, len(data) - 1, min(len(data), SAMPLE)).astype(int))
        self.probe = probe
        self.x, self.y = frame.local(data.xcoords[chosen], data.ycoords[chosen])
        known = data.recording.of(chosen)
        flux = None if known.flux is None else known.flux[:, None, None]
        self.blurred = Recording(blur=known.blur)
        self.measured = cleared(data.amplitude(chosen), flux, known.background)
        mask = mask_of(data, chosen)
        self.mask = np.ones(self.measured.shape[1:], bool) if mask is None else mask

    def predicted(self, image: NDArray[np.complex64]) -> NDArray[np.floating[Any]]:
        """Amplitudes of the sampled patterns."""
        patches, dx, dy = extract_rounded(image, self.x, self.y, self.measured.shape[-1])
        return np.asarray(np.sqrt(diffract(self.probe, patches, dx, dy, self.blurred)))

    def level(self, image: NDArray[np.complex64], coverage: NDArray[np.float32]) -> LevelledObject:
        """The object without the plane that shifts its patterns; unchanged where that predicts them no better."""
        predicted, n = self.predicted(image), self.measured.shape[-1]
        still = LevelledObject(image, (0.0, 0.0), relative_fourier_error(predicted, self.measured, self.mask))
        q = np.arange(n) - n // 2
        shift = _centre(predicted, self.mask, q) - _centre(self.measured, self.mask, q)
        if not np.hypot(*shift) > _PLANE:
            return still
        kx, ky = 2 * np.pi / n * shift
        row, column = (np.arange(length) - length // 2 for length in image.shape)
        turned = image * np.exp(-1j * (ky * row[:, None] + kx * column)).astype(np.complex64)
        turned = np.where(coverage > 0, turned, image)
        error = relative_fourier_error(self.predicted(turned), self.measured, self.mask)
        return LevelledObject(turned, (float(kx), float(ky)), error) if error < still.error else still


def _centre(amplitudes: NDArray[np.floating[Any]], mask: NDArray[np.bool_], q: NDArray[np.int_]) -> NDArray[np.float64]:
    """Mean centre of mass (x, y) of the intensity in the valid pixels, detector pixels from the zero frequency."""
    light = np.where(mask, amplitudes, 0).astype(np.float64) ** 2
    total = light.sum()
    return np.array([(light.sum(axis=(0, 1)) * q).sum(), (light.sum(axis=(0, 2)) * q).sum()]) / total
