"""Simulated experiments for a network that is to know none in particular: probe, object, path, dose, detector, drawn.

Every draw follows from one number. What it is drawn from is `RANGES`, which goes with the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.probes import make_probe, orthogonal_modes
from ptycho.core.simulation.detector import detector_mask
from ptycho.core.simulation.exposure import ScanPlan, expose
from ptycho.core.simulation.objects import make_object
from ptycho.core.simulation.scan_paths import scan_positions, step_for_overlap
from ptycho.raw_data import RawData

__all__ = ["RANGES", "Experiment", "drawn"]

RANGES: dict[str, Any] = {
    "N": [64, 128],
    "overlap": [-0.1, 0.85],
    "photons": [300.0, 1e7],
    "modes": [1, 3],
    "patterns_per_side": [4, 8],
    "amplitude": [0.1, 1.0],
    "phase": [0.1, 2.5],
    "probes": ["zone_plate", "disk", "gaussian", "diffuser"],
    "objects": ["lines", "dead_leaves", "gaussian_field", "perlin", "polyhedra", "smooth"],
}
"""Overlap is linear, of the diameter that holds 90 % of the light; photons are those of a pattern; `amplitude` and
`phase` (radians) are the extremes of an object."""
LARGE = 0.1
"""Share of experiments at the larger N, with fewer patterns."""
SMALLEST_STEP = 1.5
_PATHS = ("raster", "snake", "fermat", "random")

Complex = NDArray[np.complex64]


@dataclass(frozen=True)
class Experiment:
    """A scan in the network's units, and its truth."""

    scan: RawData
    """Amplitudes of mean energy (N/2)^2, the probe (M, N, N) too, which may be a little off."""
    frame: ObjectFrame
    """Square, its side a multiple of 8."""
    truth: Complex
    """The object (S, S) in the frame, 1 beyond its edge."""


def drawn(seed: int) -> Experiment:
    """An experiment."""
    rng = np.random.default_rng([seed, 20])
    large = rng.random() < LARGE
    N = RANGES["N"][1] if large else RANGES["N"][0]
    probe = _probe(N, rng)
    step = max(SMALLEST_STEP, step_for_overlap(probe, rng.uniform(*RANGES["overlap"])))
    low, high = RANGES["patterns_per_side"]
    side = int(rng.integers(low, low + 2 if large else high + 1))
    field = N + 4 + math.ceil(step * (side - 1))
    shape = (field, field)
    x, y = scan_positions(_PATHS[rng.integers(len(_PATHS))], shape, N, step, min(2.0, 0.3 * step), rng)
    photons = float(np.exp(rng.uniform(*np.log(RANGES["photons"]))))
    truth = _object(shape, rng)
    mask = _mask(N, rng)
    recorded = expose(ScanPlan(truth, probe, x, y, photons, mask=mask), rng).diffraction
    known = _misjudged(probe, rng) if rng.random() < 0.25 else probe
    return _in_network_units(recorded, known, x, y, mask, truth)


