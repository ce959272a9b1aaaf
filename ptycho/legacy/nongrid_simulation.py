"""A simulated scan in memory, at given or random positions: `ptycho.nongrid_simulation`, thin over `ptycho.core`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import TrainingConfig
from ptycho.core.scaling import Units
from ptycho.core.simulation.truth_files import read_object, read_probe
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData

__all__ = ["from_simulation", "generate_simulated_data", "load_probe_object", "simulate_from_npz"]

Complex = NDArray[np.complexfloating[Any, Any]]

_PATTERNS = 512
"""Patterns where nobody says how many."""


def load_probe_object(path: Path | str) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Object (H, W) and probe (N, N) or (M, N, N) of a file, for example of a scan file with `objectGuess`.

    Raises:
        MissingFileError, DataError: as `ptycho.core.simulation.truth_files`.
    """
    return read_object(path), read_probe(path)


def from_simulation(
    xcoords: NDArray[np.float64],
    ycoords: NDArray[np.float64],
    probeGuess: Complex,
    objectGuess: Complex,
    nphotons: float,
    rng: np.random.Generator,
    units: Units = "amplitude",
    mask: NDArray[np.bool_] | None = None,
) -> RawData:
    """Record a scan of a given object with a given probe: `RawData.from_simulation`, whose arguments these are."""
    return RawData.from_simulation(
        xcoords, ycoords, probeGuess, objectGuess, nphotons=nphotons, rng=rng, units=units, mask=mask
    )


def generate_simulated_data(
    config: TrainingConfig,
    objectGuess: Complex,
    probeGuess: Complex,
    buffer: float | None = None,
    random_seed: int | None = None,
) -> RawData:
    """Record an object at evenly distributed random positions.

    Args:
        config: `n_groups` is the number of patterns (512 when None), `nphotons` the mean photons of each.
        objectGuess: (H, W) transmission.
        probeGuess: (N, N) or (M, N, N).
        buffer: least distance of a position from the object's edges, pixels; None is N/2, whole patches.
        random_seed: of positions and photons; None draws other ones each time.

    Returns:
        The scan, amplitude in the square root of photons, the probe scaled to the dose.

    Raises:
        ConfigError: a buffer that leaves no room.
        DataError: as `ptycho.core.simulation.exposure.expose`.
    """
    margin = probeGuess.shape[-1] / 2 if buffer is None else float(buffer)
    height, width = objectGuess.shape
    if not 0 <= margin <= min(height, width) / 2:
        raise ConfigError(
            f"buffer: expected 0 to half of the object's shorter side, {min(height, width) / 2:g} pixels, "
            f"found {margin:g}; make it smaller or the object larger"
        )
    rng = np.random.default_rng(random_seed)
    n = config.n_groups or _PATTERNS
    xcoords, ycoords = rng.uniform(margin, width - margin, n), rng.uniform(margin, height - margin, n)
    return from_simulation(xcoords, ycoords, probeGuess, objectGuess, config.nphotons, rng)


def simulate_from_npz(
    path: Path | str, config: TrainingConfig, buffer: float | None = None, random_seed: int | None = None
) -> RawData:
    """Record the object of a file with the probe of the same file; arguments as in `generate_simulated_data`."""
    return generate_simulated_data(config, *load_probe_object(path), buffer=buffer, random_seed=random_seed)
