"""Thick objects in every engine: the oracle against the forward model, differences, adjoints, whole refinements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch

from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.recording import Recording
from ptycho.core.refinement.device.engine import find_engine
from ptycho.core.refinement.device.kernels import Direction, Point
from ptycho.core.refinement.device.likelihood import intensity_floor
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.sums.passes import Passes
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData

N, SIZE, SLICES = 16, 40, 3
GAP = NearField(0.15, 0.4)
ENGINES = ["numpy", "pytorch", "tensorflow"]


@pytest.fixture
def scan(rng) -> RawData:
    made = make_scan("lines", SIZE, N, 6.0, 0.5, 1e4, 4)
    masks = rng.random(made.diffraction.shape) > 0.2
    return RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, mask=masks, units="amplitude")


@pytest.fixture
def point(scan, rng) -> Point:
    """Two modes, three slices that are a tenth farther apart than was given, a detector that blurs."""
    probe = np.asarray(scan.probeGuess, complex)
    modes = np.stack([probe, 0.4j * np.roll(probe, 3, axis=1)])
    image = 1 + 0.2 * random(rng, (SLICES, SIZE, SIZE))
    beam = rng.uniform(0.5, 1.5, len(scan)), 3 * rng.random((N, N))
    return Point(image, modes, scan.xcoords, scan.ycoords, *beam, np.array(1.1), np.array(0.7))


def random(rng, shape) -> Any:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def passes_of(name: str, scan: RawData, likelihood: Any = "amplitude", keep: int = 0, **settings: Any) -> Passes:
    double = {"numpy": np, "pytorch": torch, "tensorflow": tf}[name].float64
    kernels = find_engine(name).kernels(likelihood, intensity_floor(scan, likelihood), {"dtype": double})
    return Passes(kernels, scan, [np.arange(len(scan))], np.arange(0), 2, keep, **settings, gap=GAP, slices=SLICES)


@pytest.mark.parametrize("name", ENGINES)
def test_the_error_is_that_of_the_forward_model(name, scan, point) -> None:
    patches, dx, dy = extract_rounded(point.object, point.x, point.y, N)
    recording = Recording(point.flux, background=point.background, gap=GAP.stretched(1.1), blur=0.7)
    expected = diffract(point.probe, patches, dx, dy, recording) + intensity_floor(scan, "amplitude")
    measured = scan.amplitude().astype(float)
    misfit = np.sum((np.sqrt(expected) - measured) ** 2, where=scan.mask) / np.sum(measured**2)
    assert passes_of(name, scan).error(point) == pytest.approx(misfit, rel=1e-9)


@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
@pytest.mark.parametrize("name", ENGINES)
def test_gradients_are_differences_of_the_error(name, likelihood, scan, point, rng) -> None:
    """Slices, probe, positions, flux and distance of every engine, in double precision, by central differences."""
    passes = passes_of(name, scan, likelihood, fly_path=rng.uniform(-1, 1, (len(scan), 2, 2)))
    energy = float((scan.amplitude().astype(float) ** 2).sum())
    _, gradient = passes.gradient(point, with_probe=True)
    (_, terms), *_ = passes.position_terms(point)
    (_, flux_gradient, _), *_ = passes.flux_terms(point)
    slope, curvature = passes.stretch_slope(point)
    zero, step = Point(*(np.zeros_like(each) for each in point)), 1e-5
    image, probe, shift = random(rng, point.object.shape), random(rng, point.probe.shape), rng.random((2, len(scan)))
    for move, expected in (
        (zero._replace(object=image), np.vdot(gradient.object, image).real),
        (zero._replace(probe=probe), np.vdot(gradient.probe, probe).real),
        (zero._replace(x=shift[0], y=shift[1]), (terms.gradient.T * shift).sum()),
        (zero._replace(flux=shift[0]), (flux_gradient * shift[0] / (2 * point.flux)).sum()),
        (zero._replace(stretch=np.array(0.1)), 0.1 * slope),
    ):
        ends = [Point(*(a + sign * step * b for a, b in zip(point, move, strict=True))) for sign in (1, -1)]
        found = (passes.error(ends[0]) - passes.error(ends[1])) / (2 * step)
        assert found == pytest.approx(2 * expected / energy, rel=2e-5)
    assert curvature > 0


@pytest.mark.parametrize("name", ENGINES)
def test_the_way_back_is_the_adjoint_of_free_space(name, scan, rng) -> None:
    """`<w O*, H(psi p)> = <patch gradient, p>` for any residual waves w behind patches O and any patches p before."""
    one = find_engine(name).kernels(
        "amplitude", 1e-9, {"dtype": {"pytorch": torch, "tensorflow": tf}.get(name, np).float64}
    )
    move = {"numpy": np.asarray, "pytorch": torch.as_tensor, "tensorflow": tf.constant}[name]
    waves, incident = random(rng, (2, 3, 2, N, N))
    behind, before = random(rng, (2, 3, N, N))
    gap = one.image(GAP.transfer_function(N))
    back, gradient = one.back(move(waves), move(behind), move(incident), gap)
    ahead = one.numpy(one.fields_along(move(incident), None, None, move(before), gap))
    expected = np.vdot(waves * behind[:, None].conj(), ahead)
    assert np.vdot(one.numpy(gradient), before) == pytest.approx(expected, rel=1e-9)
    assert np.linalg.norm(one.numpy(back)) == pytest.approx(np.linalg.norm(waves * behind[:, None]), rel=1e-9)


@pytest.mark.parametrize("keep", [0, 1 << 30], ids=["nothing kept", "all kept"])
@pytest.mark.parametrize("name", ENGINES)
def test_the_curvature_is_that_along_the_change(name, keep, scan, point, rng) -> None:
    """And what is kept from step to step is what would be worked out anew."""
    passes, anew = (passes_of(name, scan, keep=each) for each in (keep, 0))
    direction = Direction(random(rng, point.object.shape), random(rng, point.probe.shape))
    passes.gradient(point, with_probe=True)
    found, step = passes.curvature(point, direction), 1e-4
    target = point._replace(object=point.object + step * direction.object, probe=point.probe + step * direction.probe)
    passes.advance(point, target, step)
    assert passes.error(target) == pytest.approx(anew.error(target), rel=1e-12)
    expected = sum(
        np.square(each - still).sum() for each, still in zip(*map(amplitudes(scan), (target, point)), strict=True)
    )
    assert found == pytest.approx(expected / step**2, rel=1e-2)


def amplitudes(scan: RawData) -> Any:
    def of(point: Point) -> Any:
        patches, dx, dy = extract_rounded(point.object, point.x, point.y, N)
        gap, blur = GAP.stretched(float(point.stretch)), float(point.blur)
        recording = Recording(point.flux, background=point.background, gap=gap, blur=blur)
        return np.sqrt(diffract(point.probe, patches, dx, dy, recording)) * scan.mask

    return of


LAWS: dict[str, dict[str, Any]] = {
    "slices": {"refine_probe": False},
    "probe and thickness": {"refine_thickness": True},
    "stage, poisson, mini-batches": {"refine_positions": "stage", "likelihood": "poisson", "batch_size": 12},
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("engine", ["tensorflow", "pytorch"])
def test_every_engine_refines_as_the_oracle(engine, law, scan, point) -> None:
    """Whole refinements: single precision in the backends, double in the oracle."""
    settings = {"probe": point.probe.astype(np.complex64), "slices": 2, "gap": GAP, "tolerance": 0.0, **LAWS[law]}
    expected, found = (refine_scan(scan, None, 9, engine=name, **settings) for name in ("numpy", engine))
    assert expected.error_history[expected.kept] < 0.7 * expected.error_history[0]
    assert (found.kept, found.restarts) == (expected.kept, expected.restarts)
    np.testing.assert_allclose(found.error_history, expected.error_history, rtol=1e-4)
    np.testing.assert_allclose(found.slices, expected.slices, atol=5e-3)
    np.testing.assert_allclose(found.object, expected.slices.prod(axis=0), atol=1e-2)
    assert found.gap.fresnel_number == pytest.approx(expected.gap.fresnel_number, rel=1e-3)
    assert (found.gap == GAP) == ("thickness" not in law)
