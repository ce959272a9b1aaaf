"""Train the weights that come with the package (`ptycho/networks/universal.h5.zip`), on simulated experiments.

As a pass over a scan uses them (`ptycho.workflows.networks.canvas_pass`): an experiment is drawn, iterated from a flat
object, and the stages learn what is left between that and the truth. Some steps are of groups of four patterns from a
flat object, the other way in which the network is used. The loss is the logarithm of the relative error, weighted by
the light, after the global phase: every dose and every kind counts by how many times better it gets.

    python scripts/training/universal_weights.py --output FOLDER --seconds 3600

goes on where FOLDER has a checkpoint; `--seconds` are those of all runs together. Every five minutes a fixed set of
other experiments validates, and the best weights so far are written as FOLDER/wts.h5.zip.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from universal_experiments import RANGES, Experiment, drawn

from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.core.files.atomic import atomic_path
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.group_gradient import FIELD_FLOOR, light_extent, worked_margin
from ptycho.core.quality.diffraction_error import least_squares_scale
from ptycho.networks.spec import ScanStages
from ptycho.networks.unrolled import unrolled_spec
from ptycho.workflows.backend import ScanNetwork
from ptycho.workflows.networks.canvas_pass import FIRST, Canvas, Descents
from ptycho_torch.group_gradient import SeenGroup, shifted_probes, split_positions
from ptycho_torch.model_manager import save_torch_bundle
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.refine import RefinementKernels
from ptycho_torch.unrolled import UnrolledNetwork

logger = logging.getLogger("universal")

CONFIG = ModelConfig(N=64, gridsize=2, architecture="unrolled", n_filters_scale=2)
RATE, WARM_UP, FALL = 1e-3, 100, 0.5
"""Learning rate, steps until it is reached, and the part of the time after which it falls to 0 along a cosine."""
MORE = (8, 48)
"""Iterations without a floor after the first ones."""
FIRST_STEP, FIRST_MOMENTUM, FASTER = 0.4, 0.5, 5.0
"""Of the stages in the beginning, where plain iterations have come far already; their rate is so many times that of the
kernels."""
POOL, USES = 96, 8
"""Experiments at hand, and how often each is used on average."""
GROUPS = 0.15
"""Share of steps that are of groups of four."""
EXPERIMENTS_PER_STEP = 2
AVERAGE = 0.998
"""Of the running mean of the weights, which is what is kept."""
FINE = 0.005
"""Errors below it are the same: there patterns say more than anything that is learned."""
RIM, RIM_UNTIL = 0.05, 0.375
"""Light from which on a pixel counts, up to that part of the time; it counts by its light then, as the middle of a scan
is what is looked at."""
UNSEEN, VALIDATED_EVERY_S = 24, 300.0
FIRST_UNSEEN = 10**9


@dataclass(frozen=True)
class Sample:
    """What a step needs of an experiment."""

    amplitudes: Tensor
    probe: Tensor
    positions: Tensor
    """(C, 2), (x, y) from the canvas' middle."""
    mask: Tensor | None
    begun: Tensor
    """The canvas (S, S) after the plain iterations."""
    truth: Tensor
    light: int


def sampled(seed: int) -> Sample:
    """An experiment after its plain iterations, of which a pass has some number in the middle."""
    found = drawn(seed)
    more = int(np.random.default_rng([seed, 21]).integers(*MORE))
    scan, side = found.scan, found.frame.height
    x, y = found.frame.local(scan.xcoords, scan.ycoords)
    mask = None if scan.mask is None else torch.as_tensor(np.asarray(scan.mask))
    probe = as_modes(np.asarray(scan.probeGuess))
    return Sample(
        torch.as_tensor(np.asarray(scan.diff3d, np.float32)),
        torch.as_tensor(probe),
        torch.as_tensor(np.stack([x, y], axis=-1) - side / 2, dtype=torch.float32),
        mask,
        torch.as_tensor(begun(found, probe, more)),
        torch.as_tensor(found.truth) * truth_scale(found, probe),
        light_extent(probe),
    )


def truth_scale(found: Experiment, probe: Any) -> float:
    """What brings the truth to the unit in which the scan's patterns have their energy."""
    scan = found.scan
    where = found.frame.local(scan.xcoords, scan.ycoords)
    chosen = np.arange(len(scan))
    return float(least_squares_scale(found.truth, probe, where, scan.amplitude, scan.mask, chosen, scan.recording))


