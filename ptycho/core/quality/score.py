"""The score of a reconstruction: every figure of merit at once, after what diffraction cannot know is removed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.quality.alignment import Alignment, align
from ptycho.core.quality.metrics import MS_SSIM_SMALLEST, mae, ms_ssim, nrmse, psnr, ssim
from ptycho.core.quality.registration import Region
from ptycho.core.quality.ring_correlation import frc
from ptycho.core.result import ByValue

__all__ = ["Score", "score", "score_aligned"]

Real = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Score(ByValue):
    """The figures of one reconstruction against its truth; spatial frequencies in cycles per pixel."""

    amplitude_psnr: float
    """dB after one real scale factor, data range `amplitude_range`; nan where the truth is constant."""
    amplitude_ssim: float
    amplitude_ms_ssim: float
    """Multi-scale SSIM; nan where the truth is constant or the region below 176 pixels a side."""
    amplitude_mae: float
    amplitude_range: float
    """Largest minus smallest true amplitude in the region."""
    phase_psnr: float
    """dB of the phase differences, so that wraps do not count, data range `phase_range`; nan likewise."""
    phase_ssim: float
    phase_ms_ssim: float
    phase_mae: float
    """Radians."""
    phase_range: float
    """Largest minus smallest true phase in the region, unwrapped, radians."""
    complex_nrmse: float
    """||cR - T|| / ||T|| with the best complex factor c."""
    complex_nrmse_unscaled: float
    """The same with |c| = 1: wrong scales count."""
    scale: float
    """Real factor by which the reconstructed amplitude was multiplied: 1 where the scale is right."""
    frc50_complex: float
    """Frequency at which the correlation with the truth falls below 1/2; 0.5 when it never does."""
    frc50_mid: float
    """The same, not looking below 0.05 cycles per pixel, where slow phases are the last to converge."""
    frc50_amplitude: float
    frc50_phase: float
    frc_one_bit_complex: float
    """Frequency at which it falls below the one-bit threshold: for a truth without noise."""
    frc_half_bit_complex: float
    """Frequency at which it falls below the half-bit threshold: for two reconstructions of half the data each."""
    correlation: float
    shift: tuple[float, float]
    """(dy, dx) in pixels that was removed, whole pixels included."""
    plane: tuple[float, float]
    """(ky, kx) of the phase plane that was removed, cycles per pixel."""
    region: Region
    """(y0, y1, x0, x1) of the truth that was scored."""

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, in plain numbers and tuples."""
        return asdict(self)


def score(
    reconstruction: NDArray[np.complexfloating],
    truth: NDArray[np.complexfloating],
    region: Region | None = None,
    offset: tuple[int, int] | None = (0, 0),
) -> Score:
    """Compare a reconstructed object with the truth, up to what diffraction cannot know.

    Sub-pixel shift, phase plane and global phase are removed first (`alignment.align`). Amplitude figures
    are taken after one real least-squares factor, `complex_nrmse` after one complex one,
    `complex_nrmse_unscaled` after none. Phase figures use `angle(R conj T)`, added to the unwrapped true
    phase where an image is needed.

    Args:
        reconstruction: complex (h, w).
        truth: complex (H, W).
        region: (y0, y1, x0, x1) of the truth, half open, at least 7 pixels a side; best inside the scan,
            where every method has data. None is everything.
        offset: (row, column) of the truth of the reconstruction's first pixel; None searches for it.

    Raises:
        DataError: images that `align` cannot compare.
    """
    return score_aligned(align(reconstruction, truth, region, offset))


def score_aligned(aligned: Alignment) -> Score:
    """The figures of a reconstruction that lies on its truth already; as `score`."""
    image, reference = aligned.image, aligned.truth
    factor = abs(aligned.factor)
    amplitude, true_amplitude = np.abs(image) / factor, np.abs(reference)
    scale = float(np.vdot(amplitude, true_amplitude) / np.vdot(amplitude, amplitude))
    amplitude *= scale
    difference = np.angle(image * np.conj(reference))
    true_phase = np.unwrap(np.unwrap(np.angle(reference), axis=0), axis=1)
    phase = true_phase + difference
    amplitude_range, phase_range = _range(true_amplitude, true_amplitude.max()), _range(true_phase, 1.0)
    curve = frc(image, reference)
    return Score(
        amplitude_psnr=_unless_flat(psnr, amplitude, true_amplitude, amplitude_range),
        amplitude_ssim=_unless_flat(ssim, amplitude, true_amplitude, amplitude_range),
        amplitude_ms_ssim=_unless_flat(_ms_ssim, amplitude, true_amplitude, amplitude_range),
        amplitude_mae=mae(amplitude, true_amplitude),
        amplitude_range=amplitude_range,
        phase_psnr=_unless_flat(psnr, phase, true_phase, phase_range),
        phase_ssim=_unless_flat(ssim, phase, true_phase, phase_range),
        phase_ms_ssim=_unless_flat(_ms_ssim, phase, true_phase, phase_range),
        phase_mae=float(np.mean(np.abs(difference))),
        phase_range=phase_range,
        complex_nrmse=nrmse(image, reference),
        complex_nrmse_unscaled=nrmse(image / factor, reference),
        scale=scale,
        frc50_complex=curve.cutoff(),
        frc50_mid=curve.cutoff(above=0.05),
        frc50_amplitude=frc(amplitude, true_amplitude).cutoff(),
        frc50_phase=frc(phase, true_phase).cutoff(),
        frc_one_bit_complex=curve.cutoff(curve.one_bit()),
        frc_half_bit_complex=curve.cutoff(curve.half_bit()),
        correlation=aligned.correlation,
        shift=(aligned.offset[0] + aligned.shift[0], aligned.offset[1] + aligned.shift[1]),
        plane=aligned.plane,
        region=aligned.region,
    )


def _range(image: Real, unit: float) -> float:
    """Largest minus smallest value; 0 where that is no more than the rounding of single precision."""
    extent = float(np.ptp(image))
    return extent if extent > 1e-5 * unit else 0.0


def _unless_flat(metric: Callable[[Real, Real, float], float], a: Real, b: Real, data_range: float) -> float:
    """A metric that needs a data range, or nan where the reference is constant and has none."""
    return metric(a, b, data_range) if data_range > 0 else math.nan


def _ms_ssim(a: Real, b: Real, data_range: float) -> float:
    """Multi-scale SSIM, nan for images too small for its five scales."""
    return ms_ssim(a, b, data_range) if min(a.shape) >= MS_SSIM_SMALLEST else math.nan
