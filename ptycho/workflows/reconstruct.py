"""The order of the stages, the same for both backends; a backend brings its model, its fit and its prediction."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ptycho import params
from ptycho.config.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.groups.container import GroupContainer
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.probes import probe_overlap
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.run import Refinement
from ptycho.core.stitching.options import NEUTRAL_STITCHING, StitchOptions, lay_out, result_frames
from ptycho.core.training.scales import InputScaling
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.experiments import Scans
from ptycho.workflows.stitch_scan import stitch_scan
from ptycho.workflows.training_data import TrainingSet, group_scan, prepared_scan
from ptycho.workflows.trust import judge, noise_error

if TYPE_CHECKING:
    from ptycho.workflows.diagnostics import Diagnostics

__all__ = [
    "Backend",
    "Refine",
    "ScanModel",
    "add_reconstructions",
    "inference_settings",
    "model_path",
    "reconstruct",
    "training_results",
]

logger = logging.getLogger(__name__)

ENERGY_WARNING = 2.0
PROBE_WARNING = 0.9

Backend = Literal["pytorch", "tensorflow"]
Container = TypeVar("Container", bound=GroupContainer)


class ScanProbe(Protocol):
    """The probe of a model."""

    def file_units(self, masked: bool = True) -> NDArray[np.complex64]:
        """Modes (M, N, N) in the unit of the file's amplitudes."""

    def take_energy_of(self, probe: NDArray[Any]) -> None:
        """Express results in the unit of another file's probe."""


class ScanModel(Protocol):
    """What the stages need of a model of either backend."""

    config: ModelConfig
    input_scale: float
    scaling: InputScaling
    subpixel: Literal["bilinear", "fourier"]

    @property
    def probe(self) -> ScanProbe:
        """The probe in use."""

    @property
    def intensity_scale(self) -> float:
        """s; `s X_norm` is in photon units."""


Refine = Callable[..., Refinement]
"""The backend's `refine(scan, start, iterations, *, probe, frame, report)`, with its further keywords bound."""


def model_path(config: InferenceConfig) -> Path:
    """The model that a configuration names; ConfigError where it names none."""
    if config.model_path is None or config.model_path == Path():
        raise ConfigError("model_path is missing: name the folder or the zip of the trained model (wts.h5.zip)")
    return Path(config.model_path)


def inference_settings(config: TrainingConfig) -> InferenceConfig:
    """How to reconstruct right after training: the model and the neighbours of the training, every scan point.

    Raises:
        ConfigError: the training has no positions to stitch by.
    """
    if not config.positions_provided:
        raise ConfigError("positions_provided=False: stitching needs the scan positions; train without do_stitching")
    return InferenceConfig(
        model=ModelConfig(**vars(config.model)),
        neighbor_count=config.neighbor_count,
        subsample_seed=config.subsample_seed,
        backend=config.backend,
        use_xla=config.use_xla,
    )


def training_results(
    backend: Backend,
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
    results: dict[str, Any],
    scans: Scans,
    reconstruct_one: Callable[..., Reconstruction],
    diagnostics: Diagnostics | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, Any]]:
    """Reconstruct the scan of every experiment with its model: (amplitude, phase, results with the reconstructions).

    Of several experiments amplitude and phase, and the plain names, are those of the first; `diagnostics` is told of
    that one. `reconstruct_one(model, scan, diagnostics=)` is the backend's.
    """
    each = [scans] if isinstance(scans, RawData) else scans
    told = [diagnostics, *[None] * (len(each) - 1)]
    made = [
        reconstruct_one(model, scan, diagnostics=one)
        for model, scan, one in zip(results["models"], each, told, strict=True)
    ]
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


