"""A probe that the patterns alone tell, whatever the beam, and what is said where they do not."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.physics.probes import make_probe, probe_overlap
from ptycho.core.refinement.run import refine_scan
from ptycho.core.simulation.exposure import ScanPlan, expose
from ptycho.core.simulation.objects import make_object
from ptycho.errors import DataError
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.probe_search import searched_probe

N = 32
BEAMS = {
    "zone_plate": {"pupil_radius": 8.0, "defocus": 1.6},
    "gaussian": {"fwhm": 8.0},
    "disk": {"diameter": 14.0},
}
refine = partial(refine_scan, dtype=np.float32)


def simulated(kind: str, **settings: float) -> tuple[RawData, np.ndarray]:
    """100 patterns of counts without a probe, and the probe."""
    rng = np.random.default_rng(4)
    x, y = (
        axis.ravel() + rng.uniform(-0.5, 0.5, 100)
        for axis in np.meshgrid(17 + 3.0 * np.arange(10), 18 + 3.0 * np.arange(10))
    )
    probe = make_probe(kind, N, **settings)
    made = expose(ScanPlan(make_object("lines", (64, 62), rng), probe, x, y, 1e6, "counts"), rng)
    return RawData(x, y, None, None, made.diffraction, None, units="counts"), probe


@pytest.mark.parametrize("kind", ["disk", pytest.param("gaussian", marks=pytest.mark.slow)])
def test_a_beam_is_found_and_the_right_start_is_best(kind: str) -> None:
    scan, truth = simulated(kind, **BEAMS[kind])
    probe, text, tried = searched_probe(scan, refine)
    assert probe.shape == (1, N, N)
    assert probe_overlap(probe, truth[None]) > 0.97
    assert tried[0].error < 0.2
    assert tried[0].name in text
    assert f"{len(tried)} starts" in text
    assert tried[0].name.startswith("disk 0.4" if kind == "disk" else "mean modulus")


def test_the_same_scan_gives_the_same_probe_with_some_pixels_masked() -> None:
    scan, truth = simulated("zone_plate", **BEAMS["zone_plate"])
    mask = np.ones((N, N), bool)
    mask[10:12], mask[16, 16] = False, False
    spoilt = RawData(**vars(replace(scan.scan_file(), mask=mask, diff3d=np.where(mask, scan.diff3d, 10**6))))
    probe, text, tried = searched_probe(spoilt, refine)
    assert tried[0].name.startswith("mean modulus, out of focus by +0.")
    assert probe_overlap(probe, truth[None]) > 0.97
    again = searched_probe(spoilt, refine)
    np.testing.assert_array_equal(again[0], probe)
    assert again[1:] == (text, tried)


def test_positions_that_are_wrong_are_no_better_than_chance() -> None:
    scan, _ = simulated("zone_plate", **BEAMS["zone_plate"])
    order = np.random.default_rng(1).permutation(len(scan))
    wrong = RawData(scan.xcoords[order], scan.ycoords[order], None, None, scan.diff3d, None, units="counts")
    _, text, tried = searched_probe(wrong, refine)
    assert tried[0].error > 0.95
    assert "no better than chance: give a probe with --probe, or look for wrong axes" in text


def test_what_tells_nothing_is_an_error() -> None:
    scan, _ = simulated("disk", **BEAMS["disk"])
    few = RawData(scan.xcoords[:4], scan.ycoords[:4], None, None, scan.diff3d[:4], None, units="counts")
    with pytest.raises(DataError, match="expected 5 or more, found 4; give one: --probe"):
        searched_probe(few, refine)
    dark = RawData(scan.xcoords, scan.ycoords, None, None, 0 * scan.diff3d, None, units="counts")
    with pytest.raises(DataError, match="expected light in them, found none"):
        searched_probe(dark, refine)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "error"), [("tungsten_64", 0.0072), ("siemens_star_128", 0.0120)])
def test_real_scans_are_explained_without_their_probe(scan_dir: Path, name: str, error: float) -> None:
    """With the probe of the file 20 iterations leave 0.0070 and 0.0128, 80 leave 0.0060 and 0.0112."""
    from ptycho_torch.refine import refine as refine_torch

    given = RawData.from_file(scan_dir / f"{name}.npz")
    bare = RawData(**vars(replace(given.scan_file(), probeGuess=None, units=given.units)))
    probe, _, tried = searched_probe(bare, refine_torch)
    assert tried[0].error < 0.5
    scale = np.sqrt(bare.mean_energy / np.sum(np.abs(probe) ** 2))
    assert min(refine_torch(bare.with_probe(probe * scale), iterations=20).error_history) < error
