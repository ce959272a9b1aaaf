"""From nothing to a picture: simulate a scan, train a network on it, reconstruct, refine, compare with the truth.

Runs the same commands that a user would type and shows them. Takes a few minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from ptycho.core.formats.reconstruction_npz import read_npz
from ptycho.core.quality.score import score
from ptycho.figures.reconstruction import save_summary_png

ROOT = Path(__file__).resolve().parent
SCAN_OPTIONS = "--kind lines --size 256 --N 64 --step 8 --jitter 2 --photons 1e9 --seed 0"
INFER_OPTIONS = "--backend pytorch --torch-accelerator cpu"
TRAIN_OPTIONS = f"{INFER_OPTIONS} --architecture unrolled --gridsize 2 --n_groups 576 --batch_size 8"


def run(command: str) -> float:
    """Show and run one of the scripts; return its seconds, or leave with its status."""
    print(f"\n$ python scripts/{command}", flush=True)
    begun = time.perf_counter()
    script, *arguments = shlex.split(command)
    status = subprocess.run([sys.executable, str(ROOT / script), *arguments], check=False).returncode
    if status:
        sys.exit(status)
    return time.perf_counter() - begun


def region_of(xcoords: np.ndarray, ycoords: np.ndarray) -> tuple[int, int, int, int]:
    """The box of the scan positions (y0, y1, x0, x1), less two pixels."""
    y0, x0 = int(np.ceil(ycoords.min())) + 2, int(np.ceil(xcoords.min())) + 2
    return y0, int(np.floor(ycoords.max())) - 2, x0, int(np.floor(xcoords.max())) - 2


def main() -> None:
    """Run the chain and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo_output"))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--refine", type=int, default=100, help="refinement iterations")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    scan, model, result = args.output / "scan.npz", args.output / "model", args.output / "result"
    simulate = f"simulation/simulate.py {SCAN_OPTIONS} --output {scan}"
    train = f"training/train.py {TRAIN_OPTIONS} --nepochs {args.epochs} --train_data_file {scan} --output_dir {model}"
    infer = f"inference/inference.py {INFER_OPTIONS} --refine {args.refine} --model_path {model} --test_data {scan}"
    seconds = {
        "simulate": run(simulate),
        "train": run(train),
        "reconstruct": run(f"{infer} --output_dir {result}"),
    }
    report(scan, result, seconds)


def report(scan: Path, result: Path, seconds: dict[str, float]) -> None:
    """Hold the objects against the truth; write the numbers and a summary with the truth beside."""
    found = read_npz(result / "reconstruction.npz")
    with np.load(scan) as file:
        truth = file["objectGuess"]
    region = region_of(found.xcoords, found.ycoords)
    figures = {"seconds": {name: round(value, 1) for name, value in seconds.items()}}
    print("\n| | amplitude SSIM | phase SSIM | relative error | amplitude PSNR |\n| --- | --- | --- | --- | --- |")
    images = {"flat object": np.ones_like(truth), "network": found.network_object, "refined": found.object}
    for name, image in images.items():
        quality = score(image, truth, region)
        figures[name] = quality.as_dict()
        print(
            f"| {name} | {quality.amplitude_ssim:.3f} | {quality.phase_ssim:.3f} | {quality.complex_nrmse:.4f} "
            f"| {quality.amplitude_psnr:.1f} dB |"
        )
    save_summary_png(found, result / "summary.png", truth=truth)
    (result / "figures.json").write_text(json.dumps(figures, indent=1))
    print(f"\ntimes: {', '.join(f'{name} {value:.0f} s' for name, value in seconds.items())}")
    print("look at:")
    for path in sorted(result.glob("*.png")):
        print(f"  {path}")
    print(f"numbers: {result / 'figures.json'}")


if __name__ == "__main__":
    main()
