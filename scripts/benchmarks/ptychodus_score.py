"""Is the object that ptychodus wrote the true one: the right way round, in the right place, of the right size?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ptycho.core.formats import registry
from ptycho.core.formats.record import ScanRecord
from ptycho.core.quality.orientation import ORIENTATIONS
from ptycho.core.quality.score import score

__all__ = ["ProductScore", "score_product"]

SHIFT = 1.0
"""Largest shift that is allowed, pixels: ptychodus and this library may count a patch's middle half a pixel apart."""
MARGIN = 0.2
"""By how much the right orientation has to be ahead of the others."""


@dataclass(frozen=True)
class ProductScore:
    """The figures of one product; positions and sizes are taken from the product in metres."""

    orientation: str
    """Which of the eight ways round, and whether conjugated, is most like the truth."""
    correlation: float
    """Of the complex object with the truth, 1 at best."""
    phase_correlation: float
    """Pearson's, of the phases in the scanned region."""
    margin: float
    """By how much the correlation of the phases, wherever they fit best, is higher in the right orientation than in
    the best of the seven others."""
    shift_px: tuple[float, float]
    """(dy, dx) from where the product says the object lies to where it fits the truth."""
    pixel_size_m: float
    same_pixel_size: bool
    flat: bool
    """Whether the amplitude is that of an empty object."""

    def failures(self, least: float) -> list[str]:
        """What is wrong, in words."""
        wrong = []
        if self.flat:
            wrong.append("the object is flat")
        if self.orientation != ORIENTATIONS[0].name:
            wrong.append(f"orientation: {self.orientation}")
        if not self.margin >= MARGIN:
            wrong.append(f"orientation: ahead of the others by {self.margin:.2f}, less than {MARGIN}")
        if not self.phase_correlation >= least:
            wrong.append(f"phase correlation {self.phase_correlation:.3f} below {least}")
        if max(map(abs, self.shift_px)) > SHIFT:
            wrong.append(f"off by {self.shift_px} pixels")
        if not self.same_pixel_size:
            wrong.append(f"pixel size {self.pixel_size_m} m")
        return wrong

    def as_dict(self) -> dict[str, object]:
        """For the report."""
        return asdict(self)


def score_product(path: Path, scan: ScanRecord) -> ProductScore:
    """Compare a product with the scan that it was made from, in the region of the scan's positions."""
    found = registry.read(path)
    assert found.object is not None and found.origin_px is not None and found.object_pixel_m is not None
    assert scan.object is not None and scan.origin_px is not None and scan.xcoords is not None
    assert scan.ycoords is not None
    x0, y0 = (ours - theirs for ours, theirs in zip(found.origin_px, scan.origin_px, strict=True))
    row, column = round(y0), round(x0)
    limits = [(coords.min(), coords.max()) for coords in (scan.ycoords, scan.xcoords)]
    (top, bottom), (left, right) = ((int(np.ceil(low)), int(high)) for low, high in limits)
    region = (top, bottom, left, right)
    figures = score(found.object, scan.object, region, (row, column))
    inside = found.object[top - row : bottom - row, left - column : right - column]
    truth = scan.object[top:bottom, left:right]
    likeness = _likeness(inside, truth)
    turned = [value for name, value in likeness.items() if not name.startswith(ORIENTATIONS[0].name)]
    return ProductScore(
        orientation=max(likeness, key=likeness.__getitem__),
        correlation=figures.correlation,
        phase_correlation=_phase_correlation(inside, truth),
        margin=likeness[ORIENTATIONS[0].name] - max(turned),
        shift_px=(figures.shift[0] - y0, figures.shift[1] - x0),
        pixel_size_m=found.object_pixel_m,
        same_pixel_size=bool(np.isclose(found.object_pixel_m, scan.object_pixel_m or 0, rtol=1e-9)),
        flat=bool(np.std(np.abs(inside)) < 1e-3 * np.mean(np.abs(inside))),
    )


def _likeness(image: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Correlation of the phases with the true ones in every orientation, wherever in the region they fit best."""
    side = min(image.shape)
    target = _phases(truth[:side, :side])
    spectrum = np.conj(np.fft.fft2(target))
    likeness = {}
    for orientation in ORIENTATIONS:
        turned = _phases(orientation.image(image[:side, :side]))
        size = max(float(np.linalg.norm(turned) * np.linalg.norm(target)), np.finfo(float).tiny)
        correlation = np.fft.ifft2(np.fft.fft2(turned) * spectrum).real / size
        likeness[orientation.name] = float(correlation.max())
        likeness[f"{orientation.name} conjugated"] = float(-correlation.min())
    return likeness


def _phase_correlation(image: np.ndarray, truth: np.ndarray) -> float:
    """Pearson's correlation of the phases, in place."""
    ours, theirs = _phases(image), _phases(truth)
    if min(ours.std(), theirs.std()) == 0:
        return 0.0
    return float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1])


def _phases(image: np.ndarray) -> np.ndarray:
    """Phases about their mean direction, so that no wrap counts."""
    phase = np.angle(image * np.conj(image.mean()))
    return np.asarray(phase - phase.mean())
