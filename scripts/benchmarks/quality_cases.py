"""What the quality benchmark measures on: one base case, one factor changed at a time, real scans, published pairs.

Simulated scans share the unit of their amplitudes: every file names the same probe, of energy (N/2)^2, whatever the
dose. Networks are trained on other objects of the same kind (other seeds, other photographs), each seen with another
dose, side by side in one scan. A pair of probe and object that others have published is a file that its user fetches;
no network is trained for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ptycho
from ptycho.core.files.npz import open_npz
from ptycho.core.physics.probes import zone_plate_probe
from ptycho.core.simulation.exposure import SimulatedScan, expose
from ptycho.core.simulation.objects import object_from_images
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.core.simulation.scan_paths import step_for_overlap
from ptycho.raw_data import RawData

__all__ = [
    "BASE",
    "CASES",
    "QUICK",
    "SPARSE",
    "Case",
    "as_data",
    "case_scan",
    "chosen_cases",
    "pair_case",
    "scored_region",
    "training_scan",
]

N = 64
SIZE = 256
"""Side of every simulated object, pixels."""
DEFOCUS = 2.6
"""Of the probe that every simulated scan's file names, as in `zone_plate_probe`."""
TEST_SEED, TRAINING_SEED = 0, 1000
TRAINING_DOSES = (1e9, 1e5, 1e4)
TRAINING_OVERLAP = 0.65
SPARSE = 0.4
"""Overlap up to which patterns tell little about each other."""
MARGIN = 2
"""Pixels that the scored region stays inside of the box of the scan positions."""

KINDS: dict[str, dict[str, Any]] = {
    "lines": {},
    "smooth": {"kind": "smooth"},
    "photograph": {},
    "weak phase": {"amplitude": (0.95, 1.0), "phase": (-0.1, 0.1)},
    "strong phase": {"phase": (-3.0, 3.0)},
}
"""Settings of each kind of object, where they differ from those of `ScanSettings`."""
TEST_PHOTOGRAPH = ("camera", "astronaut")
TRAINING_PHOTOGRAPHS = (("coffee", "chelsea"), ("rocket", "hubble_deep_field"), ("retina", "coins"))
"""Pictures of scikit-image that become amplitude and phase."""


@dataclass(frozen=True)
class Case:
    """A scan to reconstruct."""

    name: str
    kind: str = "lines"
    """Of the object (`KINDS`); for a real scan its name. The networks of a case are those of its kind."""
    photons: float = 1e9
    """Per pattern; of a real scan it is in the file, or unknown."""
    overlap: float = 0.65
    defocus: float = DEFOCUS
    """Of the probe that was really there; the file names that of `DEFOCUS`."""
    detector: Mapping[str, float] = field(default_factory=dict)
    """What the detector misses, as in `ScanSettings`."""
    file: str | None = None
    """Of a real scan, or of a pair."""
    pair: bool = False
    """Whether the file has a probe and an object, of which a scan is simulated."""

    @property
    def real(self) -> bool:
        """Whether the scan was measured, so that there is no truth."""
        return self.file is not None and not self.pair

    @property
    def runs(self) -> int:
        """How often it is measured: medians are taken where it matters most."""
        return 3 if self.real or self.name == "base" else 1

    @property
    def refine_probe(self) -> bool:
        """Whether iterative methods refine the probe: where that of the file is wrong."""
        return self.real or self.defocus != DEFOCUS

    @property
    def starved(self) -> bool:
        """Whether the data leave much open: little overlap or few photons."""
        return not self.real and (self.overlap <= SPARSE or self.photons <= 1e4)


BASE = Case("base")
CASES = (
    BASE,
    Case("smooth", kind="smooth"),
    Case("photograph", kind="photograph"),
    Case("weak phase", kind="weak phase"),
    Case("strong phase", kind="strong phase"),
    Case("1e6 photons", photons=1e6),
    Case("1e4 photons", photons=1e4),
    Case("1e3 photons", photons=1e3),
    Case("80 % overlap", overlap=0.80),
    Case("40 % overlap", overlap=0.40),
    Case("20 % overlap", overlap=0.20),
    Case("-5 % overlap", overlap=-0.05),
    Case("probe error", defocus=1.1 * DEFOCUS),
    Case("missing pixels", detector={"gap_width": 3, "gap_offset": 8, "beam_stop": 5.0}),
    Case("siemens star", kind="siemens star", file="siemens_star_128.npz"),
    Case("tungsten", kind="tungsten", file="tungsten_64.npz"),
)
QUICK = ("base", "photograph", "1e4 photons", "20 % overlap", "siemens star")


def pair_case(path: Path) -> Case:
    """The case of a file with the arrays `probeGuess` (N, N) or (M, N, N) and `objectGuess` (H, W)."""
    return Case(path.stem, kind=path.stem, file=str(path), pair=True)


