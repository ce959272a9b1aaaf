"""Does a network learn structure, or collapse to a flat object? One row per run, kept as it goes, so that it resumes.

Trains the `cnn` network for a fixed time on nine tenths of a scan, reconstructs the whole scan in one pass, and holds
the result against the truth and against the best flat object. A run passes when the amplitude varies by at least 0.3
of the truth's standard deviation, unseen patterns are likelier than under the best flat object, and the amplitude
SSIM is at least 0.30.

    python scripts/benchmarks/collapse.py --output collapse.jsonl                   # the whole table
    python scripts/benchmarks/collapse.py --output c.jsonl --seeds 1 --seconds 30 --skip-large   # one look
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ptycho import params
from ptycho.config.config import (
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    TrainingConfig,
    update_legacy_dict,
)
from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.losses import poisson_loss
from ptycho.core.quality.metrics import nrmse
from ptycho.core.quality.score import score
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData
from ptycho.workflows.backend import BackendName

HELD_OUT = 10
"""Every so many-th pattern (of a random order) is not trained on."""


@dataclass(frozen=True)
class Row:
    """One run; `std_ratio` is over the scanned area, losses are per valid pixel and mean count."""

    name: str
    N: int
    gridsize: int
    seed: int
    epochs: int
    train_seconds: float
    groups_per_second: float
    std_ratio: float
    unseen_loss: float
    unseen_loss_flat: float
    amp_ssim: float
    phase_ssim: float
    amp_psnr: float
    nrmse: float
    nrmse_flat: float

    @property
    def passed(self) -> bool:
        """Whether the run kept its structure."""
        return self.std_ratio >= 0.3 and self.unseen_loss < self.unseen_loss_flat and self.amp_ssim >= 0.30


def split(data: RawData) -> tuple[RawData, RawData]:
    """Patterns to train on and patterns that stay unseen, the same for every run."""
    order = np.random.default_rng(0).permutation(len(data))
    unseen = np.sort(order[::HELD_OUT])
    return _subset(data, np.setdiff1d(order, unseen)), _subset(data, unseen)


def _subset(data: RawData, chosen: np.ndarray) -> RawData:
    return RawData.from_coords_without_pc(
        data.xcoords[chosen], data.ycoords[chosen], data.amplitude(chosen), data.probeGuess, None, units="amplitude"
    )


@dataclass(frozen=True)
class Chain:
    """What a backend is asked for."""

    train: Callable[..., dict[str, Any]]
    predict: Callable[..., np.ndarray]
    reconstruct: Callable[..., Reconstruction]


def chain_of(backend: str) -> Chain:
    """The workflow functions of a backend."""
    if backend == "tensorflow":
        from ptycho.workflows import components

        return Chain(components.train_cdi_model, components.predict_scan, components.reconstruct_scan)
    from ptycho_torch.workflows import components as torch_components

    execution = PyTorchExecutionConfig(
        accelerator="cpu",
        enable_progress_bar=False,
        enable_checkpointing=False,
        logger_backend=None,
        deterministic=False,
    )
    return Chain(
        partial(torch_components.train_cdi_model_torch, execution_config=execution),
        torch_components.predict_scan,
        partial(torch_components.reconstruct_scan, execution_config=execution),
    )


def unseen_loss(results: dict[str, Any], predict: Callable[..., np.ndarray], unseen: RawData) -> float:
    """Loss of patterns that training did not see, predicted from themselves."""
    container, model = results["test_container"], results["model"]
    patches, probe = predict(model, container), model.probe.file_units()
    scale = (model.nominal_intensity_scale * model.input_scale) ** 2
    mean_count = model.nominal_intensity_scale**2 / 4
    total = 0.0
    for group, members in zip(container.nn_indices, patches, strict=True):
        counts = scale * unseen.amplitude(group).astype(np.float64) ** 2
        total += poisson_loss(scale * diffract(probe, members), counts, mean_count)
    return total / len(patches)


def flat_loss(model: Any, unseen: RawData) -> float:
    """Loss of the best flat object on unseen patterns: its one number, the modulus, found by a scan."""
    probe = model.probe.file_units()
    vacuum = diffract(probe, np.ones((1, unseen.N, unseen.N), np.complex64))
    scale = (model.nominal_intensity_scale * model.input_scale) ** 2
    counts = scale * unseen.amplitude().astype(np.float64) ** 2
    best = np.sqrt(counts.mean() / (scale * vacuum.mean()))
    mean_count = model.nominal_intensity_scale**2 / 4
    return min(poisson_loss(scale * (best * c) ** 2 * vacuum, counts, mean_count) for c in np.linspace(0.8, 1.2, 21))


def run(
    data: RawData,
    gridsize: int,
    seed: int,
    seconds: float | None,
    folder: Path,
    backend: BackendName = "pytorch",
    epochs: int = 10_000,
) -> Row:
    """Train, reconstruct, compare with the truth, which is the scan's `objectGuess`.

    `seconds` of None stops after `epochs` alone, and ends alike on every machine.
    """
    assert data.objectGuess is not None
    truth = data.objectGuess
    model = ModelConfig(N=data.N, gridsize=gridsize)
    train_data, unseen = split(data)
    config = TrainingConfig(
        model=model,
        nepochs=epochs,
        n_groups=len(train_data),
        subsample_seed=seed,
        backend=backend,
        neighbor_count=max(4, gridsize**2),
        output_dir=folder,
        nphotons=data.photons(),
    )
    chain = chain_of(backend)
    update_legacy_dict(params.cfg, config)
    results = chain.train(train_data, unseen, config, max_seconds=seconds)
    inference = InferenceConfig(model=model, neighbor_count=config.neighbor_count, subsample_seed=seed)
    found = chain.reconstruct(results["model"], data, inference)
    region = _region(data)
    scanned = np.s_[region[0] : region[1], region[2] : region[3]]
    quality = score(found.object, truth, region)
    flat = np.vdot(np.ones_like(truth[scanned]), truth[scanned]) / truth[scanned].size
    history = results["history"]
    return Row(
        name=name_of(backend, data.N, gridsize, seed),
        N=data.N,
        gridsize=gridsize,
        seed=seed,
        epochs=len(history["seconds"]),
        train_seconds=results["train_seconds"],
        groups_per_second=len(train_data) * len(history["seconds"]) / history["seconds"][-1],
        std_ratio=float(np.abs(found.object[scanned]).std() / np.abs(truth[scanned]).std()),
        unseen_loss=unseen_loss(results, chain.predict, unseen),
        unseen_loss_flat=flat_loss(results["model"], unseen),
        amp_ssim=quality.amplitude_ssim,
        phase_ssim=quality.phase_ssim,
        amp_psnr=quality.amplitude_psnr,
        nrmse=quality.complex_nrmse,
        nrmse_flat=nrmse(flat * np.ones_like(truth[scanned]), truth[scanned]),
    )


def name_of(backend: str, N: int, gridsize: int, seed: int) -> str:
    """What a run is called in the table."""
    return f"{backend}-N{N}-g{gridsize}-seed{seed}"


def _region(data: RawData) -> tuple[int, int, int, int]:
    """The scanned area (y0, y1, x0, x1): the box of the scan positions, less two pixels."""
    (y0, y1), (x0, x1) = (
        (int(np.ceil(coords.min())) + 2, int(np.floor(coords.max())) - 2) for coords in (data.ycoords, data.xcoords)
    )
    return y0, y1, x0, x1


def simulated(N: int) -> RawData:
    """The reference protocol: `lines`, 4 N pixels a side, 576 positions N/8 apart, 1e9 photons a frame."""
    scan = make_scan("lines", size=4 * N, N=N, step=N / 8, jitter=2.0, photons=1e9, seed=0)
    return RawData(
        scan.xcoords,
        scan.ycoords,
        None,
        None,
        scan.diffraction,
        scan.probe,
        objectGuess=scan.object,
        metadata={"nphotons": scan.photons},
        units=scan.units,
    )


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="rows are kept here, one JSON object a line")
    parser.add_argument("--scan", type=Path, help="scan NPZ with its truth as objectGuess (default: simulated lines)")
    parser.add_argument("--large-scan", type=Path, help="the same for N = 128")
    parser.add_argument("--backend", choices=("pytorch", "tensorflow"), default="pytorch")
    parser.add_argument("--gridsizes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=150.0, help="training time of a run at N = 64")
    parser.add_argument("--large-seconds", type=float, default=600.0, help="training time of the run at N = 128")
    parser.add_argument("--skip-large", action="store_true", help="leave the run at N = 128 out")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    rows = [json.loads(line) for line in args.output.read_text().splitlines()] if args.output.exists() else []
    done = {row["name"] for row in rows}
    jobs = [(args.scan, 64, gridsize, seed, args.seconds) for seed in range(args.seeds) for gridsize in args.gridsizes]
    if not args.skip_large:
        jobs.append((args.large_scan, 128, 1, 0, args.large_seconds))
    for path, N, gridsize, seed, seconds in jobs:
        if name_of(args.backend, N, gridsize, seed) in done:
            continue
        data = simulated(N) if path is None else RawData.from_file(path)
        with tempfile.TemporaryDirectory() as folder:
            row = asdict(run(data, gridsize, seed, seconds, Path(folder), args.backend))
        rows.append(row)
        with args.output.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    print_table([Row(**row) for row in rows])


def print_table(rows: list[Row]) -> None:
    """Print the rows as a Markdown table, with what each shows."""
    print("| run | epochs | groups/s | std ratio | unseen loss (flat) | amplitude / phase SSIM | NRMSE (flat) | |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row.name} | {row.epochs} | {row.groups_per_second:.0f} | {row.std_ratio:.2f} "
            f"| {row.unseen_loss:.4f} ({row.unseen_loss_flat:.4f}) | {row.amp_ssim:.2f} / {row.phase_ssim:.2f} "
            f"| {row.nrmse:.3f} ({row.nrmse_flat:.3f}) | {'pass' if row.passed else 'FAIL'} |"
        )


if __name__ == "__main__":
    main()