def begun(found: Experiment, probe: Any, more: int) -> Any:
    """The object (S, S) that the stages meet."""
    none = ScanStages((), (), lambda _, pictures: pictures[:2])
    network = ScanNetwork(none, 1.0, 1.0, light_extent(probe), lambda floor: RefinementKernels("amplitude", floor))
    descended = Descents("pytorch", network, found.scan, probe, found.frame)
    canvas = Canvas(network.kernels(FIELD_FLOOR), found.scan, probe, found.frame)
    image, _ = descended(descended.begun(canvas).object, FIRST, FIELD_FLOOR)
    return descended(image, more, 0.0)[0]


def on_canvas(network: UnrolledNetwork, sample: Sample) -> tuple[Tensor, Tensor, Tensor]:
    """The canvas (1, S, S) of all patterns after the stages, its light and its truth."""
    whole, remainder = split_positions(-sample.positions[None])
    side = sample.begun.shape[-1]
    group = SeenGroup(sample.amplitudes[None], shifted_probes(sample.probe, remainder), whole, side, sample.mask)
    margin = worked_margin(side, sample.probe.shape[-1], sample.light)
    start = sample.begun[None]
    return network.corrected(group, start, torch.zeros_like(start), margin), group.light, sample.truth[None]


def in_groups(network: UnrolledNetwork, sample: Sample, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The same of four groups of four neighbours, each on a canvas of its own, from a flat object."""
    apart = torch.cdist(sample.positions, sample.positions)
    seeds = torch.as_tensor(rng.choice(len(apart), 4, replace=False))
    near = apart[seeds].argsort(dim=1)[:, 1:7]
    others = torch.stack([row[torch.as_tensor(rng.permutation(row.numel())[:3])] for row in near])
    members = torch.cat([seeds[:, None], others], dim=1)
    middle = sample.positions[members].mean(dim=1, keepdim=True).round()
    relative = sample.positions[members] - middle
    n, length = sample.probe.shape[-1], sample.truth.shape[-1]
    side = -(-(n + 2 * math.ceil(float(relative.abs().max()))) // 8) * 8
    whole, remainder = split_positions(-relative)
    probes, mask = shifted_probes(sample.probe, remainder), sample.mask
    margin = worked_margin(side, n, sample.light)
    canvas = network(sample.amplitudes[members], probes, whole, side, margin, mask)
    light = SeenGroup(sample.amplitudes[members], probes, whole, side, mask).light
    truth = torch.ones((4, side, side), dtype=torch.complex64)
    for one, (x, y) in zip(truth, middle[:, 0].long().tolist(), strict=True):
        rows, columns = (torch.arange(side) + length // 2 + at - side // 2 for at in (y, x))
        one[...] = sample.truth[rows.clamp(0, length - 1)][:, columns.clamp(0, length - 1)]
    return canvas, light, truth


def log_error(canvas: Tensor, light: Tensor, truth: Tensor, rim: bool = False) -> Tensor:
    """`log(error^2 + FINE^2) / 2` (B,), of the relative error by the light, after the global phase."""
    weight = light / (light + RIM) if rim else light
    turn = (weight * canvas.conj() * truth).sum(dim=(-2, -1), keepdim=True)
    off = canvas * turn / turn.abs().clamp_min(1e-12) - truth
    squares = [(weight * (field.real**2 + field.imag**2)).sum(dim=(-2, -1)) for field in (off, truth)]
    return 0.5 * torch.log(squares[0] / squares[1] + FINE**2)


@dataclass
class Training:
    """A training that is kept in a folder."""

    folder: Path
    seconds: float
    network: UnrolledNetwork = field(default_factory=lambda: UnrolledNetwork(unrolled_spec(CONFIG)))
    step: int = 0
    spent: float = 0.0
    next_seed: int = 0
    best: float = math.inf
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        with torch.no_grad():
            self.network.step.fill_(FIRST_STEP)
            self.network.momentum.fill_(FIRST_MOMENTUM)
        few = [self.network.step, self.network.momentum]
        self.mean = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        many = list(self.network.stages.parameters())
        self.optimizer = torch.optim.Adam([{"params": many, "times": 1.0}, {"params": few, "times": FASTER}], lr=RATE)
        self.pool: list[Sample] = []
        self.unseen: list[Sample] = []
        if self.checkpoint.exists():
            self.resume()

    @property
    def checkpoint(self) -> Path:
        """Where everything is kept."""
        return self.folder / "checkpoint.pt"

    def resume(self) -> None:
        """Go on where the checkpoint ends, with other experiments."""
        kept = torch.load(self.checkpoint, weights_only=True)
        self.network.load_state_dict(kept["network"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.mean = kept["mean"]
        for name in ("step", "spent", "next_seed", "best", "history"):
            setattr(self, name, kept[name])
        logger.info("on from step %d after %.0f s", self.step, self.spent)

    def keep(self) -> None:
        """Write the checkpoint, whole or not at all."""
        kept = {name: getattr(self, name) for name in ("step", "spent", "next_seed", "best", "history", "mean")}
        with atomic_path(self.checkpoint) as path:
            torch.save({"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(), **kept}, path)

    def rate(self) -> float:
        """The learning rate of the next step."""
        gone = min(1.0, self.spent / self.seconds)
        falling = 1.0 if gone < FALL else 0.5 * (1 + math.cos(math.pi * (gone - FALL) / (1 - FALL)))
        return RATE * min(1.0, (self.step + 1) / WARM_UP) * max(falling, 0.01)

    def new_sample(self) -> None:
        """Draw an experiment into the pool."""
        if len(self.pool) >= POOL:
            self.pool.pop(0)
        self.pool.append(sampled(self.next_seed))
        self.next_seed += 1

    def trained_step(self, rng: np.random.Generator) -> float:
        """One step of the optimizer; how much the stages bring, as a mean logarithm."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate() * group["times"]
        self.optimizer.zero_grad()
        gained, rim = [], self.spent < RIM_UNTIL * self.seconds
        for _ in range(EXPERIMENTS_PER_STEP):
            sample = self.pool[rng.integers(len(self.pool))]
            if rng.random() < GROUPS and len(sample.positions) > 8:
                loss = log_error(*in_groups(self.network, sample, rng), rim).mean()
            else:
                canvas, light, truth = on_canvas(self.network, sample)
                loss = log_error(canvas, light, truth, rim).mean()
                gained.append(float(loss.detach() - log_error(sample.begun[None], light, truth, rim).mean()))
            (loss / EXPERIMENTS_PER_STEP).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        follow = min(AVERAGE, self.step / (self.step + 10))
        for name, value in self.network.state_dict().items():
            self.mean[name].lerp_(value.detach(), 1 - follow)
        return float(np.mean(gained)) if gained else math.nan

    def validated(self) -> float:
        """How much the stages bring with the mean weights, by experiments that are never trained on."""
        if not self.unseen:
            self.unseen = [sampled(FIRST_UNSEEN + number) for number in range(UNSEEN)]
        network = UnrolledNetwork(unrolled_spec(CONFIG))
        network.load_state_dict(self.mean)
        gained = []
        with torch.no_grad():
            for sample in self.unseen:
                canvas, light, truth = on_canvas(network, sample)
                gained.append(float(log_error(canvas, light, truth) - log_error(sample.begun[None], light, truth)))
        return float(np.mean(gained))

    def run(self) -> None:
        """Train until the time is over."""
        begun_at, spent_before = time.monotonic(), self.spent
        next_look, recent = self.spent + VALIDATED_EVERY_S, []
        while len(self.pool) < 8:
            self.new_sample()
        while self.spent < self.seconds:
            rng = np.random.default_rng([self.step, 22])
            if self.step * EXPERIMENTS_PER_STEP % USES == 0:
                self.new_sample()
            recent.append(self.trained_step(rng))
            self.spent = spent_before + time.monotonic() - begun_at
            if self.step % 50 == 0:
                logger.info("step %d, %.0f s: %.4f", self.step, self.spent, np.nanmean(recent))
                recent = []
            if self.spent >= next_look or self.spent >= self.seconds:
                next_look = self.spent + VALIDATED_EVERY_S
                self.validate()
        logger.info("best %.4f", self.best)

    def validate(self) -> None:
        """Look at the weights, keep them where they are the best, and the checkpoint."""
        found = self.validated()
        self.history.append({"step": self.step, "seconds": self.spent, "validation": found})
        logger.info("validation at step %d, %.0f s: %.4f (best %.4f)", self.step, self.spent, found, self.best)
        if found < self.best:
            self.best = found
            write_archive(self)
        self.keep()


def write_archive(training: Training) -> None:
    """The mean weights as an archive, with what made them."""
    network = UnrolledNetwork(unrolled_spec(CONFIG))
    network.load_state_dict(training.mean)
    probe = np.asarray(drawn(0).scan.probeGuess)[:1]
    model = PtychoPINN(CONFIG, probe, 1.0, 1.0, None, network=network)
    made: dict[str, Any] = {
        "script": "scripts/training/universal_weights.py",
        "seeds": [0, training.next_seed - 1],
        "steps": training.step,
        "seconds": round(training.spent),
        "validation": training.history,
        "iterations": [FIRST, *MORE],
        "ranges": RANGES,
    }
    model.scan = {"metadata": {}, "source": {"simulated": made}}
    save_torch_bundle(training.folder, model, TrainingConfig(model=CONFIG))


def main() -> None:
    """Train for as long as is said."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3600.0)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logger.setLevel(logging.INFO)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    Training(args.output, args.seconds).run()


if __name__ == "__main__":
    main()
