"""Does ptychodus train and reconstruct with this library, and is the object right? The program itself, batch mode.

Simulates a scan, writes what ptychodus reads, runs `ptychodus -b train` and `ptychodus -b reconstruct` for each
library and kind of training, and holds every product against the truth. Exit status 0 where all steps passed.

    python3.11 -m venv V && V/bin/pip install ptychodus==1.7.0 -e .
    python scripts/benchmarks/ptychodus_roundtrip.py --python V/bin/python --output runs

No setting of ptychodus chooses an architecture: with `--architecture unrolled` the model is trained by `ptycho_train`
on the training data that ptychodus exports, and ptychodus loads it and reconstructs.

An older version needs no environment of its own: `pip download --no-deps ptychodus==1.4.2`, unzip it, and give its
folder as `--client`. Two figures are half a pixel apart by convention (docs/conventions.md), which is allowed for.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptychodus_data import Case, simulate, write_inputs, write_settings
from ptychodus_score import score_product

from ptycho.core.files.atomic import atomic_path
from ptycho.core.formats.record import ScanRecord

ROOT = Path(__file__).parents[2]
ALGORITHMS = {
    ("ptycho", "unsupervised"): "ptychopinn_pinn",
    ("ptycho", "supervised"): "ptychopinn_supervised",
    ("ptycho_torch", "unsupervised"): "ptychopinn-torch_unsupervised",
    ("ptycho_torch", "supervised"): "ptychopinn-torch_supervised",
}

logger = logging.getLogger("ptychodus_roundtrip")


@dataclass(frozen=True)
class Client:
    """The program: its interpreter, the folder of an unzipped version, its version."""

    python: Path
    folder: Path | None
    version: str
    timeout: float

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor number."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)

    def run(self, action: str, inputs: Path, outputs: Path) -> dict[str, Any]:
        """One batch; what it printed goes to a log beside its outputs."""
        line = [str(self.python), "-m", "ptychodus", "-b", action, "-i", str(inputs), "-o", str(outputs)]
        return run_logged(line, action, outputs, self.folder, self.timeout)


def run_logged(
    line: list[str], action: str, outputs: Path, folder: Path | None = None, timeout: float | None = None
) -> dict[str, Any]:
    """Run a command in its output folder; its status, its seconds, and the log beside the folder."""
    log = outputs.with_suffix(f".{action}.log")
    outputs.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    with log.open("w") as stream:
        done = subprocess.run(
            line,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment(folder),
            cwd=outputs,
            timeout=timeout,
            check=False,
        )
    return {"status": done.returncode, "seconds": round(time.perf_counter() - begun, 1), "log": str(log)}


def environment(folder: Path | None) -> dict[str, str]:
    """This library, and an older client where there is one, on the path of the program."""
    path = [str(part) for part in (folder, ROOT) if part is not None]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def find_client(python: Path, folder: Path | None, timeout: float) -> Client:
    """Ask the interpreter which version it has."""
    ask = "from importlib.metadata import version; print(version('ptychodus'))"
    done = subprocess.run(
        [str(python), "-c", ask], env=environment(folder), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{python}: no ptychodus there: {done.stderr.splitlines()[-1:]}")
    return Client(python, folder, done.stdout.strip(), timeout)


def settings_for(algorithm: str, options: argparse.Namespace) -> dict[str, dict[str, object]]:
    """The settings of the program: small, and every position reconstructed."""
    members = options.gridsize**2
    found: dict[str, dict[str, object]] = {
        "Processing": {"Algorithm": algorithm},
        "PtychoPINNModel": {"GridSize": options.gridsize, "NumFiltersScale": options.filters},
        "PtychoPINNTraining": {"NumEpochs": options.epochs, "NumPhotons": options.photons},
        "PtychoPINNInference": {"NumSamples": options.positions, "NumNearestNeighbors": 7},
        "PtychoPINNTorchData": {
            "model_size": options.N,
            "num_channels": members,
            "grid_size_x": options.gridsize,
            "grid_size_y": options.gridsize,
        },
        "PtychoPINNTorchModel": {"num_filters_scale": options.filters},
        "PtychoPINNTorchTraining": {
            "epochs": options.epochs,
            "num_dataloader_workers": options.workers,
            "device": options.device,
        },
    }
    for text in options.set:
        name, _, value = text.partition("=")
        group, _, key = name.partition(".")
        found.setdefault(group, {})[key] = value
    return found


def trained_model(library: str, outputs: Path) -> Path | None:
    """The model that a training left, None where it left none."""
    pattern = "wts.h5.zip" if library == "ptycho" else "**/checkpoints/best-checkpoint.ckpt"
    return next(iter(sorted(outputs.glob(pattern))), None)


def train_here(library: str, kind: str, inputs: Path, outputs: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train with `ptycho_train` on what ptychodus exports."""
    line = [sys.executable, str(ROOT / "scripts" / "training" / "train.py")]
    line += ["--backend", "tensorflow" if library == "ptycho" else "pytorch", "--architecture", options.architecture]
    line += ["--model_type", "supervised" if kind == "supervised" else "pinn", "--gridsize", str(options.gridsize)]
    line += ["--max_seconds", str(options.train_seconds), "--nepochs", "10000", "--batch_size", "8"]
    line += ["--units", "counts", "--n_filters_scale", str(options.filters)]
    # both files: together they are the scan that ptychodus reconstructs, which tells where its object lies
    line += ["--train_data_file", str(inputs / "train_data.npz"), "--test_data_file", str(inputs / "test_data.npz")]
    line += ["--output_dir", str(outputs)]
    return run_logged(line, "train", outputs)


