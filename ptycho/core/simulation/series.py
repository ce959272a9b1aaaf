"""Many simulated scans at once: several probes, several objects for each, one scan file per pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.atomic import output_folder
from ptycho.core.physics.probes import zone_plate_probe
from ptycho.core.simulation.exposure import expose_to_file
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.errors import ConfigError

__all__ = ["simulate_experiments", "synthetic_probes"]

Complex = NDArray[np.complexfloating[Any, Any]]

_DEFOCUS = (1.5, 3.5)
_ABERRATIONS = (5, 6, 7, 8, 11)
"""Astigmatism, coma and spherical aberration by Noll's index."""
_ABERRATION_RADIANS = 0.3


def simulate_experiments(
    folder: Path | str,
    settings: ScanSettings,
    probes: Sequence[Complex],
    objects_per_probe: int = 1,
    truth: bool = True,
) -> list[Path]:
    """Simulate `len(probes) * objects_per_probe` scans and write them to `probe{p}_object{o}.npz`.

    Every scan has an object, positions and photons of its own, drawn from a seed made of `settings.seed`, p and o:
    more probes or objects leave the others as they are. Frames go straight to disk, so that memory does not grow
    with the scan.

    Args:
        folder: where the files go; it is made when it is not there.
        settings: what all scans have in common; its probe is not used.
        probes: (N, N) or (M, N, N) each.
        objects_per_probe: scans per probe.
        truth: whether the objects go into the files.

    Returns:
        The files, probe by probe.

    Raises:
        ConfigError: no probe, no object, or settings that cannot be.
        OutputError: a place that cannot be written.
    """
    if len(probes) == 0 or objects_per_probe < 1:
        found = f"{len(probes)} and {objects_per_probe}"
        raise ConfigError(f"experiments: expected one probe and one object or more, found {found}; ask for some")
    place, written = output_folder(Path(folder)), []
    for p, probe in enumerate(probes):
        for o in range(objects_per_probe):
            seed = int(np.random.SeedSequence([settings.seed, p, o]).generate_state(1, np.uint64)[0])
            own = dataclasses.replace(settings, seed=seed, N=probe.shape[-1])
            plan, rng = plan_scan(own, probe=probe)
            described = {"simulation": {**dataclasses.asdict(own), "probe": f"number {p}"}}
            path = place / f"probe{p}_object{o}.npz"
            written.append(expose_to_file(plan, rng, path, described, truth))
    return written


def synthetic_probes(N: int, count: int, rng: np.random.Generator) -> NDArray[np.complex64]:
    """Zone plate probes that differ: defocus from 1.5 to 3.5, and astigmatism, coma and spherical aberration.

    The coefficient of each aberration is Gaussian with a standard deviation of 0.3 radians.

    Args:
        N: side in pixels.
        count: how many.
        rng: source of every random number.

    Returns:
        complex64 (count, N, N), each with the energy (N/2)^2.

    Raises:
        ConfigError: a count below 1.
    """
    if count < 1:
        raise ConfigError(f"probes: expected 1 or more, found {count}; ask for some")
    probes = []
    for _ in range(count):
        defocus = rng.uniform(*_DEFOCUS)
        coefficients = _ABERRATION_RADIANS * rng.standard_normal(len(_ABERRATIONS))
        aberrations = dict(zip(_ABERRATIONS, coefficients, strict=True))
        probes.append(zone_plate_probe(N, defocus=defocus, aberrations=aberrations))
    return np.stack(probes)
