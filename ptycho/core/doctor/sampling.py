"""Is the scan dense and the window wide enough? Overlap, sampling, the energy of the probe."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.doctor.findings import Finding, Severity
from ptycho.core.doctor.positions import neighbour_distance
from ptycho.core.doctor.probe_doubt import probe_doubt
from ptycho.core.doctor.statistics import ScanStatistics
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.patches import assemble
from ptycho.core.physics.probes import probe_diameter
from ptycho.core.refinement.steps.raster import raster_of
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import ScanStream

__all__ = ["check_energy", "check_overlap", "check_raster", "check_window", "covered_pixels"]

Array = NDArray[Any]

_LOW_OVERLAP, _NO_OVERLAP = 0.4, 0.1
_ALIASED = 0.35
"""Height of the autocorrelation at the edge of the window, relative to its peak, where patterns are undersampled."""
_CROWDED = 0.1
"""Share of the probe's energy in the outer eighth of the window; an even illumination has 0.44."""


def covered_pixels(scan: ScanFile) -> float:
    """Object pixels that the 90 % disks of the probe cover together."""
    radius = max(probe_diameter(scan.probe) / 2, 0.5)
    x, y = scan.xcoords - scan.xcoords.min(), scan.ycoords - scan.ycoords.min()
    scale = max(1.0, max(np.ptp(x), np.ptp(y)) / 2000)  # a map of at most some million pixels
    n = 2 * int(np.ceil(radius / scale)) + 2
    line = (np.arange(n) - n / 2) * scale
    disk = (np.hypot(line[:, None], line[None, :]) <= radius).astype(np.float32)
    shape = (int(np.ptp(y) / scale) + n + 2, int(np.ptp(x) / scale) + n + 2)
    covered = np.zeros(shape, np.float32)
    for start in range(0, len(x), 1024):
        part = slice(start, start + 1024)
        disks = np.broadcast_to(disk, (len(x[part]), n, n))
        covered += assemble(disks, np.rint(x[part] / scale) + n / 2, np.rint(y[part] / scale) + n / 2, shape)
    return float(np.count_nonzero(covered > 0) * scale**2)


def check_overlap(stream: ScanStream, statistics: ScanStatistics, covered: float, likeness: float) -> Finding:
    """Do neighbouring illuminations share enough of the object?

    Args:
        stream: the scan, with a probe.
        statistics: of it.
        covered: `covered_pixels`.
        likeness: of the mean pattern to the probe's far field; the size of a probe that did not make these patterns
            says nothing of their overlap.
    """
    scan = stream.fields
    diameter, n = probe_diameter(scan.probe), len(scan.xcoords)
    density = n * np.pi * (diameter / 2) ** 2 / covered
    step = neighbour_distance(scan.xcoords, scan.ycoords)
    # a square raster as dense as this scan, so that dense lines far apart do not pass for overlap
    equal_step = float(np.sqrt(covered / n)) if n > 1 else float("nan")
    overlap = 1 - max(step, min(equal_step, diameter)) / diameter if n > 1 else 0.0
    doubt = probe_doubt(stream, statistics, likeness)
    numbers = {
        "overlap": overlap,
        "nearest_neighbour": step,
        "probe_diameter": diameter,
        "looks_per_pixel": density,
        "probe_doubted": bool(doubt),
    }
    apart = f"Neighbours are {step:.3g} pixels apart" if n > 1 else "There is one pattern"
    text = (
        f"{apart}, the disk with 90 % of the probe's energy is {diameter:.3g} wide: "
        f"linear overlap {100 * max(overlap, 0):.0f} %, each covered pixel is seen {density:.1f} times"
    )
    if doubt:
        sentence = (
            f"{text}, if the probe is right. But {doubt}: find the probe first, then judge the overlap: "
            "ptycho reconstruct --probe patterns."
        )
        severity: Severity = "warning" if overlap < _LOW_OVERLAP else "note"
        return Finding("overlap", severity, sentence, numbers, ("reconstruct --probe patterns",))
    if overlap < _NO_OVERLAP:
        return Finding(
            "overlap", "fault", f"{text}. Patches cannot be tied to each other; scan with smaller steps.", numbers
        )
    if overlap < _LOW_OVERLAP:
        return Finding("overlap", "warning", f"{text}. 60 % and more is usual; scan with smaller steps.", numbers)
    return Finding("overlap", "ok", f"{text}.", numbers)


