"""Whole experiments: many scan files from a `DatagenConfig`; `from_simulation` records one scan in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.probes import zone_plate_probe
from ptycho.core.simulation.plan import ScanSettings
from ptycho.core.simulation.series import simulate_experiments
from ptycho.nongrid_simulation import from_simulation
from ptycho_torch.datagen.probes import load_probes

if TYPE_CHECKING:
    from ptycho_torch.config_params import DatagenConfig

__all__ = ["from_simulation", "simulate_multiple_experiments"]

Complex = NDArray[np.complexfloating[Any, Any]]


def simulate_multiple_experiments(
    output_dir: Path | str,
    config: DatagenConfig,
    nphotons: float,
    N: int = 64,
    seed: int = 0,
    probes: Sequence[Complex] | None = None,
    **settings: Any,
) -> list[Path]:
    """Write `objects_per_probe` scans for every probe, each of `diff_per_object` patterns at random positions.

    Args:
        output_dir: where the scan files go.
        config: object_class, image_size, objects_per_probe, diff_per_object, probe_paths, beamstop_diameter.
        nphotons: mean number of photons per pattern.
        N: side of a pattern, pixels, where no probe says it.
        seed: of everything that is random.
        probes: the probes; None takes those of `config.probe_paths`, or where there are none one zone plate.
        settings: further fields of `ptycho.core.simulation.plan.ScanSettings`, for example `units='counts'`.

    Returns:
        The files, `probe{p}_object{o}.npz`.

    Raises:
        ConfigError, MissingFileError, DataError, OutputError: one line with what to do.
    """
    if probes is None:
        probes = load_probes(config.probe_paths) if config.probe_paths else [zone_plate_probe(N)]
    height, width = config.image_size
    common = {
        "kind": config.object_class,
        "shape": (height, width),
        "path": "random",
        "count": config.diff_per_object,
        "jitter": 0.0,
        "photons": nphotons,
        "beam_stop": float(config.beamstop_diameter or 0),
        "seed": seed,
    }
    return simulate_experiments(output_dir, ScanSettings(**{**common, **settings}), probes, config.objects_per_probe)