def reconstruct(
    model: ScanModel,
    data: RawData,
    config: InferenceConfig,
    *,
    backend: Backend,
    container: type[Container],
    predict: Callable[[Container], NDArray[np.complex64]],
    refine: Refine | None = None,
    refine_iterations: int = 0,
    refinement: Mapping[str, Any] | None = None,
    stitching: StitchOptions = NEUTRAL_STITCHING,
    diagnostics: Diagnostics | None = None,
) -> Reconstruction:
    """Reconstruct a scan: one pass of the network, stitching and, when asked for, refinement.

    Args:
        model: a trained model; its probe takes the energy of the scan's.
        data: the scan.
        config: groups and neighbours; the model's own settings come with `model`.
        backend: named in the result.
        container: the backend's kind of container.
        predict: object patches of every member of every group, `(B, C, N, N)` in the file's units, at whole pixels
            where the model's sub-pixel rule is `fourier`.
        refine: the backend's refinement; needed where `refine_iterations` is not 0.
        refine_iterations: 0 is no refinement.
        refinement: further keywords of `refine`; without `noise` it stops where the photon noise of the scan is all
            that is left, so far as the dose is known.
        stitching: weights of the patches, the part of each that is stitched, and what of the canvas is shown.
        diagnostics: told of the patches and of what stitching makes of them; None: nobody is.
    """
    settings = replace(config, model=model.config)
    data = prepared_scan(data, settings, model.scaling.straight_probe)
    _compare_with_training(model, data)
    model.probe.take_energy_of(np.asarray(data.probeGuess))
    params.cfg["input_scale"] = model.input_scale
    grouped = group_scan(data, settings, settings.n_groups or len(data), sequential=True)
    timings: dict[str, float] = {}
    begun = time.perf_counter()
    on_grid = model.subpixel == "fourier"
    groups = container(grouped, data.probeGuess, data.mask, params.cfg.get("intensity_scale"), on_grid=on_grid)
    patches = predict(groups)
    timings["inference"] = time.perf_counter() - begun
    count = patches.shape[0] * patches.shape[1]
    rate = count / timings["inference"]
    logger.info("inference: %d patches in %.1f s (%.0f patches/s)", count, timings["inference"], rate)
    if diagnostics is not None:
        diagnostics.predicted(patches)
    begun = time.perf_counter()
    work = object_frame(data.xcoords, data.ycoords, data.N)
    probe = model.probe.file_units()
    positions = groups.pixel_positions if on_grid else grouped["coords_nn"]
    found = stitch_scan(patches, positions, data, probe, work, stitching)
    stitched, coverage, spread = found.object, found.coverage, found.spread
    timings["stitching"] = time.perf_counter() - begun
    logger.info(
        "stitching: %.1f s, agreement of overlaps %.3f, with synchronised phases %.3f: %s",
        timings["stitching"],
        *found.agreement,
        "synchronised" if found.synchronised else "left as predicted",
    )
    if diagnostics is not None:
        diagnostics.stitched(patches, positions, found, work)
    x, y = work.local(data.xcoords, data.ycoords)
    nominal = (model.intensity_scale * model.scaling.level * data.N / 2) ** 2
    refined: NDArray[np.complex64] | None = None
    history: tuple[float, ...] = ()
    if refine is not None and refine_iterations:
        vacuum = np.abs(stitched).mean(where=coverage > 0)
        start = np.where(coverage > 0, stitched, vacuum)
        options = dict(refinement or {})
        if "noise" not in options:
            likelihood = options.get("likelihood", "amplitude")
            options["noise"] = noise_error(judge(start, probe, x, y, data, nominal), likelihood)
        better = _refined(partial(refine, **options), data, start, probe, work, refine_iterations)
        probe, history = better.probe, better.error_history[: better.kept + 1]
        x, y = better.xcoords, better.ycoords
        refined = np.where(coverage > 0, better.object, np.complex64(1))
        timings["refinement"] = better.seconds
    begun = time.perf_counter()
    final = stitched if refined is None else refined
    trust = judge(final, probe, x, y, data, nominal)
    timings["trust"] = time.perf_counter() - begun
    shown, frame = result_frames(data.xcoords, data.ycoords, data.N, stitching)
    if data.objectGuess is not None:
        height, width = data.objectGuess.shape[-2:]
        frame = ObjectFrame(height, width, 0, 0)
    stitched, coverage, spread = (
        lay_out(image, work, shown, frame, fill) for image, fill in ((stitched, 1), (coverage, 0), (spread, np.nan))
    )
    refined = None if refined is None else lay_out(refined, work, shown, frame, 1)
    x, y = frame.local(x + work.x0, y + work.y0)
    return Reconstruction(
        object=stitched if refined is None else refined,
        coverage=coverage,
        probe=probe,
        xcoords=x,
        ycoords=y,
        frame=frame,
        backend=backend,
        method="network" if refined is None else "network+refined",
        subpixel=model.subpixel if refined is None else "fourier",
        network_object=None if refined is None else stitched,
        error_history=history,
        timings=timings,
        synchronised=found.synchronised,
        agreement=found.agreement,
        spread=spread,
        trust=trust,
    )


def _refined(
    refine: Refine,
    data: RawData,
    start: NDArray[np.complex64],
    probe: NDArray[np.complex64],
    frame: ObjectFrame,
    iterations: int,
) -> Refinement:
    """Refine on the whole scan, with a line of progress every tenth of the way and one that says why it ended."""

    def report(iteration: int, error: float) -> None:
        if iteration % max(1, iterations // 10) == 0 or iteration == iterations:
            logger.info("refinement %d/%d: relative Fourier error %.3g", iteration, iterations, error)

    found = refine(data, start, iterations, probe=probe, frame=frame, report=report)
    logger.info("refinement: %.1f s, %s", found.seconds, found.stopped)
    return found


def _compare_with_training(model: ScanModel, data: RawData) -> None:
    """Warn where the scan is far from what the network was trained on."""
    energy = data.mean_energy * model.input_scale**2 / (model.scaling.level * data.N / 2) ** 2
    if not 1 / ENERGY_WARNING < energy < ENERGY_WARNING:
        logger.warning(
            "the patterns hold %.2g times the energy of those the network was trained on: expect a poor object; "
            "train on this scan, or refine",
            energy,
        )
    ours, theirs = model.probe.file_units(masked=False), as_modes(np.asarray(data.probeGuess))
    if ours.shape != theirs.shape:
        logger.warning(
            "the network was trained with %d probe modes, the scan has %d: the network's are used",
            len(ours),
            len(theirs),
        )
    overlap = probe_overlap(ours, theirs)
    if overlap < PROBE_WARNING:
        logger.warning(
            "the scan's probe overlaps with that of the network by %.2f only: expect a poor object, unless the "
            "training refined the probe of this set-up (--refine_probe)",
            overlap,
        )
