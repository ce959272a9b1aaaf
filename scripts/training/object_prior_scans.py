"""Reconstructions to train the network prior on: simulated scans of many kinds, each beside its truth.

    python scripts/training/object_prior_scans.py --output FOLDER --count 400

Scan k is drawn from the seed k alone, so that an interrupted run goes on where it was, and several may share the work
(`--every 2 --first 0` and `--every 2 --first 1`). A scan of 64 x 64 patterns takes half a second to two.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.options import IterationOptions
from ptycho.core.files.atomic import atomic_path
from ptycho.core.files.npz import write_arrays
from ptycho.core.physics.probes import make_probe, probe_diameter
from ptycho.core.refinement.priors.noise_map import NoiseMap
from ptycho.core.refinement.trust import ON_HOST
from ptycho.core.simulation.exposure import SimulatedScan, expose
from ptycho.core.simulation.objects import OBJECTS, object_from_images
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.iterate import iterate
from ptycho.workflows.solver import Solver
from ptycho.workflows.trust import NOMINAL_PHOTONS, photon_scale
from ptycho_torch.refine import refine

N, SIZE = 64, 192
"""Sides of patterns and of objects, pixels."""
DOSES = 3e2, 1e5
"""Photons per pattern, log-uniform."""
OVERLAPS = -0.05, 0.80
MANY_PHOTONS = 0.25
"""Share of the scans of 1e5 to 1e9 photons: what is left open then is no noise."""
PHOTOGRAPHS = 0.3
"""Share of the objects that are made of two pictures."""
PICTURES = [
    "brick",
    "cell",
    "chelsea",
    "clock",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "page",
    "retina",
    "rocket",
    "text",
]
"""Of scikit-image; camera and astronaut are left to tests."""
TEST_SEEDS = 1_000_000
"""Training uses seeds below."""


def picture(name: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random square of a picture, grey, turned and mirrored at random."""
    import skimage.data

    image = getattr(skimage.data, name)().astype(np.float64)
    grey = image.mean(axis=2) if image.ndim == 3 else image
    side = int(min(grey.shape) * rng.uniform(0.4, 1.0))
    top, left = (int(rng.integers(0, length - side + 1)) for length in grey.shape)
    square = np.rot90(grey[top : top + side, left : left + side], int(rng.integers(4)))
    return square[:, ::-1] if rng.random() < 0.5 else square


def draw_probe(rng: np.random.Generator) -> NDArray[np.complex64]:
    """A zone plate's, a disk, a Gaussian or a diffuser."""
    kind = rng.choice(["zone_plate", "disk", "gaussian", "diffuser"], p=[0.65, 0.15, 0.1, 0.1])
    if kind == "zone_plate":
        radius = rng.uniform(9, 20)
        defocus = rng.uniform(14, 34) * radius / (2 * N)
        return make_probe(kind, N, pupil_radius=radius, stop=rng.uniform(0, 0.4), defocus=defocus)
    if kind == "disk":
        return make_probe(kind, N, diameter=rng.uniform(14, 30), sigma=rng.uniform(0.5, 2))
    if kind == "gaussian":
        return make_probe(kind, N, fwhm=rng.uniform(9, 20))
    return make_probe("disk", N, diameter=rng.uniform(18, 32), sigma=1.5) * make_probe(
        kind, N, grain=rng.uniform(3, 8), phase=rng.uniform(0.5, 2), seed=int(rng.integers(1 << 30)), energy=1.0
    )


def draw_scan(seed: int) -> SimulatedScan:
    """A scan of an object, with a probe, a dose and an overlap that follow from the seed."""
    rng = np.random.default_rng([seed, 18])
    probe = draw_probe(rng)
    overlap = rng.uniform(*OVERLAPS) if rng.random() < 0.75 else rng.uniform(OVERLAPS[0], 0.3)
    many = rng.random() < MANY_PHOTONS
    photons = 10 ** (rng.uniform(5, 9) if many else rng.uniform(*np.log10(DOSES)))
    amplitude = (rng.uniform(0.2, 0.97), 1.0)
    half = 10 ** rng.uniform(-1, 0.5)
    settings: dict[str, Any] = {}
    kind = str(rng.choice(sorted(OBJECTS)))
    if kind == "siemens_star":
        settings = {"spokes": int(rng.integers(8, 60)), "rings": int(rng.integers(2, 8))}
    elif kind == "dead_leaves":
        settings = {"radii": (rng.uniform(2, 5), rng.uniform(15, 60))}
    made = None
    if rng.random() < PHOTOGRAPHS:
        pictures = [picture(name, rng) for name in rng.choice(PICTURES, 2)]
        if rng.random() < 0.4:
            pictures[1] = pictures[0]
        made = object_from_images(pictures[0], pictures[1], (SIZE, SIZE), amplitude, (-half, half))
    step = max((1 - overlap) * probe_diameter(probe), 4.5)
    plan = ScanSettings(
        kind=kind,
        object_settings=settings,
        shape=(SIZE, SIZE),
        amplitude=amplitude,
        phase=(-half, half),
        N=N,
        step=step,
        jitter=float(rng.uniform(0.5, 2.5)),
        photons=photons,
        seed=seed,
    )
    return expose(*plan_scan(plan, object=made, probe=probe))


def as_scan(found: SimulatedScan) -> RawData:
    """With the known probe, as amplitudes in units in which its energy is (N/2)^2."""
    unit = np.float32(N / 2 / np.linalg.norm(found.probe))
    return RawData(
        found.xcoords,
        found.ycoords,
        None,
        None,
        found.diffraction * unit,
        found.probe * unit,
        objectGuess=found.object,
        metadata={"nphotons": found.recorded},
        units="amplitude",
    )


def example(seed: int) -> dict[str, NDArray[Any]]:
    """What the iteration makes of a scan, its noise map and its truth, on the box of pixels that have light."""
    data = as_scan(draw_scan(seed))
    options, solver = IterationOptions(refine_probe=False, modes=None), Solver(refine, ON_HOST)
    found = iterate(data, solver, options, tell=logging.debug).refinement
    noise = NoiseMap.of(data.probeGuess, data.xcoords, data.ycoords, found.object.shape)
    scale, _ = photon_scale(data, NOMINAL_PHOTONS)
    truth = data.objectGuess
    assert truth is not None
    lit = noise.lit
    rows, cols = (np.flatnonzero(lit.any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
    return {
        "found": found.object[box].astype(np.complex64),
        "truth": truth[box].astype(np.complex64),
        "photons": (scale * noise.light[box]).astype(np.float32),
        "share": noise.sharing[box].astype(np.float32),
        "dose": np.array(data.photons()),
        "iterations": np.array(found.iterations),
    }


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--first", type=int, default=0, help="seed of the first scan")
    parser.add_argument("--every", type=int, default=1, help="makes every so many of them")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    for seed in range(args.first, args.count, args.every):
        file = args.output / f"{seed:06d}.npz"
        if file.exists():
            continue
        made = example(seed)
        with atomic_path(file) as temporary, temporary.open("wb") as stream:
            write_arrays(stream, made)
        truth, weight = made["truth"], made["photons"]
        error = made["found"] * np.exp(-1j * np.angle(np.vdot(truth * weight, made["found"]))) - truth
        nrmse = math.sqrt(np.sum(weight * abs(error) ** 2) / np.sum(weight * abs(truth) ** 2))
        print(f"{seed}: dose {made['dose']:.3g}, {made['iterations']} iterations, error {nrmse:.3f}", flush=True)
    print(f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
