"""The order of a reconstruction, the same for both backends: one pass of the network, refinement, trust."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import (
    InferenceConfig,
    ModelConfig,
    TrainingConfig,
    validate_inference_config,
    validate_training_config,
)
from ptycho.config.files import config_to_dict
from ptycho.core.archive import ARCHIVE_NAME, ModelArchive, load_archive
from ptycho.core.geometry import ObjectFrame, object_frame, reframe
from ptycho.core.groups.grouped_data import GroupedData
from ptycho.core.memory import check_room
from ptycho.core.progress import IterationReport, log_progress
from ptycho.core.provenance import file_sha256, provenance, with_geometry_of
from ptycho.core.quality.diffraction_error import least_squares_scale
from ptycho.core.quality.trust import Trust
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.state_file import StateFile
from ptycho.networks.universal import training_ranges
from ptycho.raw_data import RawData
from ptycho.workflows.backend import Backend, ScanModel
from ptycho.workflows.diagnostics import with_diagnostics
from ptycho.workflows.iteration.find_probe import find_probe
from ptycho.workflows.networks.canvas_pass import canvas_pass
from ptycho.workflows.networks.model_scan import scan_for
from ptycho.workflows.networks.stitch_scan import StitchedObject, stitch_scan
from ptycho.workflows.networks.stored_model import beyond_training, is_universal, model_path
from ptycho.workflows.networks.training_data import group_scan
from ptycho.workflows.results import Estimate, finished_reconstruction
from ptycho.workflows.run_options import NEUTRAL_RUN, RunOptions
from ptycho.workflows.sharing.shared_pass import SharedPass
from ptycho.workflows.sharing.team import SINGLE, Team
from ptycho.workflows.solver import Solver
from ptycho.workflows.trust import noise_error, scan_trust
from ptycho.workflows.unfinished import Unfinished
from ptycho.workflows.validation.final_trust import passed_or_refined
from ptycho.workflows.validation.pass_uncertainty import check_pass_uncertainty, measure_pass_uncertainty

__all__ = [
    "archived_source",
    "beyond_coverage",
    "inference_settings",
    "load_and_reconstruct",
    "predicted_patches",
    "reconstruct",
    "trained_source",
]

logger = logging.getLogger(__name__)


def inference_settings(config: TrainingConfig) -> InferenceConfig:
    """How to reconstruct right after training: the model and the neighbours of the training, every scan point.

    Raises:
        ConfigError: settings that cannot work, among them a training without positions to stitch by.
    """
    validate_training_config(config, stitching=True)
    return InferenceConfig(
        model=ModelConfig(**vars(config.model)),
        neighbor_count=config.neighbor_count,
        subsample_seed=config.subsample_seed,
        backend=config.backend,
        use_xla=config.use_xla,
        stitching=config.stitching,
    )


def load_and_reconstruct(
    backend: Backend, data: RawData, config: InferenceConfig, run: RunOptions = NEUTRAL_RUN
) -> Reconstruction:
    """Load the model of `config.model_path` and reconstruct a scan with it, as `reconstruct`."""
    validate_inference_config(config)
    path, run = model_path(config), with_diagnostics(backend.settled(run), config)
    if not data.has_probe and is_universal(load_archive(path)):
        probe = find_probe(data, partial(backend.refine, config=config, run=run))
        logger.info("%s", probe.sentence)
        data = data.with_probe(probe.probe)
    model, archive = backend.load(path, config.experiment_number, data, run)
    logger.info("Loaded intensity_scale from bundle: %f", model.intensity_scale)
    return reconstruct(backend, model, data, config, run, archived_source(path, archive))


def reconstruct(
    backend: Backend,
    model: ScanModel,
    data: RawData,
    config: InferenceConfig,
    run: RunOptions = NEUTRAL_RUN,
    source: Mapping[str, Any] | None = None,
) -> Reconstruction:
    """Reconstruct a scan: one pass of the network, stitching and, when asked for, refinement.

    The object is in the units of `data`: times its probe it predicts its amplitudes. It lies on the grid of the scan's
    `objectGuess` where there is one, else on the smallest canvas that holds every patch.

    Args:
        backend: whose model it is.
        model: a trained model; its probe takes the energy of the scan's.
        data: the scan.
        config: groups and neighbours; the model's own settings come with `model`.
        run: refinement, stitching and diagnostics.
        source: the model in the provenance of the result (`archived_source`, `trained_source`), where that is known.

    Raises:
        ConfigError, DataError: settings that cannot work, or a scan that does not fit the model.
    """
    run = backend.settled(run)
    if run.uncertainty:
        check_pass_uncertainty(data, run)
    with backend.team(run) as team:
        return _reconstructed(backend, model, data, config, run, source, team)


def _reconstructed(
    backend: Backend,
    model: ScanModel,
    data: RawData,
    config: InferenceConfig,
    run: RunOptions,
    source: Mapping[str, Any] | None,
    team: Team,
) -> Reconstruction:
    """What the first of a team does, with the others."""
    scan, settings = scan_for(model, data, config)
    job = _Job(backend, model, scan, settings, run, team)
    check_room(job.frame)
    found, reached = job.seen_by_network()
    if settings.fit_scale:
        found = job.scaled(found, reached)
    final = job.refined(found) if run.refine_iterations else job.estimate(found)
    made = finished_reconstruction(
        job.scan,
        job.frame,
        found,
        final,
        settings.stitching,
        backend=backend.name,
        subpixel=model.subpixel,
        timings=job.timings,
        trust=job.trust(final, None if final.refined else reached),
        metadata=with_geometry_of(job.scan.known_metadata, model.scan.get("metadata", {})),
        provenance=job.provenance(
            {"file": None, "sha256": None, "versions": {}, "training": {}} if source is None else source
        ),
    )
    made = passed_or_refined(made, job.scan, Solver.of(backend, settings, run), job.beyond)
    return job.with_uncertainty(made) if run.uncertainty else made


def trained_source(config: TrainingConfig) -> dict[str, Any]:
    """A model that was trained just now in a provenance block."""
    return {"file": None, "sha256": None, "versions": {}, "training": config_to_dict(config)}


def archived_source(path: Path, archive: ModelArchive) -> dict[str, Any]:
    """A model archive in a provenance block: its file, versions and the settings of its training."""
    file = path / ARCHIVE_NAME if path.is_dir() else path
    known = {"file": file.name, "sha256": file_sha256(file), "versions": archive.versions}
    return {**known, "training": archive.configs.get("training", {})}


@dataclass(frozen=True)
class _Job:
    """One reconstruction under way."""

    backend: Backend
    model: ScanModel
    scan: RawData
    config: InferenceConfig
    run: RunOptions
    team: Team
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds of each step so far."""

    @cached_property
    def frame(self) -> ObjectFrame:
        """The canvas that every step works on."""
        return object_frame(self.scan.xcoords, self.scan.ycoords, self.scan.N)

    @cached_property
    def beyond(self) -> str:
        """What of the scan is unlike all that a network of many experiments was trained on; told once."""
        ranges = training_ranges(self.model.scan)
        found = beyond_training(ranges, self.scan) if ranges else ""
        if found:
            logger.warning("the scan is beyond what the network was trained on: %s", found)
        return found

    @cached_property
    def solver(self) -> Solver:
        """That of the team."""
        return Solver.of(self.backend, self.config, self.run, self.team)

    @cached_property
    def probe(self) -> NDArray[np.complex64]:
        """The probe of the network, in the unit of the scan's amplitudes."""
        return self.model.probe.file_units()

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note how long a step takes."""
        begun = time.perf_counter()
        yield
        self.timings[step] = time.perf_counter() - begun

    def seen_by_network(self) -> tuple[StitchedObject, NDArray[np.bool_]]:
        """The object of one pass, and (n,) which patterns it was made from: on one canvas, else in groups."""
        with self.timed("inference"):
            found = canvas_pass(self.backend, self.model, self.scan, self.frame, self.config, self.run, self.team)
        if found is None:
            patches, positions, reached = self.predicted()
            return self.stitched(patches, positions), reached
        count, seconds = len(self.scan), self.timings["inference"]
        logger.info("inference: %d patches on one canvas in %.1f s (%.0f patches/s)", count, seconds, count / seconds)
        return found, np.ones(count, bool)

    def predicted(self) -> tuple[NDArray[np.complex64], NDArray[np.floating[Any]], NDArray[np.bool_]]:
        """Patches (B, C, N, N) of every group, their centres (B, 1, 2, C) on the object's grid, (n,) who is in one."""
        model, number = self.model, self.config.n_groups or len(self.scan)
        grouped = group_scan(self.scan, self.config, number, sequential=True, input_scale=model.input_scale)
        with self.timed("inference"):
            patches, positions = predicted_patches(
                self.backend, model, self.scan, grouped, self.config, self.run, self.team
            )
        count, seconds = patches.shape[0] * patches.shape[1], self.timings["inference"]
        logger.info("inference: %d patches in %.1f s (%.0f patches/s)", count, seconds, count / seconds)
        if self.run.diagnostics is not None:
            self.run.diagnostics.predicted(patches)
        reached = np.zeros(len(self.scan), bool)
        reached[np.ravel(grouped["nn_indices"])] = True
        return patches, positions, reached

    def stitched(self, patches: NDArray[np.complex64], positions: NDArray[np.floating[Any]]) -> StitchedObject:
        """The object that the patches make together."""
        with self.timed("stitching"):
            sums = self.backend.canvas_sums(self.run)
            found = stitch_scan(patches, positions, self.scan, self.probe, self.frame, self.config.stitching, sums=sums)
        logger.info(
            "stitching: %.1f s, agreement of overlaps %.3f, with synchronised phases %.3f: %s",
            self.timings["stitching"],
            *found.agreement,
            "synchronised" if found.synchronised else "left as predicted",
        )
        if self.run.diagnostics is not None:
            self.run.diagnostics.stitched(patches, positions, found, self.frame)
        return found

    def scaled(self, found: StitchedObject, reached: NDArray[np.bool_]) -> StitchedObject:
        """The object at the scale that explains the measured intensities of the patterns it was made from best."""
        positions, chosen = self.frame.local(self.scan.xcoords, self.scan.ycoords), np.flatnonzero(reached)
        factor = least_squares_scale(
            found.object,
            self.probe,
            positions,
            self.scan.amplitude,
            self.scan.mask,
            chosen,
            self.scan.recording,
        )
        logger.info("scale of the object, least squares on the measured intensities: times %.4g", factor)
        image = np.where(found.coverage > 0, np.complex64(factor) * found.object, found.object)
        spread = None if found.spread is None else np.float32(factor) * found.spread
        return replace(found, object=image, spread=spread)

    def with_uncertainty(self, made: Reconstruction) -> Reconstruction:
        """A pass with its error bars."""

        def passed(scan: RawData) -> NDArray[np.complex64]:
            logger.info("uncertainty: a pass of %d patterns that were drawn anew", len(scan))
            job = replace(self, scan=scan, timings={})
            found, reached = job.seen_by_network()
            if self.config.fit_scale:
                found = job.scaled(found, reached)
            return reframe(found.object, job.frame, made.frame, 1)

        watch = self.run.watch or log_progress

        def refine(scan: RawData, start: Any, iterations: int, **settings: Any) -> Refinement:
            report = IterationReport(iterations, watch, "trial")
            return self.solver.refine(scan, start, iterations, report=report, **settings)

        with self.timed("uncertainty"):
            known = measure_pass_uncertainty(made, self.scan, refine, passed, self.config.subsample_seed or 0)
        logger.info("uncertainty by %s, in %.3g s", known.method, self.timings["uncertainty"])
        return replace(made, uncertainty=known, timings=made.timings | self.timings)

    def estimate(self, found: StitchedObject) -> Estimate:
        """What the network alone says."""
        x, y = self.frame.local(self.scan.xcoords, self.scan.ycoords)
        return Estimate(found.object, self.probe, x, y)

    def refined(self, found: StitchedObject) -> Estimate:
        """What refinement makes of it; outside of what the patches cover it starts at their mean amplitude."""
        covered = found.coverage > 0
        begin = replace(self.estimate(found), object=beyond_coverage(found.object, covered))
        settings = dict(self.run.refinement or {})
        if "noise" not in settings:
            settings["noise"] = noise_error(self._trust(begin), settings.get("likelihood", "amplitude"))
        iterations, watch = self.run.refine_iterations, self.run.watch or log_progress
        seen = None if self.run.folder is None else Unfinished(self.run.folder)
        if seen is not None:
            watch, settings["state_file"] = seen.watched(watch, self.scan), StateFile(None, "", seen=seen.see)
        with nullcontext() if seen is None else seen.kept():
            better = self.solver.refine(
                self.scan,
                begin.object,
                iterations,
                probe=begin.probe,
                frame=self.frame,
                report=IterationReport(iterations, watch),
                **settings,
            )
        logger.info("refinement: %.1f s, %s", better.seconds, better.stopped)
        self.timings["refinement"] = better.seconds
        image = np.where(covered, better.object, np.complex64(1))
        history = better.error_history[: better.kept + 1]
        return Estimate(image, better.probe, better.xcoords, better.ycoords, history, better.counts_from, refined=True)

    def provenance(self, source: Mapping[str, Any]) -> dict[str, Any]:
        """Where the result is from."""
        refinement = dict(self.run.refinement or {})
        settings = {
            "inference": config_to_dict(self.config),
            "refine_iterations": self.run.refine_iterations,
            "refinement": refinement,
            **({"uncertainty": True} if self.run.uncertainty else {}),
        }
        seeds = {"subsample_seed": self.config.subsample_seed, "refinement": refinement.get("seed", 0)}
        known = {"architecture": self.model.config.architecture, "scan": self.model.scan.get("source")}
        if self.beyond:
            known["beyond"] = self.beyond
        return provenance(
            scan=self.scan.source,
            settings=settings,
            seeds=seeds,
            model={**source, **known},
            device=self.backend.device(self.run),
        )

    def trust(self, final: Estimate, reached: NDArray[np.bool_] | None) -> Trust:
        """How far the result explains the patterns that it was made from."""
        with self.timed("trust"):
            return self._trust(final, reached)

    def _trust(self, made: Estimate, reached: NDArray[np.bool_] | None = None) -> Trust:
        nominal = (self.model.intensity_scale * self.model.scaling.level * self.scan.N / 2) ** 2
        where, known = (made.xcoords, made.ycoords), self.scan.recording
        return scan_trust(made.object, made.probe, *where, self.scan, nominal, self.solver.trust, reached, known)


def predicted_patches(
    backend: Backend,
    model: ScanModel,
    scan: RawData,
    grouped: GroupedData,
    config: InferenceConfig,
    run: RunOptions,
    team: Team = SINGLE,
) -> tuple[NDArray[np.complex64], NDArray[np.floating[Any]]]:
    """One pass of a network over groups of a scan, which is as the model takes it (`scan_for`).

    Returns:
        Patches (B, C, N, N) of every group, and their centres (B, 1, 2, C) on the object's grid, pixels.
    """
    on_grid = model.subpixel == "fourier"
    groups = backend.container(grouped, scan.probeGuess, scan.mask, model.intensity_scale, on_grid=on_grid)
    patches = SharedPass(backend, model, config, run, team).patches(scan, grouped, groups, on_grid)
    return patches, groups.pixel_positions if on_grid else grouped["coords_nn"]


def beyond_coverage(image: NDArray[np.complex64], covered: NDArray[np.bool_]) -> NDArray[np.complex64]:
    """An object (H, W) to go on from: outside of what patches cover, their mean amplitude."""
    return np.where(covered, image, np.complex64(np.abs(image).mean(where=covered)))
