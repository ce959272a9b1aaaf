"""The network prior against the truth: the simulated cases of `quality.py` without it and with it; what it invents.

    python scripts/benchmarks/object_prior.py --output FOLDER [--cases NAME ...] [--seeds 0 1 2] [--prior-seconds 30]

A row a case and seed, kept in `rows.jsonl`, so that an interrupted run goes on; `object_prior.md` has the table,
`CASE.png` the first seed of a case. A case takes some ten seconds on idle cores. With `--prior-seconds` there is a
column for the network that the scan taught, and two more cases: atoms on a lattice with holes, of which it saw nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from quality import read_rows
from quality_cases import CASES, DEFOCUS, SIZE, Case, N, as_data, case_scan, scored_region

from ptycho.config.options import IterationOptions
from ptycho.core.files.atomic import atomic_path
from ptycho.core.physics.probes import zone_plate_probe
from ptycho.core.quality.alignment import align
from ptycho.core.quality.score import score_aligned
from ptycho.core.quality.trust_map import trust_map
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.trust import ON_HOST
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.objects import object_from_images
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.core.simulation.scan_paths import step_for_overlap
from ptycho.core.stitching.stitch import probe_weight
from ptycho.figures.drawing import save_figure
from ptycho.raw_data import RawData
from ptycho.workflows.effects.network_prior import belief_of
from ptycho.workflows.iteration.iterate import iterate
from ptycho.workflows.solver import Solver
from ptycho.workflows.trust import NOMINAL_PHOTONS, photon_scale, scan_trust
from ptycho_torch.refine import refine

LATTICE = "lattice"
LATTICES = tuple(Case(f"lattice at {photons} photons", LATTICE, float(photons)) for photons in ("1e4", "1e3"))
ROWS = np.array([[7.3, 1.1], [-2.4, 7.9]])
"""From an atom to its neighbours, (y, x), pixels."""
HOLES, ATOM = 0.06, 1.5
"""Share of the places that are empty; standard deviation of an atom, pixels."""


def lattice(seed: int) -> NDArray[np.float64]:
    """Atoms of two heights, at random, on a lattice."""
    rng = np.random.default_rng(seed)
    image = np.zeros((SIZE, SIZE))
    y, x = np.mgrid[:SIZE, :SIZE]
    steps = np.arange(-SIZE // 4, SIZE // 4)
    for row, column in np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) @ ROWS:
        if -5 < row < SIZE + 5 and -5 < column < SIZE + 5:
            height = 0.0 if rng.random() < HOLES else float(rng.choice([0.5, 1.0]))
            top, left = max(int(row) - 6, 0), max(int(column) - 6, 0)
            box = slice(top, max(int(row) + 7, 0)), slice(left, max(int(column) + 7, 0))
            image[box] += height * np.exp(-((y[box] - row) ** 2 + (x[box] - column) ** 2) / (2 * ATOM**2))
    return image


def scan_of(case: Case, seed: int) -> RawData:
    """That of a case of `quality.py`, or of a lattice seen likewise."""
    if case.kind != LATTICE:
        return case_scan(case, None, seed)
    probe, image = zone_plate_probe(N, defocus=DEFOCUS), lattice(seed)
    step = step_for_overlap(probe, case.overlap)
    plan = ScanSettings(
        shape=image.shape, N=N, probe_settings={"defocus": DEFOCUS}, step=step, photons=case.photons, seed=seed
    )
    made = object_from_images(image, image, image.shape, plan.amplitude, plan.phase)
    return as_data(expose(*plan_scan(plan, object=made)))


def reconstructed(data: RawData, case: Case, prior: str | None, seconds: float = 0.0) -> tuple[Refinement, str]:
    """What an iteration makes of a scan, and what it said of the prior."""
    options = IterationOptions(refine_probe=case.refine_probe, object_prior=prior, prior_seconds=seconds)
    found = iterate(data, Solver(refine, ON_HOST), options)
    return found.refinement, next((note for note in found.notes if "held" in note and "object" in note), "")


def measured(case: Case, seed: int, output: Path, draw: bool, seconds: float) -> dict[str, Any]:
    """A row."""
    data = scan_of(case, seed)
    (without, _), (held, said) = (reconstructed(data, case, prior) for prior in (None, "network"))
    truth, region = data.objectGuess, scored_region(data)
    assert truth is not None
    pictures = [align(each.object, truth, region) for each in (without, held)]
    name = case.name.replace(" ", "_")
    if draw:
        save_figure(sheet(case, data, without, held, region), output / f"{name}.png")
    errors = [score_aligned(each).complex_nrmse for each in pictures]
    row = {"case": case.name, "seed": seed, "without": errors[0], "with": errors[1], "said": said}
    if seconds:
        taught, said = reconstructed(data, case, "network", seconds)
        if draw:
            save_figure(sheet(case, data, without, taught, region), output / f"{name}_taught.png")
        row |= {"taught": score_aligned(align(taught.object, truth, region)).complex_nrmse, "said_taught": said}
    return row


def sheet(
    case: Case, data: RawData, without: Refinement, held: Refinement, region: tuple[int, int, int, int]
) -> Figure:
    """Truth, both results, how far the held one is from the truth and from where it may be, and its trust."""
    y0, y1, x0, x1 = region
    assert data.objectGuess is not None
    pictures = [align(each.object, data.objectGuess, region) for each in (without, held)]
    truth = pictures[0].truth
    factors = [abs(each.factor) for each in pictures]
    images = [truth, *(each.image / factor for each, factor in zip(pictures, factors, strict=True))]
    belief = belief_of(without, data)
    scale, _ = photon_scale(data, NOMINAL_PHOTONS)
    with np.errstate(divide="ignore"):
        spread = (2 * scale * data.mean_energy * belief.weight) ** -0.5
    trust = scan_trust(
        held.object, held.probe, held.xcoords, held.ycoords, data, NOMINAL_PHOTONS, ON_HOST, recording=held.recording
    )
    known = trust_map(trust.ratio, probe_weight(held.probe), held.xcoords, held.ycoords, held.object.shape)
    box = slice(y0, y1), slice(x0, x1)
    errors = [abs(image - truth) for image in images[1:]]
    most = float(np.quantile(errors[0], 0.99))
    figure = Figure(figsize=(11, 8.4), layout="constrained")
    names = "truth", "without", "with the network prior"
    axes = figure.subplots(3, 3)
    for column, (name, image) in enumerate(zip(names, images, strict=True)):
        for row, (kind, values) in enumerate((("amplitude", abs(image)), ("phase", np.angle(image)))):
            low, high = np.quantile(abs(truth) if row == 0 else np.angle(truth), (0.005, 0.995))
            shown = axes[row, column].imshow(values, cmap="gray" if row == 0 else "viridis", vmin=low, vmax=high)
            axes[row, column].set_title(f"{name}: {kind}")
            figure.colorbar(shown, ax=axes[row, column], shrink=0.8)
    last = (
        (f"without: |error|, rms {np.sqrt(np.mean(errors[0] ** 2)):.3f}", errors[0], 0.0, most),
        (f"with: |error|, rms {np.sqrt(np.mean(errors[1] ** 2)):.3f}", errors[1], 0.0, most),
        ("with: deviance over that of noise", known[box], 0.5, 1.5),
    )
    for column, (name, values, low, high) in enumerate(last):
        shown = axes[2, column].imshow(
            values, cmap="inferno" if column < 2 else "coolwarm", vmin=float(low), vmax=float(high)
        )
        axes[2, column].set_title(name)
        figure.colorbar(shown, ax=axes[2, column], shrink=0.8)
    within = float(np.mean(errors[1] < spread[box]))
    figure.suptitle(f"{case.name}: {100 * within:.0f} % of the pixels lie within what the network says of its error")
    return figure


def table(rows: list[dict[str, Any]]) -> str:
    """Medians over the seeds of a case, and for how many it is worse than in the column before; the last three columns
    are of a network that the scan taught, where one did.
    """
    taught = all("taught" in row for row in rows)
    names = ["case", "without", "with", "seeds that it is worse for", "strengths"]
    names += ["taught", "seeds that it is worse for", "strengths"] * taught
    lines = [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
    for name in dict.fromkeys(row["case"] for row in rows):
        own = [row for row in rows if row["case"] == name]
        without, held = (np.median([row[kind] for row in own]) for kind in ("without", "with"))
        cells = [name, f"{without:.4f}", f"{held:.4f}", worse(own, "with", "without"), strengths(own, "said")]
        if taught:
            median = f"{np.median([row['taught'] for row in own]):.4f}"
            cells += [median, worse(own, "taught", "with"), strengths(own, "said_taught")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def worse(rows: list[dict[str, Any]], kind: str, than: str) -> str:
    """How many are."""
    return f"{sum(row[kind] > 1.001 * row[than] for row in rows)} of {len(rows)}"


def strengths(rows: list[dict[str, Any]], said: str) -> str:
    """What was taken."""
    return ", ".join("0" if "Nothing" in row[said] else row[said].split("strength ")[1].split(":")[0] for row in rows)


def main() -> None:
    """Measure what is missing and write table and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--prior-seconds", type=float, default=0.0, help="the scan teaches the network for so long")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    args.output.mkdir(parents=True, exist_ok=True)
    file = args.output / "rows.jsonl"
    rows = read_rows(file)
    cases = [case for case in (*CASES, *LATTICES) if not case.real and (args.prior_seconds or case.kind != LATTICE)]
    unknown = set(args.cases or ()) - {case.name for case in cases}
    if unknown:
        raise SystemExit(f"cases: expected some of {[case.name for case in cases]}, found {sorted(unknown)}")
    for case in (case for case in cases if args.cases is None or case.name in args.cases):
        for seed in args.seeds:
            if any((row["case"], row["seed"]) == (case.name, seed) for row in rows):
                continue
            rows.append(measured(case, seed, args.output, seed == args.seeds[0], args.prior_seconds))
            with file.open("a") as stream:
                stream.write(json.dumps(rows[-1]) + "\n")
            print(rows[-1], flush=True)
    with atomic_path(args.output / "object_prior.md") as temporary:
        temporary.write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