def _in_network_units(
    recorded: NDArray[Any], probe: Complex, x: NDArray[Any], y: NDArray[Any], mask: NDArray[Any] | None, truth: Complex
) -> Experiment:
    N = probe.shape[-1]
    seen = recorded if mask is None else np.where(mask, recorded, 0)
    k = math.sqrt((N / 2) ** 2 / np.mean(np.sum(np.square(seen, dtype=np.float64), axis=(1, 2))))
    # what photons were made of is of mean energy `photons`, whatever the unit of the probe
    a = math.sqrt((N / 2) ** 2 / np.sum(np.abs(probe) ** 2))
    frame = object_frame(x, y, N)
    length = -(-max(frame.shape) // 8) * 8
    frame = ObjectFrame(length, length, frame.x0, frame.y0)
    scan = RawData(x, y, None, None, np.float32(k) * recorded, np.complex64(a) * probe, mask=mask, units="amplitude")
    return Experiment(scan, frame, _cut(truth, frame))


def _cut(truth: Complex, frame: ObjectFrame) -> Complex:
    rows, columns = (
        np.arange(start, start + length) for start, length in zip((frame.y0, frame.x0), frame.shape, strict=True)
    )
    inside = [np.clip(axis, 0, n - 1) for axis, n in zip((rows, columns), truth.shape, strict=True)]
    return truth[np.ix_(*inside)]


def _probe(N: int, rng: np.random.Generator) -> Complex:
    """Modes (M, N, N) of unit (N/2)^2."""
    kind = RANGES["probes"][rng.choice(4, p=(0.55, 0.15, 0.15, 0.15))]
    if kind == "zone_plate":
        radius = rng.uniform(8, 20) * N / 64
        aberrations = {noll: float(rng.normal(0, 0.5)) for noll in (5, 6, 7, 8)} if rng.random() < 0.5 else None
        defocus = radius * rng.uniform(0.05, 0.28) * rng.choice((-1, 1)) * 64 / N
        settings = {"pupil_radius": radius, "stop": rng.uniform(0, 0.5), "defocus": defocus, "aberrations": aberrations}
        probe = make_probe(kind, N, **settings)
    elif kind == "gaussian":
        probe = make_probe(kind, N, fwhm=N * rng.uniform(0.12, 0.35))
    else:
        probe = make_probe("disk", N, diameter=N * rng.uniform(0.2, 0.6), sigma=rng.uniform(0.7, 3))
    if kind == "diffuser":
        probe = probe * make_probe(
            kind, N, grain=rng.uniform(2, 6), phase=rng.uniform(0.5, 2), seed=int(rng.integers(1 << 30))
        )
    if kind != "zone_plate":
        probe = probe * np.exp(1j * rng.uniform(-6, 6) * _squares(N) / (N / 4) ** 2)
    if rng.random() < 0.3:
        powers = [1.0, *np.sort(rng.uniform(0.03, 0.5, int(rng.integers(1, RANGES["modes"][1]))))[::-1]]
        probe = orthogonal_modes(probe, tuple(powers))
    probe = as_modes(probe)
    return np.asarray(probe * (N / 2) / np.linalg.norm(probe), np.complex64)


def _misjudged(probe: Complex, rng: np.random.Generator) -> Complex:
    """The probe with a little more or less defocus than it has."""
    far = np.fft.fftshift(np.fft.fft2(probe), axes=(-2, -1))
    power = np.sum(np.abs(far) ** 2, axis=0)
    squares = _squares(probe.shape[-1])
    edge = 2 * np.sum(power * squares) / power.sum()
    turned = far * np.exp(1j * rng.normal(0, 0.4) * squares / edge)
    return np.fft.ifft2(np.fft.ifftshift(turned, axes=(-2, -1))).astype(np.complex64)


def _squares(N: int) -> NDArray[np.float64]:
    axis = np.arange(N) - N / 2
    return axis[:, None] ** 2 + axis**2


def _object(shape: tuple[int, int], rng: np.random.Generator) -> Complex:
    """One kind, or the amplitude of one and the phase of another; amplitudes up to some 1."""
    darkest = 1 - (1 - RANGES["amplitude"][0]) * rng.beta(1.3, 1.3)
    half = math.exp(rng.uniform(*np.log(RANGES["phase"])))
    kinds = rng.choice(RANGES["objects"], 2)
    first, second = (make_object(kind, shape, rng, (darkest, 1.0), (-half, half)) for kind in kinds)
    mixed = np.abs(first) * np.exp(1j * np.angle(second)) if rng.random() < 0.4 else first
    return np.asarray(mixed * np.exp(1j * rng.uniform(-half, half)), np.complex64)


def _mask(N: int, rng: np.random.Generator) -> NDArray[np.bool_] | None:
    if rng.random() < 0.6:
        return None
    gap = int(rng.integers(1, 4)) if rng.random() < 0.5 else 0
    stop = rng.uniform(3, 6) * N / 64 if rng.random() < 0.4 else 0.0
    return detector_mask(N, rng, gap, int(rng.integers(-N // 4, N // 4)), rng.uniform(0, 0.01), stop)
