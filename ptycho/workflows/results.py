"""What a run returns: the dictionary of a training, and the reconstructions in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import TrainingConfig
from ptycho.config.options import StitchOptions
from ptycho.core.geometry import ObjectFrame
from ptycho.core.quality.trust import Trust
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.stitching.options import lay_out, result_frames
from ptycho.raw_data import RawData
from ptycho.workflows.backend import BackendName
from ptycho.workflows.experiments import Scans
from ptycho.workflows.networks.stitch_scan import StitchedObject
from ptycho.workflows.networks.training_data import TrainingSet

__all__ = ["Estimate", "RunResults", "add_reconstructions", "finished_reconstruction", "training_results"]

RunResults = tuple[NDArray[np.float32] | None, NDArray[np.float32] | None, dict[str, Any]]
"""Amplitude and phase (H, W) of the object, None twice where it was not stitched, and everything by name."""


def training_results(
    backend: BackendName,
    models: Sequence[Any],
    sets: Sequence[TrainingSet[Any]],
    history: dict[str, list[float]],
    seconds: float,
    config: TrainingConfig,
) -> dict[str, Any]:
    """What a training returns; of several experiments the plain names are those of the first."""
    return {
        "backend": backend,
        "model": models[0],
        "models": tuple(models),
        "history": history,
        "train_container": sets[0].train,
        "train_containers": tuple(found.train for found in sets),
        "test_container": sets[0].test,
        "test_containers": tuple(found.test for found in sets),
        "train_seconds": seconds,
        "config": config,
    }


def add_reconstructions(
    results: dict[str, Any], scans: Scans, reconstruct_one: Callable[[int, Any, RawData], Reconstruction]
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, Any]]:
    """Reconstruct the scan of every experiment with its model: (amplitude, phase, results with the reconstructions).

    Of several experiments amplitude and phase, and the plain names, are those of the first.
    `reconstruct_one(number, model, scan)` is called for each, counted from 0.
    """
    each = [scans] if isinstance(scans, RawData) else scans
    pairs = zip(results["models"], each, strict=True)
    made = [reconstruct_one(number, model, scan) for number, (model, scan) in enumerate(pairs)]
    found = made[0]
    amplitude, phase = np.abs(found.object), np.angle(found.object)
    results.update(
        reconstruction=found,
        reconstructions=tuple(made),
        obj_tensor_full=found.object,
        global_offsets=results["train_container"].global_offsets,
        recon_amp=amplitude,
        recon_phase=phase,
    )
    return amplitude, phase, results


@dataclass(frozen=True)
class Estimate:
    """An object and what belongs to it, on the canvas that the workflow works on."""

    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    xcoords: NDArray[np.float64]
    ycoords: NDArray[np.float64]
    error_history: tuple[float, ...] = ()
    """Of the refinement; empty without one."""
    counts_from: int | None = None
    """As in the result."""
    refined: bool = False


def finished_reconstruction(
    scan: RawData,
    work: ObjectFrame,
    found: StitchedObject,
    final: Estimate,
    stitching: StitchOptions,
    *,
    backend: BackendName,
    subpixel: Literal["bilinear", "fourier"],
    timings: dict[str, float],
    trust: Trust,
    metadata: dict[str, Any],
    provenance: dict[str, Any],
) -> Reconstruction:
    """The result in the frame that a caller sees: that of the scan's `objectGuess`, else the part that is shown.

    Args:
        scan: what was reconstructed.
        work: where `found` and `final` lie on the object's grid.
        found: what stitching made.
        final: the same, or what refinement made of it.
        stitching: what of the canvas is shown.
        backend, timings, trust, metadata, provenance: as in the result.
        subpixel: the rule of the model; refinement moves the probe by Fourier ramps.
    """
    shown, frame = result_frames(scan.xcoords, scan.ycoords, scan.N, stitching)
    if scan.objectGuess is not None:
        height, width = scan.objectGuess.shape[-2:]
        frame = ObjectFrame(height, width, 0, 0)

    def laid_out(image: NDArray[Any], fill: complex) -> NDArray[Any]:
        return lay_out(image, work, shown, frame, fill)

    x, y = frame.local(final.xcoords + work.x0, final.ycoords + work.y0)
    return Reconstruction(
        object=laid_out(final.object, 1),
        coverage=laid_out(found.coverage, 0),
        probe=final.probe,
        xcoords=x,
        ycoords=y,
        frame=frame,
        backend=backend,
        method="network+refined" if final.refined else "network",
        subpixel="fourier" if final.refined else subpixel,
        network_object=laid_out(found.object, 1) if final.refined else None,
        error_history=final.error_history,
        counts_from=final.counts_from,
        timings=timings,
        synchronised=found.synchronised,
        agreement=found.agreement,
        spread=None if found.spread is None else laid_out(found.spread, np.nan),
        trust=trust,
        metadata=metadata,
        provenance=provenance,
        flux=scan.flux,
        background=scan.background,
        blur=scan.blur,
    )
