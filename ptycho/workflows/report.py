"""The report of a result: what it is held against is gathered here, and `ptycho.report` makes the page."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptycho.core.formats.placing import placed_object, placed_result
from ptycho.core.fourier_result import as_spectrum
from ptycho.core.quality.comparison import PlacedObject, compare, scanned_region
from ptycho.core.quality.registration import Region
from ptycho.core.quality.residuals import Residual, residuals, telling_patterns
from ptycho.core.quality.resolution import Resolution, read_resolution
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.result import reconstruction_of
from ptycho.errors import DataError, MissingFileError
from ptycho.raw_data import RawData
from ptycho.report.content import Compared, Content, LinkedFile
from ptycho.report.page import REPORT_FILE, save_report
from ptycho.workflows.networks.training_data import at_network_size
from ptycho.workflows.trust import NOMINAL_PHOTONS, photon_scale

__all__ = ["FRC_FILE", "RESULT_NAMES", "RunFolder", "shown_patterns", "write_report"]

FRC_FILE = "frc.json"
"""The resolution, in the folder of a run."""
MEANINGS = {
    "summary.png": "scan, mean pattern, probe, error, amplitude and phase on one sheet",
    "trust.png": "how well each pattern is explained, and where it is not",
    "reconstructed_amplitude.png": "amplitude of the object",
    "reconstructed_phase.png": "phase of the object",
    "network_amplitude.png": "amplitude before refinement",
    "network_phase.png": "phase before refinement",
    "reconstruction.npz": "the result in full: ptycho.load_reconstruction reads it",
    "reconstruction.h5": "the same as a ptychodus product",
    "frc.png": "Fourier ring correlation of the two halves",
    "frc.csv": "the same as a table",
    "frc.json": "the same, which reports read",
    "half_1.npz": "the first half by itself",
    "half_2.npz": "the second half by itself",
    "run.log": "what was said",
    "run.json": "what was asked",
    "wts.h5.zip": "the network",
}
"""Files of a run, and what they are."""
_PICTURES = tuple(name for name in MEANINGS if name.endswith(".png") and not name.startswith("frc"))
RESULT_NAMES = (
    *_PICTURES,
    *(Path(name).with_suffix(".pdf").name for name in _PICTURES),
    *("reconstruction.npz", "reconstruction.h5", REPORT_FILE),
)
"""Files of a result, of which one is not to be left beside another result."""
RESOLUTION_NAMES = (FRC_FILE, "frc.csv", "frc.png", "frc.pdf", "half_1.npz", "half_2.npz")
"""Files of `ptycho frc`."""
_SHOWN_PATTERNS = 64
"""At most so many patterns, more or less, make the mean that a picture shows."""
logger = logging.getLogger(__name__)

_COMPARED = 768
"""Pixels a side in the middle of a larger object, in which it is compared: bounds the time."""


SEEN_PX = 1e-3
"""Displacement of a position that is more than rounding."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run beside a result of it, which is made elsewhere first or stands there already."""

    path: Path
    resolution: Resolution | None
    """What `ptycho frc` left there, where it is of the scan of the result and can be read."""

    @classmethod
    def beside(cls, found: Reconstruction, path: Path) -> RunFolder:
        """Look into a folder: once, for what cannot be read is warned of."""
        return cls(path, _resolution(found, path))

    @property
    def outdated(self) -> tuple[str, ...]:
        """Names of what `ptycho frc` left there, where that is of another scan or cannot be read."""
        return () if self.resolution is not None else RESOLUTION_NAMES


def write_report(
    result: Reconstruction | Refinement,
    path: Path,
    scan: RawData | Path | str | None = None,
    compare_with: Path | None = None,
    beside: RunFolder | None = None,
) -> Path:
    """Write the report of a result as one HTML file, whole or not at all, and return its path.

    The folder of the report brings its files, as links, and the resolution that `ptycho frc` left there, where that is
    of the same scan.

    Args:
        result: what it is about.
        path: file to write.
        scan: the scan of the result, or its file: brings its mean pattern, single patterns beside those predicted, and
            the comparison with `objectGuess`, where that shows anything.
        compare_with: an earlier result, a product or a scan with its object, of any format that is read.
        beside: the folder of the run, where the report and the other files of the result are made elsewhere first.

    Raises:
        DataError: a scan of another number or size of patterns.
        OutputError: the file cannot be written.
    """
    found = reconstruction_of(result) if isinstance(result, Refinement) else result
    given = RawData.from_file(scan) if isinstance(scan, Path | str) else scan
    folder = RunFolder.beside(found, path.parent) if beside is None else beside
    data = None if given is None else at_network_size(given, found.probe.shape[-1])
    solved = as_spectrum(found)
    content = Content(
        reconstruction=solved,
        sample=None if solved is found else found,
        told=tuple(map(str, found.provenance.get("told", ()))),
        home=None if data is None else _home(found, data),
        mean_pattern=None if data is None else _mean_pattern(data),
        residuals=() if data is None else _residuals(solved, data),
        photon_scale=None if data is None else _photons(data),
        resolution=folder.resolution,
        compared=tuple(_compared(found, data, compare_with)),
        files=tuple(_files(path.parent, folder.path)),
    )
    return save_report(content, path)


