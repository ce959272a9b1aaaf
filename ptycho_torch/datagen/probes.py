"""Probes for training sets: from files, or synthetic."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptycho.core.simulation.series import synthetic_probes
from ptycho.core.simulation.truth_files import read_probe
from ptycho.errors import ConfigError

__all__ = ["load_probes", "simulate_synthetic_probes"]


def simulate_synthetic_probes(N: int, count: int, rng: np.random.Generator) -> NDArray[np.complex64]:
    """Zone plate probes of random defocus and aberrations (`ptycho.core.simulation.series.synthetic_probes`)."""
    return synthetic_probes(N, count, rng)


def load_probes(paths: Iterable[Path | str], N: int | None = None) -> list[NDArray[np.complex64]]:
    """Read one probe from each file (NPY, NPZ, HDF5), all of one side; (N, N) or (M, N, N) each.

    Raises:
        ConfigError: no path.
        MissingFileError, DataError: as `ptycho.core.simulation.truth_files.read_probe`.
    """
    probes: list[NDArray[np.complex64]] = []
    for path in paths:
        probes.append(read_probe(path, N if not probes else probes[0].shape[-1]))
    if not probes:
        raise ConfigError("probe_paths: expected one file or more, found none; name files with probes")
    return probes