def chosen_cases(names: list[str] | None, quick: bool, real: bool) -> list[Case]:
    """The cases of a run: those named, else the quick ones or all; real scans only where their folder is known."""
    wanted = names or (QUICK if quick else [case.name for case in CASES])
    unknown = set(wanted) - {case.name for case in CASES}
    if unknown:
        raise SystemExit(f"cases: expected some of {[case.name for case in CASES]}, found {sorted(unknown)}")
    return [case for case in CASES if case.name in wanted and (real or not case.real)]


def case_scan(case: Case, real_folder: Path | None, seed: int = TEST_SEED) -> RawData:
    """The scan of a case; a simulated one, drawn by a seed, has its truth as `objectGuess`."""
    if case.pair:
        return pair_scan(case)
    if case.file is not None:
        assert real_folder is not None
        return RawData.from_file(real_folder / case.file)
    return as_data(simulated(case.kind, case.photons, case.overlap, seed, TEST_PHOTOGRAPH, case.defocus, case.detector))


def as_data(found: SimulatedScan) -> RawData:
    """The scan of what was recorded, with the probe that every file names and the truth as `objectGuess`."""
    return RawData(
        found.xcoords,
        found.ycoords,
        None,
        None,
        in_probe_units(found),
        zone_plate_probe(N, defocus=DEFOCUS),
        objectGuess=found.object,
        mask=found.mask,
        metadata={"nphotons": found.recorded},
        units="amplitude",
    )


def pair_scan(case: Case) -> RawData:
    """A scan of the object of a pair with its probe, with the dose and overlap of the base case."""
    assert case.file is not None
    with open_npz(Path(case.file)) as file:
        probe, image = np.asarray(file["probeGuess"]), np.asarray(file["objectGuess"])
    return ptycho.simulate(object=image, probe=probe, photons=case.photons, overlap=case.overlap, seed=TEST_SEED)


def training_scan(case: Case, real_folder: Path | None) -> RawData:
    """What the networks of a case's kind are trained on: unseen objects of that kind, or the real scan itself."""
    if case.real:
        return case_scan(case, real_folder)
    parts = [
        simulated(case.kind, photons, TRAINING_OVERLAP, TRAINING_SEED + number, TRAINING_PHOTOGRAPHS[number])
        for number, photons in enumerate(TRAINING_DOSES)
    ]
    lefts = SIZE * np.arange(len(parts))
    return RawData(
        np.concatenate([part.xcoords + left for part, left in zip(parts, lefts, strict=True)]),
        np.concatenate([part.ycoords for part in parts]),
        None,
        None,
        np.concatenate([in_probe_units(part) for part in parts]),
        zone_plate_probe(N, defocus=DEFOCUS),
        # one number for three doses: a common factor of the loss, which is relative to the mean count
        metadata={"nphotons": float(np.median(TRAINING_DOSES))},
        units="amplitude",
    )


def simulated(
    kind: str,
    photons: float,
    overlap: float,
    seed: int,
    photograph: tuple[str, str],
    defocus: float = DEFOCUS,
    detector: Mapping[str, float] | None = None,
) -> SimulatedScan:
    """Record one object; the step follows from the probe that the file will name."""
    step = step_for_overlap(zone_plate_probe(N, defocus=DEFOCUS), overlap)
    settings = ScanSettings(
        **{
            **KINDS[kind],
            "shape": (SIZE, SIZE),
            "N": N,
            "probe_settings": {"defocus": defocus},
            "step": step,
            "photons": photons,
            "seed": seed,
            **(detector or {}),
        }
    )
    pictures = None
    if kind == "photograph":
        amplitude, phase = (picture(name) for name in photograph)
        pictures = object_from_images(amplitude, phase, (SIZE, SIZE), settings.amplitude, settings.phase)
    return expose(*plan_scan(settings, object=pictures))


def in_probe_units(scan: SimulatedScan) -> NDArray[np.float32]:
    """Amplitudes (n, N, N) in the unit in which the probe's energy is (N/2)^2."""
    return scan.diffraction * np.float32(N / 2 / np.linalg.norm(scan.probe))


def picture(name: str) -> NDArray[np.float64]:
    """The largest square in the middle of a picture that scikit-image ships, grey."""
    import skimage.data

    image = getattr(skimage.data, name)().astype(np.float64)
    grey = image.mean(axis=2) if image.ndim == 3 else image
    side = min(grey.shape)
    top, left = ((length - side) // 2 for length in grey.shape)
    return grey[top : top + side, left : left + side]


def scored_region(data: RawData) -> tuple[int, int, int, int]:
    """The box of the scan positions (y0, y1, x0, x1), less `MARGIN`."""
    (y0, y1), (x0, x1) = (
        (int(np.ceil(coords.min())) + MARGIN, int(np.floor(coords.max())) - MARGIN)
        for coords in (data.ycoords, data.xcoords)
    )
    return y0, y1, x0, x1
