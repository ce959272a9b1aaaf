"""What the verdict says of planted nonsense and of clean scans, both simulated, and of measured ones.

    python scripts/benchmarks/planted_faults.py [--cases nonsense clean] [--scan FILE ...] [--json OUT.json]

`nonsense` are twelve kinds of fault (all seven wrong orientations are one kind), none of which may be green; each has
to name its cause, or the step that finds it. `clean` are fifty scans from 1e3 to 1e9 photons of every kind of object,
probe and path, overlap 30 to 85 %: none may be red and at most two yellow. `truth` is the error of the complex object
within the box of the scan positions after shift, phase plane and scale are removed, where the true object is known; the
reconstruction does not see it. A row tells what `ptycho reconstruct --force` says, and what it would have
refused without.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ptycho.config.options import IterationOptions
from ptycho.core.doctor.preflight import blocking
from ptycho.core.files.atomic import atomic_path
from ptycho.core.physics.probes import zone_plate_probe
from ptycho.core.quality.orientation import ORIENTATIONS
from ptycho.core.quality.score import score
from ptycho.core.simulation.exposure import SimulatedScan, expose
from ptycho.core.simulation.objects import OBJECTS
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.core.simulation.scan_paths import SCAN_PATHS
from ptycho.raw_data import RawData
from ptycho.workflows.backend import BackendName
from ptycho.workflows.front_door import Request, reconstruct_scan

Array = NDArray[Any]

N = 32
SHADOW = 0.4
"""Pixels by which the shadow of the near field moves for each pixel of the object as far field would have them."""
LIT = 0.05
"""Light of a pixel, relative to the median, from which on it is compared with the truth."""
USUAL = ScanSettings(N=N, shape=(76, 76), step=4.0, jitter=0.5, photons=1e6, seed=3, units="counts")
"""121 patterns of a probe some 12 pixels wide."""
PROBE_SETTINGS: dict[str, dict[str, float]] = {
    "zone_plate": {"pupil_radius": 7.0, "defocus": 1.3},
    "gaussian": {"fwhm": 8.0},
    "disk": {"diameter": 12.0},
}


@dataclass(frozen=True)
class Case:
    """A scan and how it is reconstructed."""

    name: str
    data: RawData
    truth: Array | None
    options: IterationOptions = field(default_factory=IterationOptions)


def simulated(settings: ScanSettings) -> SimulatedScan:
    """The scan of these settings, of a probe that fits the small window."""
    settings = replace(settings, probe_settings=PROBE_SETTINGS[settings.probe])
    return expose(*plan_scan(settings))


def case(name: str, made: SimulatedScan, options: IterationOptions | None = None, **changes: Any) -> Case:
    """A case of a simulated scan, some of its parts changed; of several modes of the probe the scan knows one."""
    probe = made.probe
    if probe.ndim == 3:
        probe = probe[0] * np.float32(np.linalg.norm(probe) / np.linalg.norm(probe[0]))
    parts: dict[str, Any] = {
        "x": made.xcoords,
        "y": made.ycoords,
        "patterns": made.diffraction,
        "probe": probe,
        "units": made.units,
    }
    parts |= changes
    x, y, patterns, probe, units = parts.values()
    known = {"nphotons": made.recorded}
    data = RawData(x, y, None, None, patterns, probe, mask=made.mask, units=units, metadata=known)
    return Case(name, data, made.object, options or IterationOptions())


def nonsense() -> Iterator[Case]:
    """The twelve, each planted in a scan that is clean without."""
    usual, rng = simulated(USUAL), np.random.default_rng(0)
    sparse = simulated(replace(USUAL, shape=(160, 160), step=14.0))
    yield case("no overlap", sparse)
    wide = simulated(replace(USUAL, shape=(160, 160), step=14.0, jitter=0.0))
    yield case("shuffled, no overlap", wide, patterns=rng.permutation(wide.diffraction))
    yield case("shuffled", usual, patterns=rng.permutation(usual.diffraction))
    shadows = case("near field", near_field(usual, rng), x=usual.xcoords / SHADOW, y=usual.ycoords / SHADOW)
    yield replace(shadows, truth=None)
    for orientation in ORIENTATIONS[1:]:
        turned = np.ascontiguousarray(orientation.patterns(usual.diffraction))
        yield case(f"orientation {orientation.name}", usual, patterns=turned)
    dim = simulated(replace(USUAL, photons=1e3))
    yield case("6 modes on noise", dim, IterationOptions(modes=6))
    mixed = simulated(replace(USUAL, modes=(0.4, 0.3, 0.2, 0.1)))
    yield case("2 of 4 modes", mixed, IterationOptions(modes=2))
    bimodal = simulated(replace(USUAL, modes=(0.6, 0.4)))
    yield case("1 of 2 modes", bimodal, IterationOptions(modes=1))
    for gain in (7, 0.2):
        values = np.round(gain * usual.diffraction).astype(np.uint32)
        yield case(f"gain {gain:g}", usual, patterns=values)
    insane = usual.diffraction.copy()
    insane[57] = rng.poisson(usual.diffraction.mean(), insane[57].shape)
    yield case("one insane frame", usual, patterns=insane)
    for photons in (1e4, 1e6):
        yield case(
            f"beam falls to 30 %, {photons:.0e}",
            simulated(replace(USUAL, photons=photons)),
            patterns=fading(photons, rng),
        )
    yield case("probe off centre", usual, probe=np.roll(usual.probe, (3, -4), axis=(0, 1)))
    other = zone_plate_probe(N, 5.0, defocus=2.2) * np.float32(np.linalg.norm(usual.probe) / (N / 2))
    yield case("probe of another zone plate", usual, probe=other)
    for sigma in (1.5, 3.0):
        yield case(f"positions off by {sigma:g} px", simulated(replace(USUAL, position_error=sigma)))


def near_field(made: SimulatedScan, rng: np.random.Generator) -> SimulatedScan:
    """The shadow of the object in a spherical beam at every point, where far-field patterns are expected."""
    q = np.fft.fftfreq(N)
    kernel = np.exp(-1j * np.pi * 12.0 * (q[:, None] ** 2 + q[None, :] ** 2))
    wide = np.fft.ifft2(np.fft.fft2(zone_plate_probe(N, 7.0, defocus=1.3)) * kernel)
    y, x = np.indices((N, N)) - N / 2
    wide = np.exp(-(x**2 + y**2) / (2 * 9.0**2)) * np.exp(1j * (x**2 + y**2) / 60) + 0.02 * wide
    patterns = []
    for x0, y0 in zip(np.rint(made.xcoords).astype(int), np.rint(made.ycoords).astype(int), strict=True):
        patch = made.object[y0 - N // 2 : y0 + N // 2, x0 - N // 2 : x0 + N // 2]
        patterns.append(np.abs(np.fft.ifft2(np.fft.fft2(wide * patch) * kernel)) ** 2)
    expected = np.stack(patterns)
    counts = rng.poisson(expected * (made.photons / expected.sum(axis=(1, 2)).mean())).astype(np.uint32)
    return replace(made, diffraction=counts)


def fading(photons: float, rng: np.random.Generator) -> Array:
    """Patterns of the usual scan under a beam that falls to 30 % on the way."""
    made = simulated(replace(USUAL, photons=photons))
    left = 0.3 ** (np.arange(len(made.diffraction)) / (len(made.diffraction) - 1))
    return rng.binomial(made.diffraction, left[:, None, None]).astype(np.uint32)


def clean() -> Iterator[Case]:
    """Fifty scans: doses and overlaps spread evenly, kinds of object, probe and path in turn."""
    kinds, probes, paths = sorted(OBJECTS), sorted(PROBE_SETTINGS), sorted(SCAN_PATHS)
    overlaps = np.random.default_rng(1).permutation(np.linspace(0.30, 0.85, 50))
    for j, overlap in enumerate(overlaps):
        photons = 10 ** (3 + 6 * j / 49)
        kind, probe, path = kinds[j % len(kinds)], probes[j % len(probes)], paths[j % len(paths)]
        side = int(N + 4 + 14 * 10 * (1 - overlap))
        settings = replace(USUAL, kind=kind, probe=probe, path=path)
        settings = replace(settings, photons=photons, step=None, overlap=float(overlap), shape=(side, side))
        settings = replace(settings, seed=100 + j, modes=(0.7, 0.3) if j % 7 == 3 else (1.0,))
        made = simulated(replace(settings, units="amplitude" if j % 2 else "counts"))
        yield case(f"{kind}, {probe}, {path}, {photons:.0e}, {100 * overlap:.0f} %", made)


def truth_error(found: Any, truth: Array) -> float:
    """Error of the complex object within the box of the scan positions, pixels that saw light."""
    x, y = found.xcoords, found.ycoords
    box = int(np.ceil(y.min())), int(np.floor(y.max())), int(np.ceil(x.min())), int(np.floor(x.max()))
    frame = found.frame
    placed = truth.astype(np.complex64)  # where nothing was seen there is nothing to be wrong
    y0, x0 = max(frame.y0, 0), max(frame.x0, 0)
    lit = found.coverage > LIT * np.median(found.coverage[found.coverage > 0])
    cut = np.where(lit, found.object, np.nan)[y0 - frame.y0 :, x0 - frame.x0 :]
    h, w = min(cut.shape[0], truth.shape[0] - y0), min(cut.shape[1], truth.shape[1] - x0)
    inside = placed[y0 : y0 + h, x0 : x0 + w]
    np.copyto(inside, cut[:h, :w], where=np.isfinite(cut[:h, :w]))
    region = (box[0] + frame.y0, box[1] + frame.y0, box[2] + frame.x0, box[3] + frame.x0)
    return float(score(placed, truth, region).complex_nrmse)


def row(one: Case, backend: BackendName) -> dict[str, Any]:
    """What is said of a case."""
    begun = time.process_time()
    request = Request(backend, one.options, force=True, tell=lambda line: None)
    outcome = reconstruct_scan(one.data, request)
    found = outcome.reconstruction
    trust = found.trust
    assert trust is not None
    return {
        "case": one.name,
        "grade": trust.grade,
        "verdict": trust.verdict,
        "refused": [f"{one.name}: {one.sentence}" for one in blocking(outcome.diagnosis)],
        "ratio": trust.overall_ratio,
        "unexplained": trust.unexplained,
        "foretold": float("nan") if trust.foretold is None else trust.foretold.share,
        "modes": len(found.probe),
        "iterations": len(found.error_history) - 1,
        "truth": None if one.truth is None else truth_error(found, one.truth),
        "seconds": time.process_time() - begun,
        "seconds_of_verdict": found.timings["verdict"],
    }


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", choices=("nonsense", "clean"), default=("nonsense", "clean"))
    parser.add_argument("--only", help="part of the name of a case")
    parser.add_argument("--scan", type=Path, nargs="*", default=[], help="measured scans")
    parser.add_argument("--backend", choices=get_args(BackendName), default="pytorch")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = []
    for one in (*(case for name in asked.cases for case in CASES[name]()), *map(measured, asked.scan)):
        if asked.only and asked.only not in one.name:
            continue
        rows.append(row(one, asked.backend))
        print(line(rows[-1]), flush=True)
    for grade in ("to the noise", "usable", "fails", "unknown"):
        print(f"{grade}: {sum(one['grade'] == grade for one in rows)}")
    if asked.json is not None:
        with atomic_path(asked.json) as temporary:
            temporary.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def line(one: dict[str, Any]) -> str:
    """A row as text."""
    numbers = f"foretold {one['foretold']:.2f}, left {one['unexplained']:.2f}, ratio {one['ratio']:.3g}"
    truth = "" if one["truth"] is None else f", truth {one['truth']:.3f}"
    times = f"{one['seconds']:.1f} s, verdict {one['seconds_of_verdict']:.1f} s"
    refused = "".join(f"\n    refused without --force: {said}" for said in one["refused"])
    return f"{one['case']}: {one['grade'].upper()} ({numbers}{truth}, {times})\n    {one['verdict']}{refused}"


def measured(path: Path) -> Case:
    """A scan from a file, whose object nobody knows."""
    return Case(path.name, RawData.from_file(path), None)


CASES: dict[str, Callable[[], Iterator[Case]]] = {"nonsense": nonsense, "clean": clean}

if __name__ == "__main__":
    main()
