"""The effects of real scans beside pty-chi: each planted in a simulated scan, and switched on in both programs.

Both begin flat, with the probe that the file names, on the same patterns; errors are those of the object against the
truth (`ptycho.core.quality.score`), in the box of the scan positions. Seconds leave out imports, reading and scoring.
What is wanted: how long each takes to the least error that pty-chi reaches. pty-chi 2.2 has no background: there it
runs without the option; the width of a blur, which ours finds, it is told. Its settings are its own but where others
did better: single positions move in longer steps. Where positions are wrong both hold the probe, which is the true one.

    python scripts/benchmarks/effects.py --ptychi-python VENV/bin/python [--ptychi-path DIR] [--effects modes affine]
        [--peer-seconds 40] [--json effects.json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from peer import Peer, run_peer
from quality_report import seconds_until
from quality_scores import Snapshot, error_of, target_frame

from ptycho.core.files.atomic import atomic_path
from ptycho.core.physics.multislice import gap_distance_m, gap_of, projected
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.probes import with_modes
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.core.units import wavelength_m
from ptycho.raw_data import RawData

__all__ = ["EFFECTS", "Effect", "compared", "measure", "planted"]

Row = dict[str, Any]
Curve = list[tuple[int, float, float]]
"""(step, seconds, error)."""

ENERGY_KEV, PIXEL_NM = 8.0, 10.0
"""Of the scans whose waves go through free space."""
PIXEL_M, WAVELENGTH_M = 1e-9 * PIXEL_NM, wavelength_m(1e3 * ENERGY_KEV)
THICKNESS_M = 20e-6
FRESNEL = 0.05
STAR = ScanSettings(
    kind="siemens_star", shape=(110, 110), N=32, step=5, photons=1e6, energy_keV=ENERGY_KEV, object_pixel_nm=PIXEL_NM
)
"""256 patterns of a star."""
MARKS = (3, 5, 8, 12, 20, 30, 45, 70, 100, 150)
"""Iterations after which our object is looked at. Each is a run of its own: looking costs it nothing."""


def _slices(scan: RawData) -> dict[str, Any]:
    return {"slices": 2, "gap": gap_of(2, THICKNESS_M, WAVELENGTH_M, PIXEL_M, scan.N)}


def _slices_of_peer() -> list[str]:
    """The same distance in its words."""
    distance = gap_distance_m(gap_of(2, THICKNESS_M, WAVELENGTH_M, PIXEL_M, STAR.N), PIXEL_M)
    return ["--slice-gap-m", str(distance), *_lengths()]


def _near_of_peer() -> list[str]:
    return ["--distance-m", str(PIXEL_M**2 / (WAVELENGTH_M * FRESNEL)), *_lengths()]


def _lengths() -> list[str]:
    return ["--wavelength-m", str(WAVELENGTH_M), "--pixel-m", str(PIXEL_M)]


@dataclass(frozen=True)
class Effect:
    """What is planted, and the option that finds it."""

    planted: Mapping[str, Any]
    """Where the settings of the scan differ from those of `STAR`."""
    ours: Callable[[RawData], dict[str, Any]]
    """Arguments of `refine`."""
    peer: Sequence[str] = ()
    """Arguments of `peer_ptychi.py`."""
    refine_probe: bool = True
    """Whether the probe moves, in both programs."""
    marks: tuple[int, ...] = MARKS
    notes: str = ""
    known: Mapping[str, Any] = field(default_factory=dict)
    """What the metadata of the scan say."""


EFFECTS = {
    "none": Effect({}, lambda scan: {}),
    "modes": Effect(
        {"modes": (0.7, 0.2, 0.1)},
        lambda scan: {"probe": with_modes(scan.probeGuess, 3)},
        ("--modes", "3"),
    ),
    "opr": Effect({"probe_drift": 0.5}, lambda scan: {"variable_probe": 2}, ("--opr", "2")),
    "affine": Effect(
        {"stage_scale": (1.01, 0.99), "stage_rotation": 0.5, "stage_shear": 0.5},
        lambda scan: {"refine_positions": True},
        ("--positions", "affine"),
        refine_probe=False,
    ),
    "positions": Effect(
        {"position_error": 1.0, "N": 64, "shape": (136, 136), "step": 6},
        lambda scan: {"refine_positions": True, "position_bound_px": 4.0},
        ("--positions", "single", "--positions-step", "10", "--positions-limit-px", "0.5"),
        refine_probe=False,
    ),
    "background": Effect(
        {"background": 30.0}, lambda scan: {"refine_background": "constant"}, notes="pty-chi has no background"
    ),
    "blur": Effect(
        {"detector_blur": 1.0},
        lambda scan: {"refine_blur": True},
        ("--blur-px", "1.0"),
        notes="pty-chi is told the width",
    ),
    "slices": Effect(
        {"slices": 2, "thickness": THICKNESS_M, "amplitude": (0.8, 1.0), "phase": (-0.8, 0.0)},
        _slices,
        _slices_of_peer(),
    ),
    "near field": Effect(
        {"fresnel_number": FRESNEL, "probe": "diffuser", "N": 64, "shape": (160, 160), "step": 8, "photons": 1e7},
        lambda scan: {},
        _near_of_peer(),
        known=NearField(FRESNEL).noted(),
    ),
}


def planted(effect: Effect) -> RawData:
    """The scan, with the strongest mode of the beam as it is on average, and the truth as `objectGuess`."""
    plan, rng = plan_scan(ScanSettings(**{**vars(STAR), **effect.planted}))
    if plan.near_field is not None:  # between pixels pty-chi moves the probe, but not the pattern with it
        plan = replace(plan, xcoords=np.rint(plan.xcoords), ycoords=np.rint(plan.ycoords))
    found = expose(plan, rng)
    probe = found.probe if found.probe.ndim == 2 else found.probe[0]
    energy = np.linalg.norm(found.probe) / np.linalg.norm(probe)
    return RawData(
        found.xcoords,
        found.ycoords,
        None,
        None,
        found.diffraction,
        (probe * energy).astype(np.complex64),
        objectGuess=projected(found.object),
        mask=found.mask,
        metadata={"nphotons": found.recorded, **effect.known},
        units=found.units,
    )


def curve_of(snapshots: Sequence[Snapshot], scan: RawData) -> Curve:
    """(step, seconds, error) of what was found along the way."""
    target = target_frame(scan)
    return [(each.step, each.seconds, error_of(each, target, scan)) for each in snapshots]


def ours(scan: RawData, effect: Effect, refine: Callable[..., Refinement]) -> list[Snapshot]:
    """Our objects, until the refinement ends by itself or at the last mark."""
    options = {"refine_probe": effect.refine_probe, **effect.ours(scan)}
    refine(scan, None, 1, **options)  # what is done once in a process is not the refinement's
    snapshots = []
    for mark in effect.marks:
        made = refine(scan, None, mark, **options)
        snapshots.append(Snapshot(made.iterations, made.seconds, made.object, made.probe, made.frame))
        if made.iterations < mark:
            break
    return snapshots


def compared(curve: Curve, peer: Curve) -> dict[str, float | None]:
    """Final errors, and the seconds of both to the least error of the peer; None where ours does not reach it."""
    least = min(peer, key=lambda point: point[2])
    reached = seconds_until(curve, least[2])
    return {
        "ours": curve[-1][2],
        "our_seconds": curve[-1][1],
        "peer": peer[-1][2],
        "peer_seconds": peer[-1][1],
        "least": least[2],
        "peer_until": least[1],
        "ours_until": reached,
        "times": None if reached is None else least[1] / reached,
    }


def measure(name: str, refine: Callable[..., Refinement], peer: Peer | None) -> Row:
    """Both curves of an effect, and how they compare."""
    effect = EFFECTS[name]
    scan = planted(effect)
    row: Row = {"effect": name, "patterns": len(scan), "N": scan.N, "note": effect.notes}
    row["curve"] = curve_of(ours(scan, effect, refine), scan)
    if peer is not None:
        found = run_peer(scan, peer, 0, [*(["--refine-probe"] if effect.refine_probe else []), *effect.peer])
        row |= {"peer_curve": curve_of(found.snapshots, scan), "version": found.version}
        row |= compared(row["curve"], row["peer_curve"])
    return row


def table(rows: Sequence[Row]) -> str:
    """The figures as Markdown."""
    lines = [
        "| effect | ours, end | pty-chi, end | its least error | its seconds | ours | times sooner |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        note = f" ({row['note']})" if row["note"] else ""
        if "peer" not in row:
            step, seconds, error = row["curve"][-1]
            lines.append(f"| {row['effect']}{note} | {error:.4f} ({step}, {seconds:.1f} s) | | | | | |")
            continue
        until = "never |" if row["ours_until"] is None else f"{row['ours_until']:.2f} | {row['times']:.0f}"
        ends = " | ".join(
            f"{row[error]:.4f} ({row[seconds]:.1f} s)"
            for error, seconds in (("ours", "our_seconds"), ("peer", "peer_seconds"))
        )
        lines.append(f"| {row['effect']}{note} | {ends} | {row['least']:.4f} | {row['peer_until']:.1f} | {until} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--effects", nargs="+", choices=EFFECTS, default=list(EFFECTS), help="only these")
    parser.add_argument("--ptychi-python", type=Path, help="interpreter with pty-chi (default: left out)")
    parser.add_argument("--ptychi-path", help="PYTHONPATH for it")
    parser.add_argument("--peer-seconds", type=float, default=40.0, help="of a run of pty-chi")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write curves and figures there")
    args = parser.parse_args()
    import torch

    from ptycho_torch.refine import refine

    torch.set_num_threads(args.threads)
    peer = None
    if args.ptychi_python is not None:
        peer = Peer(args.ptychi_python, args.ptychi_path, args.peer_seconds, args.threads)
    rows = []
    for name in args.effects:
        rows.append(measure(name, refine, peer))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows))
    if args.json is not None:
        with atomic_path(args.json) as path:
            path.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