def round_trip(
    client: Client, library: str, kind: str, scan: ScanRecord, options: argparse.Namespace
) -> dict[str, Any]:
    """Train, hand the model over as the program saves it, reconstruct, score."""
    folder = options.output.absolute() / f"{library}_{kind}"
    inputs, outputs = folder / "in", folder / "out"
    shutil.rmtree(folder, ignore_errors=True)
    write_inputs(inputs, scan, kind == "supervised", client.release >= (1, 6), client.release >= (1, 7))
    write_settings(inputs / "settings.ini", settings_for(ALGORITHMS[library, kind], options))
    report: dict[str, Any] = {"library": library, "kind": kind, "architecture": options.architecture}
    if options.architecture == "cnn":
        report["train"] = client.run("train", inputs, outputs)
    else:
        report["train"] = train_here(library, kind, inputs, outputs, options)
    model = trained_model(library, outputs)
    if model is None:
        return report | {"failures": [f"training left no model (status {report['train']['status']})"]}
    # ptychodus unpacks model.zip: what the library gets is the folder with the members of the archive
    shutil.copyfile(model, inputs / ("model.zip" if library == "ptycho" else "model.ckpt"))
    report["reconstruct"] = client.run("reconstruct", inputs, outputs)
    products = sorted(outputs.glob("product*.h5"))
    if not products:
        return report | {"failures": [f"no product (status {report['reconstruct']['status']})"]}
    found = score_product(products[-1], scan)
    failures = found.failures(options.min_phase_correlation)
    failures += [
        f"{name}: status {report[name]['status']}" for name in ("train", "reconstruct") if report[name]["status"]
    ]
    return report | {"score": found.as_dict(), "failures": failures}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for all files and report.json")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="interpreter that has ptychodus")
    parser.add_argument("--client", type=Path, help="folder of an unzipped version to run instead of the installed one")
    parser.add_argument(
        "--libraries", nargs="+", choices=["ptycho", "ptycho_torch"], default=["ptycho", "ptycho_torch"]
    )
    parser.add_argument("--kinds", nargs="+", choices=["unsupervised", "supervised"], default=["unsupervised"])
    parser.add_argument("--positions", type=int, default=400)
    parser.add_argument("--N", type=int, default=64, choices=(64, 128, 256))
    parser.add_argument("--step", type=float, default=6.0, help="distance of neighbours, pixels")
    parser.add_argument("--photons", type=float, default=1e6, help="mean photons per pattern")
    parser.add_argument("--modes", type=int, default=1, help="incoherent modes of the probe")
    parser.add_argument("--bad-pixels", type=int, default=0, help="hot pixels of the detector, marked as bad")
    parser.add_argument("--dtype", default="uint32", help="of the patterns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--architecture", choices=["cnn", "unrolled"], default="cnn")
    parser.add_argument("--train-seconds", type=float, default=300.0, help="training time of unrolled")
    parser.add_argument("--epochs", type=int, default=50, help="epochs of ptychodus' own training")
    parser.add_argument("--gridsize", type=int, default=1)
    parser.add_argument("--filters", type=int, default=2, help="n_filters_scale")
    parser.add_argument("--workers", type=int, default=0, help="loader processes of ptycho_torch")
    parser.add_argument("--device", default="cuda", help="of ptycho_torch; cuda is the CPU where there is none")
    parser.add_argument("--set", nargs="*", default=[], metavar="GROUP.KEY=VALUE", help="further settings of ptychodus")
    parser.add_argument("--min-phase-correlation", type=float, default=0.6, help="what counts as the same object")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds for one run of the program")
    return parser.parse_args()


def main() -> int:
    """Run every library and kind; 1 where something failed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = parse()
    client = find_client(options.python, options.client, options.timeout)
    sizes = (options.positions, options.N, options.step, options.photons, options.modes, options.bad_pixels)
    scan = simulate(Case(*sizes, options.seed, options.dtype))
    options.positions = scan.count or options.positions
    options.output.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"ptychodus": client.version, "positions": options.positions, "runs": []}
    for library in options.libraries:
        for kind in options.kinds:
            found = round_trip(client, library, kind, scan, options)
            report["runs"].append(found)
            logger.info("ptychodus %s, %s %s: %s", client.version, library, kind, found["failures"] or "passed")
    with atomic_path(options.output / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")
    return int(any(run["failures"] for run in report["runs"]))


if __name__ == "__main__":
    sys.exit(main())
