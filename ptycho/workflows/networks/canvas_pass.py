"""A pass of the `unrolled` network over a whole scan on one canvas, which is the object.

In groups every pattern is descended on once for each group that it is in, and every group learns the slow phase for
itself, which stitching then has to bring together. On the canvas of the scan all patterns pull at once:

1. the canvas begins flat, with the phase plane that the centres of the patterns tell (`stitch_scan.PatternSample`);
2. `FIRST` iterations of the refinement with the probe held, on the likelihood that the network descends on, whose floor
   (`FIELD_FLOOR`) keeps rounding from growing in the dark of a flat object's patterns;
3. the stages of the network, each with the gradient of all patterns, as in a group of all of them
   (`ptycho.networks.unrolled`): what is trained in groups of few members holds for one of any number;
4. `LAST` iterations without that floor, from the canvas with and without the stages. The one that explains the patterns
   better is the object: where they leave nothing open, corrections that were learned on few patterns can only disturb.

Weights that were trained on the truths of many simulated experiments (`ptycho.networks.universal`), or began so, come
nearer to the end, after `MORE` iterations without the floor. Where they are as they were, what they make is kept where
the patterns are explained nearly as well (`WITHIN`): an object with less noise in it explains the noise less. Training
on patterns, without truths, changes that.

Correcting works on tiles with a rim, and the stages keep little of the patterns: memory is that of some canvases, of a
tile, and of what a refinement keeps. Processes that share the pass have a compact part of the patterns each, and some
of the tiles; all have the canvas.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import InferenceConfig
from ptycho.core.geometry import ObjectFrame, reframe
from ptycho.core.physics.group_gradient import FIELD_FLOOR, ILLUMINATION_FLOOR, worked_margin
from ptycho.core.refinement.device.engine import find_engine
from ptycho.core.refinement.device.kernels import SHARP, Kernels, Point
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.sums.object_share import WholeObject
from ptycho.core.refinement.sums.parts import places
from ptycho.core.refinement.sums.passes import Passes
from ptycho.core.refinement.sums.processes import ALONE, Processes, shares
from ptycho.core.scaling import frame_blocks
from ptycho.core.stitching.overlaps import WEIGHT_FLOOR
from ptycho.networks.universal import taught, training_ranges
from ptycho.raw_data import RawData
from ptycho.workflows.backend import Backend, ScanModel, ScanNetwork
from ptycho.workflows.networks.stitch_scan import LevelledObject, PatternSample, StitchedObject
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing.team import SINGLE, Team, quiet_run, share_out

__all__ = ["FIRST", "LAST", "Canvas", "Descents", "canvas_pass", "in_tiles", "staged"]

logger = logging.getLogger(__name__)

FIRST, LAST = 16, 4
"""Iterations before and after the stages."""
MORE = 24
"""Further ones before the stages of weights that were trained on what is left then."""
WITHIN = 1.06
"""Times the error without the stages up to which those of such weights are kept. Of 24 simulated experiments that they
were not trained on 21 come that far: 16 objects are nearer to the truth then, by up to 35 %, 5 farther, up to 11 %."""
GAIN = 0.02
"""Part of the error that the stages must take away to be kept."""
TILE, RIM = 256, 48
"""Pixels along a side of what is corrected at once, and around it what the correction looks at beside."""
_KEEP = 1 << 28
"""Bytes of patterns and probes that the stages may keep; a refinement has a budget of its own."""
_BLOCK = 8
"""Canvases and tiles come in blocks of so many pixels, which a correction halves three times."""

Complex = NDArray[np.complex64]
Float = NDArray[np.floating[Any]]


def canvas_pass(
    backend: Backend,
    model: ScanModel,
    scan: RawData,
    frame: ObjectFrame,
    config: InferenceConfig,
    run: RunOptions,
    team: Team = SINGLE,
) -> StitchedObject | None:
    """The object that a network makes of a scan in one pass on its canvas; None where a pass in groups is called for.

    The log says why, where the network has this form.

    Args:
        backend: whose model it is.
        model: its probe in the unit of the scan's amplitudes.
        scan: far-field patterns; flux, background and blur are used where they are known.
        frame: where the object lies; it holds every patch.
        config, run: of the inference.
        team: that shares it.

    Returns:
        The object (H, W) in the unit of the scan, 1 where no light falls, and the light as its coverage. There are no
        patches, so no spread and nothing to synchronise.
    """
    network = backend.scan_network(model, config, run)
    if network is None or _asked_for_groups(model, scan, config, run):
        return None

    def part(rank: int) -> tuple[ScanModel, dict[str, Any]]:
        return model, scan.shared(shares(scan.xcoords, scan.ycoords, team.size)[rank])

    share_out(team, backend, _shared, part, frame, config, quiet_run(run))
    return _on_canvas(backend, model, network, scan, frame, team)


def _shared(
    team: Team,
    backend: Backend,
    part: tuple[ScanModel, dict[str, Any]],
    frame: ObjectFrame,
    config: InferenceConfig,
    run: RunOptions,
) -> None:
    """The part of another process than the first."""
    model, shared = part
    network = backend.scan_network(model, config, run)
    assert network is not None  # the first has it, too
    _on_canvas(backend, model, network, RawData.from_shared(shared), frame, team)


def _on_canvas(
    backend: Backend, model: ScanModel, network: ScanNetwork, scan: RawData, frame: ObjectFrame, team: Team
) -> StitchedObject:
    """The object, in every process of a team; each reads its own patterns alone, the first a few of all."""
    probe, floor = model.probe.file_units(), FIELD_FLOOR / network.amplitude_scale**2
    height, width = (-(-length // _BLOCK) * _BLOCK for length in frame.shape)
    work = ObjectFrame(height, width, frame.x0, frame.y0)
    with closing(network.kernels(floor)) as kernels:
        canvas = Canvas(kernels, scan, probe, work, team)
        descended = Descents(backend.name, network, scan, probe, work, team)
        begun = descended.begun(canvas)
        first, _ = descended(begun.object, FIRST, floor)
        if taught(model.scan):
            first, _ = descended(first, MORE, 0.0)
        plain, plain_error = descended(first, LAST, 0.0)
        corrected = staged(network, canvas, first, team)
    # the threads of the stages are over: with them alive those of the iterations find nothing of what these freed
    image, error = descended(corrected, LAST, 0.0)
    logger.info("relative error on one canvas %.4g, without the learned corrections %.4g", error, plain_error)
    if error > (WITHIN if training_ranges(model.scan) else 1 - GAIN) * plain_error:
        image = plain
    light = canvas.illumination / float(np.sum(np.abs(probe) ** 2, axis=0).max())
    covered = light >= WEIGHT_FLOOR
    return StitchedObject(
        object=reframe(np.where(covered, image, np.complex64(1)), work, frame, 1),
        coverage=reframe(np.where(covered, light, 0).astype(np.float32), work, frame, 0),
        spread=None,
        synchronised=False,
        agreement=(float("nan"), float("nan")),
        plane=begun.plane,
    )


def _asked_for_groups(model: ScanModel, scan: RawData, config: InferenceConfig, run: RunOptions) -> bool:
    """Whether a setting means groups or their patches; the log says which."""
    stitching, wanted = config.stitching, config.n_groups
    reasons = {
        "normalize='Group' gives each group a scale of its own": model.scaling.even_groups,
        "exit waves are smoothed": model.config.gaussian_smoothing_sigma > 0,
        "only some groups are asked for": wanted is not None and wanted < len(scan),
        "statistics of patches are asked for": run.diagnostics is not None,
        "the stitching is not the usual one": stitching.patch_weighting != "probe" or stitching.middle_trim > 0,
    }
    found = [reason for reason, holds in reasons.items() if holds]
    for reason in found[:1]:
        logger.info("one pass in groups, not on one canvas: %s", reason)
    return bool(found)


@dataclass(frozen=True)
class Descents:
    """Plain iterations of a pass, the probe held; arguments as in `canvas_pass`."""

    engine: str
    network: ScanNetwork
    scan: RawData
    probe: Complex
    frame: ObjectFrame
    team: Team = SINGLE

    def __call__(self, image: Complex, iterations: int, floor: float) -> tuple[Complex, float]:
        """An object (H, W) after some iterations on the likelihood with a floor, and its relative error."""
        given = replace(find_engine(self.engine), make_kernels=lambda _, least: self.network.kernels(max(floor, least)))
        held: dict[str, Any] = {"probe": self.probe, "frame": self.frame, "refine_probe": False, "tolerance": 0.0}
        # every process has the whole object between two stages
        held |= {"processes": self.team, "strips": False}
        found = refine_scan(self.scan, image, iterations, engine=given, **held)
        return found.object, found.error_history[found.kept]

    def begun(self, canvas: Canvas) -> LevelledObject:
        """The flat object with the phase plane that the patterns tell."""
        flat = np.full(self.frame.shape, self.network.object_scale, np.complex64)
        weight = canvas.illumination.astype(np.float32)
        return self.team.first(lambda: PatternSample(self.scan, self.probe, self.frame).level(flat, weight))


class Canvas:
    """The likelihood of all patterns on one canvas, as a group's network meets it (`core.physics.group_gradient`).

    Args:
        kernels: of the likelihood of amplitudes, with the floor of the network.
        scan, probe, frame: as in `canvas_pass`.
        processes: that share the patterns.
    """

    def __init__(
        self, kernels: Kernels, scan: RawData, probe: Complex, frame: ObjectFrame, processes: Processes = ALONE
    ) -> None:
        n, count = probe.shape[-1], len(scan)
        self.N = n
        x, y = frame.local(scan.xcoords, scan.ycoords)
        flux = np.ones(count) if scan.flux is None else scan.flux
        background = np.zeros((n, n)) if scan.background is None else scan.background
        everything = [np.arange(count)], np.arange(0), len(probe)
        self._passes = Passes(kernels, scan, *everything, memory=_KEEP, share=WholeObject(processes))
        blur = SHARP if scan.blur is None else np.asarray(scan.blur)
        self._point = Point(np.ones(frame.shape, np.complex64), probe, x, y, flux, background, blur=blur)
        self.illumination = _illumination(kernels, self._point)
        """(H, W) `w = sum_j f_j sum_m |P_m(r - r_j)|^2`."""

    def step(self, image: Complex) -> Complex:
        """The preconditioned gradient step of an object (H, W), `-g / (w + floor)`."""
        _, found = self._passes.gradient(self._point._replace(object=image), with_probe=False)
        floor = ILLUMINATION_FLOOR * self.illumination.max()
        return np.asarray(-found.object / (self.illumination + floor), np.complex64)


def _illumination(kernels: Kernels, point: Point) -> NDArray[np.float64]:
    """The light of the probes, each moved by what is left of its position."""
    shape, n = point.object.shape, point.probe.shape[-1]
    rows, cols, dx, dy = places(point.x, point.y, n, shape)
    total, probe = np.zeros(shape), kernels.image(point.probe)
    for block in frame_blocks(len(rows), 8 * point.probe.size):
        ramps = kernels.ramps(dx[block, None], dy[block, None], np.sqrt(point.flux[block]), n)
        power = np.sum(np.abs(kernels.numpy(kernels.shifted(probe, ramps))) ** 2, axis=1)
        for row, col, each in zip(rows[block], cols[block], power, strict=True):
            total[row : row + n, col : col + n] += each
    return total


def staged(network: ScanNetwork, canvas: Canvas, image: Complex, processes: Processes = ALONE) -> Complex:
    """An object (H, W) after the stages of a network, sides that are multiples of 8.

    Stages see the canvas in the network's unit, at rest before the first, and correct it where probes have light.
    """
    scale = np.complex64(network.object_scale)
    margins = [worked_margin(length, canvas.N, network.light) for length in image.shape]
    inner = tuple(slice(margin, length - margin) for margin, length in zip(margins, image.shape, strict=True))
    light = (canvas.illumination / canvas.illumination.max()).astype(np.float32)
    found = image / scale
    velocity = np.zeros_like(found)
    for stage, (step, momentum) in enumerate(zip(network.stages.steps, network.stages.momenta, strict=True)):
        gradient = canvas.step(found * scale) / scale
        velocity = np.complex64(momentum) * velocity + np.complex64(step) * gradient
        parts = [part for field in (found - 1, gradient, velocity) for part in (field.real, field.imag)]
        change = in_tiles(network, stage, np.stack([part[inner] for part in (*parts, light)]), processes)
        velocity[inner] += change[0] + 1j * change[1]
        found += velocity
    return found * scale


def in_tiles(
    network: ScanNetwork, stage: int, pictures: NDArray[np.float32], processes: Processes = ALONE
) -> NDArray[np.float32]:
    """The correction (2, H, W) of a stage that sees pictures (7, H, W): tile by tile, each seen with its rim, by one of
    the processes.
    """
    height, width = pictures.shape[1:]
    change = np.zeros((2, height, width), np.float32)
    tiles = list(itertools.product(_tiles(height), _tiles(width)))
    for (rows, seen_rows), (columns, seen_columns) in tiles[processes.rank :: processes.size]:
        found = network.stages.correct(stage, pictures[:, seen_rows, seen_columns])
        inner_rows, inner_columns = _within(rows, seen_rows), _within(columns, seen_columns)
        change[:, rows, columns] = found[:, inner_rows, inner_columns]
    return processes.sum(change)[0]


def _tiles(length: int) -> Iterator[tuple[slice, slice]]:
    """Tiles along an axis, and what is seen of each."""
    for start in range(0, length, TILE):
        stop = min(start + TILE, length)
        yield slice(start, stop), slice(max(0, start - RIM), min(length, stop + RIM))


def _within(part: slice, seen: slice) -> slice:
    return slice(part.start - seen.start, part.stop - seen.start)
