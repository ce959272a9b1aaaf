"""Thick samples from the lengths that a scan tells to slices that are right, their distance, and the trust in them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from ptycho.config.options import IterationOptions
from ptycho.core.physics.multislice import projected
from ptycho.core.physics.near_field import NearField
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.trust import ON_HOST
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.effects.thick import cuts, slicing, thickness_advice
from ptycho.workflows.front_door import Request, reconstruct_scan
from ptycho.workflows.iteration import iteration_plan
from ptycho.workflows.iteration.iterate import iterate
from ptycho.workflows.iteration.refined_result import measured_reconstruction
from ptycho.workflows.solver import Solver
from ptycho.workflows.validation.foretell import clusters_of, foretell
from ptycho_torch.refine import refine

SOLVER = Solver(refine, ON_HOST)

Simulated = Callable[..., RawData]
KNOWN = {"energy_eV": 8e3, "object_pixel_m": 10e-9}
THICK: dict[str, Any] = {"slices": 2, "thickness": 24e-6}
HELD: dict[str, Any] = {"refine_probe": False, "modes": None}


def scan_of(slices: int, **others: Any) -> tuple[RawData, np.ndarray]:
    """A scan of a star and, behind it, dead leaves, and the slices."""
    usual: dict[str, Any] = {
        **{"N": 32, "shape": (80, 80), "step": 4.0, "photons": 1e7, "seed": 3, "units": "counts"},
        **{"kind": "siemens_star", "amplitude": (0.8, 1.0), "phase": (-0.8, 0.0)},
        **{"energy_keV": 8.0, "object_pixel_nm": 10.0, **(THICK if slices > 1 else {})},
    }
    settings = ScanSettings(**(usual | others))
    made = expose(*plan_scan(settings))
    scan = RawData(
        *(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe),
        metadata=settings.geometry,
        units="counts",
    )
    return scan, made.object


@pytest.fixture(scope="module")
def thick() -> tuple[RawData, np.ndarray]:
    """Two slices."""
    return scan_of(2)


def error_of(found: np.ndarray, truth: np.ndarray) -> float:
    """Relative to the contrast, but for a factor and a slope of the phase, which two slices may share otherwise."""
    ratio = np.conj(found) * truth
    slope = [
        np.angle((ratio.take(range(1, n), k) * ratio.take(range(n - 1), k).conj()).sum())
        for k, n in enumerate(ratio.shape)
    ]
    y, x = np.indices(found.shape)
    found = found * np.exp(1j * (slope[0] * y + slope[1] * x))
    found = found * np.vdot(found, truth) / np.vdot(found, found)
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth - truth.mean()))


def inside(image: np.ndarray, frame: Any = None) -> np.ndarray:
    """The middle of an object, of the truth in a frame."""
    if frame is not None:
        image = image[..., frame.y0 : frame.y0 + frame.height, frame.x0 : frame.x0 + frame.width]
    return image[..., 22:-22, 22:-22]


def test_two_slices_are_found_that_one_cannot_explain(thick) -> None:
    scan, truth = thick
    one, two = (iterate(scan, SOLVER, IterationOptions(iterations=40, **HELD, **extra)) for extra in ({}, THICK))
    found, expected = two.refinement, inside(truth, two.refinement.frame)
    errors = [error_of(*pair) for pair in zip(inside(found.slices), expected, strict=True)]
    assert max(errors) < 0.25 and error_of(inside(found.object), projected(expected)) < 0.2
    assert error_of(inside(one.refinement.object), projected(expected)) > 0.3
    assert one.refinement.slices is None
    assert two.notes[-1] == "The object is thick: 2 slices 1.2e-05 m apart, 2.4e-05 m in the whole"
    # the trust, and what neighbours foretell, go through the slices too
    result = measured_reconstruction(found, scan, ON_HOST)
    assert result.slice_distance_m == pytest.approx(12e-6) and result.trust.grade == "to the noise"
    assert measured_reconstruction(one.refinement, scan, ON_HOST).trust.grade != "to the noise"
    sliced = partial(refine, slices=2)
    assert foretell(result, clusters_of(result, scan), scan, Solver(sliced, ON_HOST)).share > 0.8


def test_slices_of_a_thin_sample_are_given_up(monkeypatch) -> None:
    """Nothing is found where nothing is: the very object of one slice, and it is said."""
    monkeypatch.setattr(iteration_plan, "SLICED_ITERATIONS", 8)
    scan, _ = scan_of(1)
    usual: dict[str, Any] = {"iterations": 3, "likelihood": "amplitude", **HELD}
    asked = {**THICK, "refine_thickness": True}
    one, two = (
        iterate(scan, Solver(refine_scan, ON_HOST), IterationOptions(**usual, **extra)) for extra in ({}, asked)
    )
    np.testing.assert_array_equal(one.refinement.object, two.refinement.object)
    assert two.refinement.slices is None and two.notes[0].startswith("The object is taken to be thin")
    assert "by one slice" in two.notes[0]
    few, many = cuts(scan, IterationOptions(slices=5, thickness=24e-6))
    assert (few["slices"], many["slices"]) == (2, 5)
    assert few["gap"].fresnel_number == pytest.approx(slicing(scan, IterationOptions(**THICK))["gap"].fresnel_number)
    # patterns of 32 pixels sample no two slices so far apart
    assert [cut["slices"] for cut in cuts(scan, IterationOptions(slices=4, thickness=48e-6))] == [3, 4]
    assert [cut["slices"] for cut in cuts(scan, IterationOptions(**THICK))] == [2]


def test_a_thickness_that_is_off_is_found(thick) -> None:
    scan, _ = thick
    options = IterationOptions(iterations=24, slices=2, thickness=30e-6, refine_thickness=True, **HELD)
    found = iterate(scan, SOLVER, options).refinement
    assert measured_reconstruction(found, scan, ON_HOST).slice_distance_m == pytest.approx(12e-6, rel=0.05)


@pytest.mark.parametrize("slices", [1, 2])
def test_a_thick_sample_is_told_of_and_a_thin_one_is_not(slices) -> None:
    leaves: dict[str, Any] = {"kind": "dead_leaves", "amplitude": (0.4, 1.0), "phase": (-1.0, 1.0), "step": 3.0}
    thickness = 30e-6 if slices == 2 else None
    scan, _ = scan_of(slices, shape=(70, 70), **leaves, object_pixel_nm=20.0, thickness=thickness)
    said = thickness_advice(scan, refine, 1)
    if slices == 1:
        assert said == ""
        return
    assert said.startswith("the sample is thick, two slices foretell")
    flags, thickness = said.split(": ")[1].rsplit(" ", 1)
    assert flags == "--slices 2 --thickness-refine --thickness"
    asked = IterationOptions(slices=2, refine_thickness=True, thickness=float(thickness), modes=1, iterations=30)
    found = iterate(scan, Solver(refine, ON_HOST), asked)
    assert found.notes[0].startswith("Slices are needed")
    assert measured_reconstruction(found.refinement, scan, ON_HOST).slice_distance_m == pytest.approx(15e-6, rel=0.15)
    nothing_known = RawData(scan.xcoords, scan.ycoords, None, None, scan.diff3d, scan.probeGuess, units="counts")
    assert "--energy-keV X --object-pixel-nm X, T = " in thickness_advice(nothing_known, refine, 1)


def test_it_goes_on_from_slices_without_a_word(thick) -> None:
    scan, _ = thick
    first = refine_scan(scan, None, 2, **slicing(scan, IterationOptions(**THICK)))
    again = iterate(scan, Solver(refine_scan, ON_HOST), IterationOptions(iterations=2, **HELD), first).refinement
    assert again.gap == first.gap and again.slices.shape == first.slices.shape
    assert again.error_history[0] == pytest.approx(first.error_history[first.kept], rel=1e-3)


@pytest.mark.parametrize(
    "options, known, told",
    [
        ({"slices": 2}, KNOWN, "give --thickness"),
        (THICK, {"object_pixel_m": 1e-8}, "expected the wavelength of the scan, found none; give --energy-keV"),
        (THICK, {"energy_eV": 8e3}, "expected the pixel of the object of the scan, found none; give --object-pixel-nm"),
        (THICK, {**KNOWN, **NearField(1.0).noted()}, "found a scan of the near field"),
        ({"refine_thickness": True}, KNOWN, "add --slices and --thickness"),
    ],
)
def test_what_is_missing_is_named_in_a_line(thick, options, known, told) -> None:
    scan, _ = thick
    bare = RawData(
        *(scan.xcoords, scan.ycoords, None, None, scan.diff3d, scan.probeGuess), metadata=known, units="counts"
    )
    with pytest.raises(ConfigError, match=told):
        slicing(bare, IterationOptions(**options))


def test_a_thickness_without_slices_and_slices_with_a_network_are_refused(thick, tmp_path) -> None:
    with pytest.raises(ConfigError, match="add --slices"):
        IterationOptions(thickness=1e-6)
    asked = Request("pytorch", IterationOptions(**THICK), model=tmp_path / "wts.h5.zip")
    with pytest.raises(ConfigError, match="found a network"):
        reconstruct_scan(thick[0], asked)