def check_raster(scan: ScanFile) -> tuple[Finding, ...]:
    """Are the positions a regular raster, whose patterns leave a grid open? Nothing where they are not."""
    raster = raster_of(scan.xcoords, scan.ycoords)
    if raster is None:
        return ()
    steps = f"{raster.step_x:.3g} x {raster.step_y:.3g} pixels"
    sentence = (
        f"The positions are a regular raster with steps of {steps}: the patterns cannot tell whether a grid of that "
        "period is of the object or of the probe. A reconstruction whose probe moves gives it to the probe where it "
        "stands out; in the next scan vary the steps by a tenth, or take a spiral."
    )
    return (Finding("raster", "note", sentence, {"step_x": raster.step_x, "step_y": raster.step_y}),)


def check_window(statistics: ScanStatistics, scan: ScanFile) -> Finding:
    """Is the illuminated area smaller than the window that the detector's pixels allow?"""
    mean = np.where(statistics.valid, statistics.mean, 0)
    correlation = np.abs(np.fft.fftshift(np.fft.ifft2(mean)))
    N = len(mean)
    peak = float(correlation[N // 2, N // 2])
    aliased = float(max(correlation[0, N // 2], correlation[N // 2, 0])) / peak if peak > 0 else 0.0
    rim = None if scan.probeGuess is None else _energy_in_rim(scan.probeGuess)
    numbers = {"autocorrelation_at_edge": aliased, "probe_energy_in_rim": rim}
    if aliased > _ALIASED:
        sentence = (
            f"At the edge of the window the autocorrelation of the exit waves is still {100 * aliased:.0f} % "
            "of its peak: the illuminated area is too large for these detector pixels (undersampling). Use finer "
            "pixels, a larger distance or a smaller probe."
        )
        return Finding("sampling", "warning", sentence, numbers)
    if rim is not None and rim > _CROWDED:
        sentence = (
            f"{100 * rim:.0f} % of the probe's energy lies in the outermost sixteenth of the window on each side: "
            "the probe is cut off or does not fit. Use a larger window (finer detector pixels)."
        )
        return Finding("sampling", "warning", sentence, numbers)
    near = "" if rim is None else f", and {100 * rim:.1f} % of the probe's energy is near the edge"
    sentence = (
        f"At the edge of the window the autocorrelation of the exit waves has fallen to {100 * aliased:.1f} % of its "
        f"peak{near}: the window is wide enough."
    )
    return Finding("sampling", "ok", sentence, numbers)


def _energy_in_rim(probe: Array) -> float:
    """Share of a probe's energy in the outermost sixteenth of the window on each side."""
    power = np.asarray(np.sum(np.abs(as_modes(probe)) ** 2, axis=0, dtype=np.float64))
    N, m = len(power), len(power) // 16
    return 1 - float(power[m : N - m, m : N - m].sum() / power.sum())


def check_energy(statistics: ScanStatistics, scan: ScanFile) -> Finding:
    """Is the probe in the unit of the patterns?"""
    probe = float(np.sum(np.abs(as_modes(scan.probe)) ** 2, dtype=np.float64))
    data = float(statistics.energies.mean())
    ratio = data / probe
    numbers = {"pattern_energy": data, "probe_energy": probe, "object_amplitude": float(np.sqrt(ratio))}
    text = (
        f"A pattern holds {data:.3g} units of energy on average, the probe {probe:.3g}: "
        f"the object will have an amplitude near {np.sqrt(ratio):.3g}"
    )
    if not 1e-2 <= ratio <= 4:
        return Finding(
            "probe energy", "note", f"{text}; multiply the probe by that number to bring it near 1.", numbers
        )
    return Finding("probe energy", "ok", f"{text}.", numbers)
