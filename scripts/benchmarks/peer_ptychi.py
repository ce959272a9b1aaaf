"""Run pty-chi on a scan file, in an environment of its own (PyPI `ptychi`), and save the objects on the way.

Its LSQML, unless the other engine is asked for.
Needs nothing of this project. The object starts flat, the probe is that of the file. Only the time spent in epochs is
counted: imports, reading, building the task and saving are not. Of several slices the product is saved.

    python peer_ptychi.py scan.npz found.npz --limit-s 60 --marks 30,80,120,180
    python peer_ptychi.py scan.npz found.npz --refine-probe --modes 3
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import re
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

BORDER_PX = 20
"""Added to the smallest object that holds every patch, as pty-chi suggests."""
CHUNK = 10
"""Epochs between two looks at the clock."""
OPR_RELAXATION = 1.0
POSITIONS_OPTIMIZER = "sgd"
POSITIONS_FROM, POSITIONS_STEP, POSITIONS_LIMIT_PX = 0, 0.3, 0.1
"""Its own defaults."""


def read_scan(path: Path, scale: float) -> dict[str, Any]:
    """Counts, probe in the root of a count, positions and mask of a scan file.

    Args:
        path: the scan file.
        scale: photons per unit of squared amplitude (of the patterns as they are, where they are counts).
    """
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    patterns = arrays["diff3d" if "diff3d" in arrays else "diffraction"].astype(np.float64)
    counts = patterns * scale if str(arrays["units"]) == "counts" else patterns**2 * scale
    probe = arrays["probeGuess"].astype(np.complex64) * np.float32(np.sqrt(scale))
    mask = arrays.get("mask")
    if mask is not None:
        counts = np.where(mask, counts, 0)
    return {
        "counts": counts,
        "probe": probe.reshape(1, -1, *probe.shape[-2:]),
        "mask": mask,
        "positions": np.stack([arrays["ycoords"], arrays["xcoords"]], axis=1),
    }


def start_probe(scan: dict[str, Any], options: Any, args: argparse.Namespace) -> tuple[Any, Any]:
    """Its own first probe (1 + OPR modes, modes, N, N), and the weights of the former, None where there is one."""
    import torch
    from ptychi import utils

    probe = torch.as_tensor(scan["probe"])
    if args.modes > 1:
        shape = (1, args.modes, *probe.shape[-2:])
        probe = utils.orthogonalize_initial_probe(probe[:, :1].expand(shape).clone())
    if not args.opr:
        return probe, None
    probe = utils.add_additional_opr_probe_modes_to_probe(probe, args.opr)
    weights = options.opr_mode_weight_options
    weights.optimizable = True
    weights.update_relaxation = options.probe_options.eigenmode_update_relaxation = args.opr_relaxation
    return probe, utils.generate_initial_opr_mode_weights(len(scan["counts"]), args.opr + 1, probe=probe)


def set_physics(options: Any, args: argparse.Namespace) -> None:
    """Positions that move, slices, a near detector, and one that blurs."""
    options.object_options.pixel_size_m, options.data_options.wavelength_m = args.pixel_m, args.wavelength_m
    positions = options.probe_position_options
    positions.optimizable = args.positions is not None
    positions.optimization_plan.start = args.positions_from
    positions.optimizer, positions.step_size = args.positions_optimizer, args.positions_step
    positions.correction_options.update_magnitude_limit = args.positions_limit_px
    positions.affine_transform_constraint.enabled = args.positions == "affine"
    if args.slice_gap_m is not None:
        options.object_options.slice_spacings_m = [args.slice_gap_m]
    if args.distance_m is not None:
        options.data_options.free_space_propagation_distance_m = args.distance_m
        options.data_options.fft_shift = False
    options.reconstructor_options.forward_model_options.diffraction_pattern_blur_sigma = args.blur_px


def make_task(scan: dict[str, Any], args: argparse.Namespace) -> tuple[Any, np.ndarray]:
    """The reconstruction task, and the (row, column) of the scan's pixel grid that its object begins at."""
    import torch
    from ptychi import api
    from ptychi.api.task import PtychographyTask

    lsqml = args.engine == "lsqml"
    options = api.LSQMLOptions() if lsqml else api.BHOptions()
    options.object_options.optimizable = True
    options.object_options.optimizer = options.probe_options.optimizer = api.Optimizers.SGD
    options.object_options.step_size = options.probe_options.step_size = 1.0
    options.probe_options.optimizable = args.refine_probe
    reconstructor = options.reconstructor_options
    if lsqml:
        reconstructor.noise_model = api.NoiseModels.GAUSSIAN
    else:
        reconstructor.method = args.bh_method
    whole = args.engine == "bh" and args.bh_method == "CG"  # conjugate gradients want all patterns at once
    reconstructor.batch_size = len(scan["counts"]) if whole else args.batch
    reconstructor.num_epochs = 10**6
    reconstructor.default_device = api.Devices.GPU if args.gpu else api.Devices.CPU
    reconstructor.random_seed = args.seed
    probe, weights = start_probe(scan, options, args)
    set_physics(options, args)
    positions, n = scan["positions"], scan["probe"].shape[-1]
    low, high = positions.min(axis=0), positions.max(axis=0)
    # whole pixels and an even size: the position 0 is then the first pixel of the array's second half
    middle = np.rint((low + high) / 2)
    slices = 1 if args.slice_gap_m is None else 2
    size = 2 * np.ceil((high - low + n + BORDER_PX) / 2).astype(int)
    task = PtychographyTask(
        options,
        diffraction_data=scan["counts"],
        object_data=torch.ones([slices, *size.tolist()], dtype=torch.complex64),
        probe_data=probe,
        probe_position_y_px=positions[:, 0] - middle[0],
        probe_position_x_px=positions[:, 1] - middle[1],
        valid_pixel_mask=None if scan["mask"] is None else torch.as_tensor(scan["mask"]),
        opr_mode_weights_data=weights,
    )
    return task, (middle - size // 2).astype(int)


def run(task: Any, marks: list[int], limit_s: float) -> dict[str, Any]:
    """Run to every mark that the time allows, and once more where the time is over between two of them."""
    found: dict[str, list[Any]] = {"epochs": [], "seconds": [], "objects": [], "probes": []}
    epoch, seconds = 0, 0.0
    for mark in marks:
        while epoch < mark and seconds < limit_s:
            count = min(mark - epoch, CHUNK)
            begun = time.perf_counter()
            with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
                task.run(count)
            seconds += time.perf_counter() - begun
            epoch += count
        found["epochs"].append(epoch)
        found["seconds"].append(seconds)
        found["objects"].append(task.get_data_to_cpu("object", as_numpy=True).prod(axis=0).astype(np.complex64))
        found["probes"].append(task.get_data_to_cpu("probe", as_numpy=True)[0].astype(np.complex64))
        if seconds >= limit_s:
            break
    return {key: np.asarray(values) for key, values in found.items()}


def memory_mb(name: str) -> float:
    """Memory of this process by its name in Linux's list (VmRSS: now, VmHWM: the most so far); nan elsewhere."""
    status = Path("/proc/self/status")
    found = re.search(rf"{name}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else float("nan")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("output", type=Path, help="NPZ: epochs, seconds, objects, probes (file units), origin (y, x)")
    parser.add_argument("--scale", type=float, default=1.0, help="photons per unit of intensity in the file")
    parser.add_argument("--marks", default="30,80,120,180", help="epochs to save")
    parser.add_argument("--limit-s", type=float, default=60.0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--engine", choices=["lsqml", "bh"], default="lsqml", help="bh: bilinear Hessian, one batch")
    parser.add_argument("--bh-method", choices=["CG", "GD"], default="CG", help="of the bilinear Hessian")
    parser.add_argument("--gpu", action="store_true", help="on a CUDA GPU")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--refine-probe", action="store_true")
    parser.add_argument("--modes", type=int, default=1, help="incoherent modes of the probe (1: those of the file)")
    parser.add_argument("--opr", type=int, default=0, help="modes of a probe that changes, beside the first")
    parser.add_argument("--opr-relaxation", type=float, default=OPR_RELAXATION)
    parser.add_argument(
        "--positions", choices=["affine", "single"], help="positions move, tied to an affine map or not"
    )
    parser.add_argument("--positions-from", type=int, default=POSITIONS_FROM, help="epoch")
    parser.add_argument("--positions-optimizer", default=POSITIONS_OPTIMIZER)
    parser.add_argument("--positions-step", type=float, default=POSITIONS_STEP)
    parser.add_argument("--positions-limit-px", type=float, default=POSITIONS_LIMIT_PX, help="of one step")
    parser.add_argument("--slice-gap-m", type=float, help="distance of two slices (default: a thin object)")
    parser.add_argument("--distance-m", type=float, help="of a near detector (default: far)")
    parser.add_argument("--blur-px", type=float, help="standard deviation of the detector's blur (default: sharp)")
    parser.add_argument("--wavelength-m", type=float, default=1e-10)
    parser.add_argument("--pixel-m", type=float, default=1e-8, help="of the object")
    return parser


def main() -> None:
    """Read, run, save."""
    args = parser().parse_args()
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    logging.disable(logging.WARNING)
    scan = read_scan(args.scan, args.scale)
    before = memory_mb("VmRSS")
    task, origin = make_task(scan, args)
    found = run(task, [int(mark) for mark in args.marks.split(",")], args.limit_s)
    # its transform is not unitary: far fields are N times ours
    side = scan["probe"].shape[-1] if args.distance_m is None else 1
    found["probes"] *= np.float32(side / np.sqrt(args.scale))
    np.savez(args.output, **found, origin=origin, peak_mb=memory_mb("VmHWM") - before, version=version("ptychi"))


if __name__ == "__main__":
    main()
