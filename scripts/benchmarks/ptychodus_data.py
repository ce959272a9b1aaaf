"""What ptychodus reads of a simulated scan: products, patterns, training folders, settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ptycho.core.formats import registry
from ptycho.core.formats.record import ScanRecord
from ptycho.core.scan.stream import Frames
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan

__all__ = ["Case", "simulate", "write_inputs", "write_settings"]

ENERGY_EV, DISTANCE_M, PIXEL_M = 8000.0, 1.0, 10e-9
OFF_CENTRE = 7
"""Pixels from the middle of the positions to the middle of the object, along both axes."""
TEST_EVERY = 8
"""Every so many-th pattern validates; all others are trained on."""


@dataclass(frozen=True)
class Case:
    """A scan to simulate."""

    positions: int
    N: int
    step: float
    photons: float
    modes: int
    bad_pixels: int
    seed: int
    dtype: str


def simulate(case: Case) -> ScanRecord:
    """A scan of counts whose object is the truth, its middle off that of the positions."""
    side = case.N + round(case.step * np.ceil(np.sqrt(case.positions)))
    powers = tuple(0.25**mode for mode in range(case.modes))
    settings = ScanSettings(
        shape=(side, side),
        N=case.N,
        count=case.positions,
        photons=case.photons,
        modes=powers,
        units="counts",
        seed=case.seed,
    )
    scan = expose(*plan_scan(settings))
    more = 2 * OFF_CENTRE
    truth = np.pad(scan.object, ((more, 0), (more, 0)), mode="reflect")
    mask = None
    counts = scan.diffraction.astype(case.dtype)
    if case.bad_pixels:
        mask = np.ones((case.N, case.N), bool)
        mask.ravel()[np.random.default_rng(case.seed).choice(mask.size, case.bad_pixels, replace=False)] = False
        counts[:, ~mask] = counts.max()
    return ScanRecord(
        patterns=Frames.of(counts),
        units="counts",
        xcoords=scan.xcoords + more,
        ycoords=scan.ycoords + more,
        probe=scan.probe.reshape(-1, case.N, case.N),
        object=truth,
        origin_px=(100.0, -50.0),
        mask=mask,
        energy_eV=ENERGY_EV,
        distance_m=DISTANCE_M,
        object_pixel_m=PIXEL_M,
    )


def write_inputs(folder: Path, scan: ScanRecord, known_object: bool, half_pixel: bool, all_modes: bool) -> None:
    """Write patterns, product and the folder to train on.

    Args:
        folder: where they go; made when it is not there.
        scan: the scan, with its true object.
        known_object: whether the product holds the true object, else 1 everywhere.
        half_pixel: whether ptychodus counts the middle of an object as (W - 1)/2 (from 1.6 on), else as W/2.
        all_modes: whether it exports every mode of the probe (from 1.7 on), else the first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    assert scan.object is not None and scan.xcoords is not None and scan.ycoords is not None
    assert scan.probe is not None and scan.patterns is not None
    given = scan.object if known_object else np.ones_like(scan.object)
    product = replace(scan, object=given)
    registry.write(folder / "diffraction.h5", scan, "ptychodus-diffraction")
    for name in ("product.h5", "product-in.h5"):  # from 1.5 on, and before
        registry.write(folder / name, product, "ptychodus-product")
    order = np.arange(len(scan.patterns))
    test = order % TEST_EVERY == 0
    shift = 0.5 if half_pixel else 0.0
    bad = np.zeros(scan.patterns.shape[1:], bool) if scan.mask is None else ~scan.mask
    for name, part in (("train_data.npz", order[~test]), ("test_data.npz", order[test])):
        counts = scan.patterns.read(part)
        counts[:, bad] = 0
        x, y = scan.xcoords[part] - shift, scan.ycoords[part] - shift
        np.savez(
            folder / name,
            xcoords=x,
            ycoords=y,
            xcoords_start=x,
            ycoords_start=y,
            diff3d=counts,
            bad_pixels=bad,
            probeGuess=scan.probe if all_modes else scan.probe[0],
            objectGuess=given,
            scan_index=np.zeros(len(part), int),
        )


def write_settings(path: Path, settings: Mapping[str, Mapping[str, object]]) -> None:
    """Write `settings.ini`: values by group and name."""
    lines = []
    for group, values in settings.items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in values.items()), ""]
    path.write_text("\n".join(lines))
