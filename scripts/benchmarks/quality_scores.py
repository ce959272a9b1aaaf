"""How good an object is, by the truth or by the patterns, and what finding it cost in memory."""

from __future__ import annotations

import ctypes
import gc
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality_cases import scored_region

from ptycho.core.geometry import ObjectFrame, object_frame, reframe
from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.quality.metrics import relative_fourier_error
from ptycho.core.quality.score import score
from ptycho.core.quality.uncertainty import without_gauge
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.trust import ON_HOST
from ptycho.raw_data import RawData
from ptycho.workflows.trust import scan_trust

__all__ = [
    "LEVELS",
    "Snapshot",
    "error_of",
    "errors_of",
    "figures_of_merit",
    "fourier_error",
    "peak_memory",
    "scanned_box",
    "target_frame",
    "within_bars",
]

Complex = NDArray[np.complex64]
Real = NDArray[np.float64]

LEVELS = {0.5: 0.6745, 0.6827: 1.0, 0.8: 1.2816, 0.9: 1.6449, 0.95: 1.96, 0.99: 2.5758}
"""Share of a normal distribution within so many standard deviations."""


@dataclass(frozen=True)
class Snapshot:
    """An object at some moment, with the probe that belongs to it, (M, N, N) in the unit of the file."""

    step: int
    seconds: float
    object: Complex
    probe: Complex
    frame: ObjectFrame


def target_frame(data: RawData) -> ObjectFrame:
    """Where objects are compared: on the grid of the truth, or on the smallest one that holds the scan."""
    if data.objectGuess is None:
        return object_frame(data.xcoords, data.ycoords, data.N)
    height, width = data.objectGuess.shape
    return ObjectFrame(height, width, 0, 0)


def figures_of_merit(image: Complex, probe: Complex, frame: ObjectFrame, data: RawData) -> dict[str, Any]:
    """Every figure of merit: against the truth where there is one, against the patterns always; none if it diverged."""
    if not np.isfinite(image).all():
        return {}
    x, y = frame.local(data.xcoords, data.ycoords)
    trust = scan_trust(image, probe, x, y, data, data.photons(data.mean_energy), ON_HOST)
    figures: dict[str, Any] = {
        "fourier_error": fourier_error(image, probe, frame, data),
        "deviance_ratio": None if trust.dose == "nominal" else trust.overall_ratio,
    }
    if data.objectGuess is not None:
        figures |= score(image, data.objectGuess, scored_region(data)).as_dict()
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in figures.items()
    }


def fourier_error(image: Complex, probe: Complex, frame: ObjectFrame, data: RawData) -> float:
    """Relative Fourier error of the whole scan by the `fourier` rule."""
    patches, dx, dy = extract_rounded(image, *frame.local(data.xcoords, data.ycoords), data.N)
    return relative_fourier_error(np.sqrt(diffract(probe, patches, dx, dy)), data.amplitude(), data.mask)


def error_of(found: Snapshot, target: ObjectFrame, data: RawData) -> float:
    """NRMSE of the object where there is a truth, else the relative Fourier error; infinite if it diverged."""
    image = reframe(found.object, found.frame, target, 1)
    if not np.isfinite(image).all():
        return math.inf
    if data.objectGuess is None:
        return fourier_error(image, found.probe, target, data)
    return score(image, data.objectGuess, scored_region(data)).complex_nrmse


def scanned_box(data: RawData) -> NDArray[np.bool_]:
    """(H, W) the box of the scan positions, on the pixels of the truth."""
    assert data.objectGuess is not None
    box = np.zeros(data.objectGuess.shape, bool)
    y0, y1, x0, x1 = scored_region(data)
    box[y0:y1, x0:x1] = True
    return box


def errors_of(found: Reconstruction, data: RawData, box: NDArray[np.bool_]) -> dict[str, Real]:
    """Errors of amplitude and of phase in the box, after global phase, phase plane and scale are taken out."""
    assert data.objectGuess is not None
    frame = target_frame(data)
    image, light = reframe(found.object, found.frame, frame, 1), reframe(found.coverage, found.frame, frame, 0)
    brought, truth = without_gauge(image, data.objectGuess, np.where(box, light, 0), free=True), data.objectGuess
    return {"amplitude": (abs(brought) - abs(truth))[box], "phase": np.angle(brought * truth.conj())[box]}


def within_bars(found: Reconstruction, data: RawData) -> dict[str, dict[str, float]]:
    """Share of the pixels of the box whose error of amplitude, of phase, is within the bars of each of `LEVELS`."""
    assert found.uncertainty is not None
    box, frame = scanned_box(data), target_frame(data)
    shares = {}
    for name, error in errors_of(found, data, box).items():
        bars = reframe(getattr(found.uncertainty, name), found.frame, frame, np.nan)[box]
        shares[name] = {str(level): float(np.mean(abs(error) < times * bars)) for level, times in LEVELS.items()}
    return shares


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """The most memory that this process takes in the block beyond what it held before, MB; empty where not Linux."""
    found: dict[str, float] = {}
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        yield found
        return
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)  # else what earlier cells have freed counts as held
    reset.write_text("5")
    before = _kilobytes(status, "VmRSS")
    yield found
    found["peak_mb"] = (_kilobytes(status, "VmHWM") - before) / 1024


def _kilobytes(status: Path, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", status.read_text())
    assert found is not None
    return int(found[1])