def shown_patterns(data: RawData) -> NDArray[np.float32]:
    """Amplitudes (k, N, N) of patterns spread over the scan, whose mean a picture shows."""
    return data.amplitude(range(0, len(data), 1 + len(data) // _SHOWN_PATTERNS))


def _home(found: Reconstruction, data: RawData) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Where the scan has positions that moved, pixels of the object; None where they did not."""
    if len(found.xcoords) != len(data):
        return None
    home = found.frame.local(data.xcoords, data.ycoords)
    moved = max(float(np.abs(at - there).max()) for at, there in zip((found.xcoords, found.ycoords), home, strict=True))
    return home if moved > SEEN_PX else None


def _mean_pattern(data: RawData) -> NDArray[np.float64]:
    """Mean intensity (N, N) of patterns spread over the scan, NaN where it is never valid."""
    mean = np.mean(np.square(shown_patterns(data), dtype=np.float64), axis=0)
    return np.where(data.valid_mask.reshape(-1, *mean.shape).any(axis=0), mean, np.nan)


def _residuals(found: Reconstruction, data: RawData) -> list[Residual]:
    n, N = len(found.xcoords), found.probe.shape[-1]
    if (n, N) != (len(data), data.N):
        fact = f"expected {n} patterns of {N} pixels as in the result, found {len(data)} of {data.N}"
        raise DataError(f"report: {fact}; give the scan that was reconstructed")
    if found.trust is None:
        return []
    positions, places = (found.xcoords, found.ycoords), telling_patterns(found.trust)
    recording = data.recorded(found.recording)
    return residuals(found.layers, found.probe, positions, places, data.amplitude, data.mask, recording)


def _photons(data: RawData) -> float | None:
    """Photons per unit of squared amplitude, where that is known."""
    scale, dose = photon_scale(data, NOMINAL_PHOTONS)
    return None if dose == "nominal" else scale


def _resolution(found: Reconstruction, folder: Path) -> Resolution | None:
    """What `ptycho frc` left in the folder, where it is of this scan and can be read: a result is not lost for it."""
    if not (folder / FRC_FILE).is_file():
        return None
    try:
        resolution = read_resolution(folder / FRC_FILE)
    except DataError as error:
        logger.warning("the report has no resolution: %s", error)
        return None
    scan = (found.provenance.get("scan") or {}).get("content_sha256")
    return resolution if resolution.scan == scan else None


def _compared(found: Reconstruction, data: RawData | None, other: Path | None) -> list[Compared]:
    """With the object of the scan file, where it has one, and with what was named.

    A result is not lost for what it was to be compared with: then the report says why there is nothing.
    """
    made, ours = [], placed_result(found, "this result")
    if data is not None and data.objectGuess is not None and _shows_anything(data.objectGuess):
        truth = data.objectGuess.reshape(-1, *data.objectGuess.shape[-2:])[0]
        made.append(_with(ours, PlacedObject("the object of the scan file", truth, (0.0, 0.0))))
    if other is not None:
        try:
            theirs = placed_object(other)
        except (DataError, MissingFileError) as error:
            logger.warning("the report compares with nothing: %s", error)
            return [*made, Compared(other.name, None, str(error))]
        made.append(_with(ours, theirs))
    return made


def _with(ours: PlacedObject, theirs: PlacedObject) -> Compared:
    try:
        return Compared(theirs.name, compare(ours, theirs, _middle(scanned_region(ours, theirs))))
    except DataError as error:
        return Compared(theirs.name, None, str(error))


def _middle(region: Region | None) -> Region | None:
    """The middle of a region, at most so large."""
    if region is None:
        return None
    y0, y1, x0, x1 = region
    row, column = (max(0, length - _COMPARED) // 2 for length in (y1 - y0, x1 - x0))
    return y0 + row, y1 - row, x0 + column, x1 - column


def _shows_anything(image: NDArray[np.complexfloating]) -> bool:
    """Whether an object is not the same everywhere: a flat one is a start, no truth."""
    return bool(np.isfinite(image).all() and np.ptp(image.real) + np.ptp(image.imag) > 1e-6 * np.abs(image).max())


def _files(folder: Path, beside: Path) -> list[LinkedFile]:
    """The files of the run that are there, with their PDF; of another folder those that are no part of the result."""
    there = []
    for name, meaning in MEANINGS.items():
        home = folder if name in RESULT_NAMES else beside
        for path, what in ((home / name, meaning), ((home / name).with_suffix(".pdf"), f"{meaning}, as PDF")):
            if path.is_file() and (path.suffix != ".pdf" or name.endswith(".png")):
                there.append(LinkedFile(path.name, path.stat().st_size, what))
    return there
