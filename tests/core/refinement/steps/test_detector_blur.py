"""The blur of the detector: a planted one is found, none where there is none, near fields have one as well."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.probes import with_modes
from ptycho.core.physics.recording import Recording
from ptycho.core.quality.alignment import align
from ptycho.core.refinement.device.kernels import Point
from ptycho.core.refinement.device.kernels_numpy import NumpyKernels
from ptycho.core.refinement.device.likelihood import intensity_floor
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.sums.passes import Passes
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.errors import DataError
from ptycho.raw_data import RawData


def scan_with(blur: float, fresnel_number: float | None = None) -> RawData:
    settings = ScanSettings(
        "siemens_star", N=16, shape=(44, 44), step=3.0, photons=1e5, seed=3, fresnel_number=fresnel_number
    )
    plan, rng = plan_scan(replace(settings, detector_blur=blur))
    made = expose(plan, rng)
    near = {} if plan.near_field is None else plan.near_field.noted()
    return RawData(
        made.xcoords, made.ycoords, None, None, made.diffraction, made.probe,
        objectGuess=made.object, mask=made.mask, units=made.units, metadata=near,
    )  # fmt: skip


def error_of(scan: RawData, modes: int = 1, **settings) -> tuple[float, Refinement]:
    probe = with_modes(scan.probeGuess[None], modes)
    found = refine_scan(scan, None, 40, probe=probe, tolerance=0.0, dtype=np.float32, **settings)
    region, offset = (10, 34, 10, 34), (found.frame.y0, found.frame.x0)
    aligned = align(found.object, scan.objectGuess, region, offset)
    return float(np.linalg.norm(aligned.image - aligned.truth) / np.linalg.norm(aligned.truth)), found


def test_a_planted_blur_is_found() -> None:
    """As right as where it is known, and no other modes of the probe make up for it."""
    scan = scan_with(0.9)
    plain, _ = error_of(scan)
    modes, _ = error_of(scan, 2)
    known, held = error_of(scan, blur=0.9)
    error, found = error_of(scan, refine_blur=True)
    assert error < 0.5 * min(modes, plain) and error < 1.2 * known
    assert held.blur == 0.9 and found.blur == pytest.approx(0.9, rel=0.05)


def test_where_there_is_none_none_is_found() -> None:
    scan = scan_with(0.0)
    plain, _ = error_of(scan)
    error, found = error_of(scan, refine_blur=True)
    assert error < 1.05 * plain and (found.blur is None or found.blur < 0.2)


def test_it_is_kept_from_leg_to_leg() -> None:
    scan = scan_with(0.9)
    first = refine_scan(scan, None, 3, blur=0.8)
    assert refine_scan(scan, first, 2).blur == 0.8
    assert refine_scan(scan, first, 2, blur=0.0).blur is None
    assert refine_scan(scan, first, 6, refine_blur=True).blur not in (None, 0.8)


def test_near_fields_are_blurred_by_a_detector_too(rng) -> None:
    """The error is that of the forward model, and its gradient a difference."""
    scan = scan_with(0.7, 0.2)
    n, size = 16, scan.objectGuess.shape
    image = scan.objectGuess + 0.1 * rng.standard_normal(size)
    nothing = np.ones(len(scan)), np.zeros((n, n))
    point = Point(image, scan.probeGuess[None].astype(complex), scan.xcoords, scan.ycoords, *nothing)
    point = point._replace(blur=np.array(0.7))
    floor = intensity_floor(scan, "amplitude")
    passes = Passes(NumpyKernels("amplitude", floor), scan, [np.arange(len(scan))], np.arange(0), 1, 1 << 26)
    patches, dx, dy = extract_rounded(image, point.x, point.y, n)
    recording = Recording(near_field=NearField(0.2), blur=0.7)
    seen, measured = diffract(point.probe, patches, dx, dy, recording) + floor, scan.amplitude().astype(float)
    misfit = np.sum((np.sqrt(seen) - measured) ** 2, where=scan.valid_mask) / np.sum(measured**2)
    assert passes.error(point) == pytest.approx(misfit, rel=1e-9)
    move, step = rng.standard_normal(size) + 1j * rng.standard_normal(size), 1e-5
    gradient = 2 * np.vdot(passes.gradient(point, False)[1].object, move).real / np.sum(measured**2)
    ends = [passes.error(point._replace(object=image + sign * step * move)) for sign in (1, -1)]
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(gradient, rel=1e-5)


def test_what_cannot_be_one_is_refused() -> None:
    scan = scan_with(0.0)
    with pytest.raises(DataError, match="blur: expected 0 to 2 pixels of a pattern of 16, found 9"):
        refine_scan(scan, None, 1, blur=9.0)
