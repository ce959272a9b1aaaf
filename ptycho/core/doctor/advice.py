"""What to do with a healthy scan: settings, memory, time."""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.doctor.findings import Finding
from ptycho.core.doctor.orientation import OrientationTest
from ptycho.core.doctor.positions import neighbour_distance
from ptycho.core.doctor.statistics import ScanStatistics
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.probes import probe_diameter
from ptycho.core.refinement.device.memory import USUAL_MEMORY, MemoryPlan
from ptycho.core.refinement.device.packing import fitted, smallest_type
from ptycho.core.scaling import Units, frame_blocks, to_amplitude
from ptycho.core.scan.scan import ScanFile
from ptycho.networks.registry import PATTERN_SIZES

__all__ = ["forecast", "suggest_settings"]

_ENERGY_KEPT = 0.999
_REFINE_ITERATIONS = 50
_SINGLE = np.dtype(np.complex64).itemsize
_WORK_PER_PIXEL = 4e5
"""Training time of the default network per detector pixel, in operations of a matrix product of the same duration."""
_WORK_PER_MEMBER = 0.1
"""What each further pattern of a group adds to that."""


def suggest_settings(statistics: ScanStatistics, scan: ScanFile, photons: float | None) -> Finding:
    """N, gridsize and the settings that go with them."""
    N, n = scan.diff3d.shape[-1], len(scan.diff3d)
    diameter, step = probe_diameter(scan.probe), neighbour_distance(scan.xcoords, scan.ycoords)
    gridsize = 2 if n >= 64 and step < 0.6 * diameter else 1
    needed = _needed_side(statistics)
    size = next((s for s in PATTERN_SIZES if s >= needed), PATTERN_SIZES[-1])
    suggested = min(size, max((s for s in PATTERN_SIZES if s <= N), default=PATTERN_SIZES[0]))
    settings: dict[str, Any] = {"N": suggested, "gridsize": gridsize, "neighbor_count": 4 if gridsize == 1 else 6}
    settings["n_groups"] = min(n, 4096)
    settings["batch_size"] = 16 if n >= 64 else max(1, n // 4)
    if photons is not None:
        settings["nphotons"] = float(f"{photons:.3g}")
    flags = " ".join(f"--{key} {value:g}" for key, value in settings.items())
    why = f"neighbours are {step:.3g} pixels apart under a probe of {diameter:.3g}"
    crop = (
        f" {100 * _ENERGY_KEPT:.1f} % of the light lies in the central {needed} pixels: cropping to {suggested} "
        f"(ptycho dataset crop --size {suggested}) is faster and gives up that much resolution."
        if suggested < N
        else ""
    )
    sentence = f"Settings to begin with: {flags} ({why}).{crop}"
    return Finding("settings", "note" if suggested < N else "ok", sentence, settings | {"needed_side": needed})


def forecast(scan: ScanFile, test: OrientationTest | None, gridsize: int, units: Units) -> Finding:
    """Memory and time, from the size of the scan and the speed of this machine; its patterns are in these units."""
    n, N = len(scan.diff3d), scan.diff3d.shape[-1]
    modes = len(as_modes(scan.probe))
    members = gridsize**2
    file_mb = n * N * N * scan.diff3d.dtype.itemsize / 2**20
    stitching_mb = n * members * N * N * 8 / 2**20
    epoch_s = n * N * N * _WORK_PER_PIXEL * (1 + _WORK_PER_MEMBER * (members - 1)) / _matrix_speed()
    numbers: dict[str, Any] = {"patterns_mb": file_mb, "predicted_patches_mb": stitching_mb, "epoch_s": epoch_s}
    sentence = (
        f"The patterns take {_size(file_mb)}, all predicted patches at gridsize {gridsize} {_size(stitching_mb)}; an "
        f"epoch of training over all of them some {_time(epoch_s)} on one core of this machine"
    )
    if test is not None:
        refine_s = test.seconds_per_pixel * n * N**2 * _REFINE_ITERATIONS * max(1.0, modes / 3)
        numbers["refinement_s"] = refine_s
        sentence += f", {_REFINE_ITERATIONS} iterations of refinement {_time(refine_s)}"
    usual, all_mb = _iteration(scan, USUAL_MEMORY), _iteration(scan, 1 << 62).kept / 2**20
    numbers["iteration_mb"] = all_mb
    kept = "all of it"
    if not usual.whole:
        usual, _ = fitted(partial(_iteration, scan, USUAL_MEMORY), partial(_pattern_type, scan, units))
        kept = f"what fits of it in {_size(USUAL_MEMORY / 2**20)}, {usual.told}"
    sentence += (
        f". Within a factor of two or three; a GPU is far faster. An iteration is fastest with {_size(all_mb)} for "
        f"patterns, far fields and probes, and keeps {kept} (--device-memory GIB; of a GPU 3/4 of what is free)"
    )
    return Finding("forecast", "ok", f"{sentence}.", numbers)


def _iteration(scan: ScanFile, memory: int, pattern_bytes: int | None = None) -> MemoryPlan:
    """What an iteration whose probe moves keeps in so many bytes (`ptycho.core.refinement.device.memory`)."""
    n, N = len(scan.diff3d), scan.diff3d.shape[-1]
    near = NearField.of(scan.metadata) is not None
    sizes = (n, N, len(as_modes(scan.probe)), _SINGLE)
    return MemoryPlan.made(memory, *sizes, near=near, batch_pixels=N**2, pattern_bytes=pattern_bytes)


def _pattern_type(scan: ScanFile, units: Units) -> np.dtype[Any]:
    """The smallest that holds all amplitudes."""
    n, N, _ = scan.diff3d.shape
    blocks = (np.arange(n)[block] for block in frame_blocks(n, N**2))
    return smallest_type(blocks, lambda some: _amplitude(scan, some, units))


def _amplitude(scan: ScanFile, some: NDArray[np.int64], units: Units) -> NDArray[np.float32]:
    """Of some patterns, 0 where they are not valid."""
    amplitude = to_amplitude(scan.diff3d[some[0] : some[-1] + 1], units)
    if scan.mask is None:
        return amplitude
    return np.where(scan.mask[some] if scan.mask.ndim == 3 else scan.mask, amplitude, np.float32(0))


def _needed_side(statistics: ScanStatistics) -> int:
    """Side of the central square of the detector that holds 99.9 % of the light."""
    mean = np.where(statistics.valid, np.maximum(statistics.mean, 0), 0)
    N = len(mean)
    line = np.abs(np.arange(N) - N // 2)
    ring = np.maximum(line[:, None], line[None, :]).ravel()
    held = np.cumsum(np.bincount(ring, mean.ravel()))
    return min(N, 2 * (int(np.searchsorted(held, _ENERGY_KEPT * held[-1])) + 1))


def _matrix_speed() -> float:
    """Operations per second of single-precision matrix products here and now; takes some milliseconds."""
    matrix = np.ones((384, 384), np.float32)
    times = []
    for _ in range(8):
        start = perf_counter()
        matrix @ matrix
        times.append(perf_counter() - start)
    return 2 * 384**3 / min(times)


def _size(mb: float) -> str:
    return f"{mb / 1024:.1f} GB" if mb >= 1024 else f"{mb:.0f} MB"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
