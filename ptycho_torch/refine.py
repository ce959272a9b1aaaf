"""Refinement in PyTorch; the order of things stands in `ptycho.core.refinement.run`, what is done to a batch in
`ptycho_torch.refinement_kernels`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.variable_probe import ProbeVariation
from ptycho.core.refinement.device.engine import Engine
from ptycho.core.refinement.device.kernels import ScanData
from ptycho.core.refinement.device.likelihood import Likelihood
from ptycho.core.refinement.priors.object_prior import ObjectPrior
from ptycho.core.refinement.refinement import Refinement, Start
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.state_file import StateFile
from ptycho.core.refinement.steps.background import Family
from ptycho.core.refinement.steps.gauge import Scale
from ptycho.core.refinement.steps.placement import Positions
from ptycho.core.refinement.sums.processes import ALONE, Processes
from ptycho_torch.device.cuda import smaller_where_full
from ptycho_torch.refinement_kernels import RefinementKernels

__all__ = ["ENGINE", "refine"]

Array = NDArray[Any]


def refine(
    scan: ScanData,
    start: Start | None = None,
    iterations: int = 40,
    *,
    probe: NDArray[np.complexfloating[Any, Any]] | None = None,
    frame: ObjectFrame | None = None,
    likelihood: Likelihood = "amplitude",
    refine_probe: bool = True,
    refine_positions: Positions = False,
    position_bound_px: float = 2.0,
    flux: NDArray[np.float64] | None = None,
    refine_flux: bool = False,
    fly_path: NDArray[np.float64] | None = None,
    background: NDArray[np.float64] | None = None,
    refine_background: Family | None = None,
    blur: float | None = None,
    refine_blur: bool = False,
    slices: int | None = None,
    gap: NearField | None = None,
    refine_thickness: bool = False,
    variation: ProbeVariation | None = None,
    variable_probe: int = 0,
    variable_probe_smooth: float | None = None,
    batch_size: int | None = None,
    holdout: float | NDArray[np.int64] = 0.0,
    patience: int = 5,
    tolerance: float = 1e-4,
    seed: int = 0,
    device_memory: int | None = None,
    noise: float = 0.0,
    scale: Scale = "probe",
    object_prior: ObjectPrior | None = None,
    pupil: NDArray[np.float64] | None = None,
    seconds: float | None = None,
    report: Callable[[int, float], None] | None = None,
    state_file: StateFile | None = None,
    processes: Processes = ALONE,
    strips: bool | None = None,
    device: torch.device | str = "cpu",
    deterministic: bool = False,
) -> Refinement:
    """`ptycho.core.refinement.run.refine_scan` with the engine 'pytorch', where the other arguments are described.

    Where the memory of a GPU is full meanwhile, a process that works alone begins again with half as much of it, or
    goes on from its `state_file` (`ptycho_torch.device.cuda.smaller_where_full`).

    Args:
        device: where the patterns are worked on.
        deterministic: whether a GPU adds patches as whole numbers, whose sums are the same in every order, so that the
            same run gives the same bits; a CPU adds in one order in any case.
    """
    work = partial(
        refine_scan,
        scan,
        start,
        iterations,
        engine=ENGINE,
        probe=probe,
        frame=frame,
        likelihood=likelihood,
        refine_probe=refine_probe,
        refine_positions=refine_positions,
        position_bound_px=position_bound_px,
        flux=flux,
        refine_flux=refine_flux,
        fly_path=fly_path,
        background=background,
        refine_background=refine_background,
        blur=blur,
        refine_blur=refine_blur,
        slices=slices,
        gap=gap,
        refine_thickness=refine_thickness,
        variation=variation,
        variable_probe=variable_probe,
        variable_probe_smooth=variable_probe_smooth,
        batch_size=batch_size,
        holdout=holdout,
        patience=patience,
        tolerance=tolerance,
        seed=seed,
        noise=noise,
        scale=scale,
        object_prior=object_prior,
        pupil=pupil,
        seconds=seconds,
        report=report,
        state_file=state_file,
        processes=processes,
        strips=strips,
        device=device,
        deterministic=deterministic,
    )
    if torch.device(device).type != "cuda" or processes.size > 1:
        return work(device_memory=device_memory)
    return smaller_where_full(lambda memory: work(device_memory=memory), device_memory, device)


ENGINE = Engine("pytorch", RefinementKernels, ("dtype", "device", "deterministic"))
"""The entry of this engine (`ptycho.core.refinement.device.engine`)."""
