"""The kernels of both backends against the oracle's, and gradients against differences."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch

from ptycho.core.physics.detector_blur import share_of
from ptycho.core.physics.near_field import NearField
from ptycho.core.refinement.device.engine import find_engine
from ptycho.core.refinement.device.kernels import Direction, Point
from ptycho.core.refinement.device.kernels_numpy import NumpyKernels
from ptycho.core.refinement.device.likelihood import intensity_floor
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.sums.parts import Part, places
from ptycho.core.refinement.sums.passes import Passes
from ptycho.raw_data import RawData
from ptycho.tf import refinement_kernels as tf_kernels
from ptycho_torch import refinement_kernels as torch_kernels

N, SIZE = 16, 44
NEAR = NearField(0.2)
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def kernels(name: str, dtype: str) -> Any:
    if name == "pytorch":
        return partial(torch_kernels.RefinementKernels, dtype=getattr(torch, dtype))
    return partial(tf_kernels.RefinementKernels, dtype=getattr(tf, dtype))


def close(found: Any, expected: Any, dtype: str) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.linalg.norm(found - expected) <= TOLERANCE[dtype] * np.linalg.norm(expected)


def inside(scan: RawData) -> Any:
    """Patches that may move by a pixel and stay in the object."""
    x, y = (np.rint(each) - N // 2 for each in (scan.xcoords, scan.ycoords))
    return np.all([x > 0, y > 0, x + N < SIZE, y + N < SIZE], axis=0).astype(int)


@pytest.fixture
def varied(point, rng) -> Point:
    """A probe that varies by two modes."""
    numbers = rng.standard_normal((2, 2, N, N)) + 1j * rng.standard_normal((2, 2, N, N))
    coefficients = 0.2 * (rng.standard_normal((len(point.x), 2)) + 1j * rng.standard_normal((len(point.x), 2)))
    return point._replace(variation=0.1 * abs(point.probe).max() * numbers[0], coefficients=coefficients)


@pytest.mark.parametrize(
    "keep, flies, varies",
    [(0, False, False), (1 << 30, False, False), (1 << 30, True, False), (1 << 30, True, True), (1 << 30, NEAR, True)],
    ids=["nothing kept", "all kept", "a fly scan", "a probe that varies", "a fly scan of the near field"],
)
@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
@pytest.mark.parametrize("name", ["pytorch", "tensorflow"])
def test_kernels_are_those_of_the_oracle(
    name, likelihood, keep, flies, varies, dtype, masked_scan, point, varied, way, rng
) -> None:
    point = varied if varies else point
    if flies is NEAR:
        masked_scan.metadata = NEAR.noted()
    seen, unseen = np.arange(4, len(masked_scan)), np.arange(4)
    floor = intensity_floor(masked_scan, likelihood)
    made = (kernels(name, dtype)(likelihood, floor), NumpyKernels(likelihood, floor))
    path = way if flies else None
    ours, oracle = (Passes(each, masked_scan, [seen], unseen, 2, keep, fly_path=path) for each in made)
    shape = point.vectors.shape
    move = Direction(rng.standard_normal((SIZE, SIZE)) + 0.3j, rng.standard_normal(shape) + 0.2j)
    for with_probe in (True, False):
        error, gradient = ours.gradient(point, with_probe)
        expected_error, expected = oracle.gradient(point, with_probe)
        close(error, expected_error, dtype)
        close(gradient.object, expected.object, dtype)
        if with_probe:
            close(gradient.probe, expected.probe, dtype)
        direction = move if with_probe else Direction(move.object, None)
        close(ours.curvature(point, direction), oracle.curvature(point, direction), dtype)
        target = point._replace(object=point.object + 0.01 * move.object)
        target = target.with_vectors(point.vectors + 0.01 * move.probe) if with_probe else target
        ours.advance(point, target, 0.01)
        close(ours.error(target), oracle.error(target), dtype)
        close(ours.error(target, unseen=True), oracle.error(target, unseen=True), dtype)
        there, expected = (each.gradient(target, with_probe)[1] for each in (ours, oracle))
        close(there.object, expected.object, dtype)
        if with_probe:
            close(there.probe, expected.probe, dtype)
    shifts = rng.integers(-1, 2, (len(masked_scan), 3, 2)) * inside(masked_scan)[:, None, None]
    for found, expected in zip(ours.unseen_errors(point, shifts), oracle.unseen_errors(point, shifts), strict=True):
        np.testing.assert_array_equal(found[0], expected[0])
        close(found[1], expected[1], dtype)
    there = sum(errors[:, 0].sum() for _, errors in ours.unseen_errors(point, 0 * shifts))
    close(there / ours.unseen[0].energy, ours.error(point, unseen=True), dtype)
    kinds = Passes.position_terms, Passes.stretch_terms
    pairs = [pair for terms_of in kinds for pair in zip(terms_of(ours, point), terms_of(oracle, point), strict=True)]
    if varies:
        pairs.append((ours.variation_terms(point), oracle.variation_terms(point)))
    for (indices, terms), (expected_indices, expected_terms) in pairs:
        np.testing.assert_array_equal(indices, expected_indices)
        close(terms.gradient, expected_terms.gradient, dtype)
        close(terms.curvature, expected_terms.curvature, dtype)
    for found, expected in zip(ours.flux_terms(point), oracle.flux_terms(point), strict=True):
        np.testing.assert_array_equal(found[0], expected[0])
        close(found[1], expected[1], dtype)
        close(found[2], expected[2], dtype)
    for found, expected in zip(ours.background_terms(point), oracle.background_terms(point), strict=True):
        close(found, expected, dtype)
    close(ours.blur_slope(point), oracle.blur_slope(point), dtype)


@pytest.mark.parametrize("flies", [False, True, NEAR], ids=["at rest", "a fly scan", "a fly scan of the near field"])
@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
@pytest.mark.parametrize("name", ["numpy", "pytorch", "tensorflow"])
def test_gradients_are_differences_of_the_error(name, likelihood, flies, masked_scan, varied, way, rng) -> None:
    """Object, probe, positions, flux, background, blur and how the probe varies, in double precision."""
    point = varied
    if flies is NEAR:
        masked_scan.metadata = NEAR.noted()
    made = find_engine(name).kernels(likelihood, intensity_floor(masked_scan, likelihood), {"dtype": double(name)})
    passes = Passes(
        made, masked_scan, [np.arange(len(masked_scan))], np.arange(0), 2, 0, fly_path=way if flies else None
    )
    energy = float((masked_scan.amplitude().astype(float) ** 2).sum())
    _, gradient = passes.gradient(point, with_probe=True)
    (_, terms), *_ = passes.position_terms(point)
    (_, flux_gradient, _), *_ = passes.flux_terms(point)
    background_gradient, _ = passes.background_terms(point)
    blur_gradient, _ = passes.blur_slope(point)
    _, variation_terms = passes.variation_terms(point)
    zero, step = Point(*(np.zeros_like(each) for each in point)), 1e-5
    image, probe = (rng.standard_normal(each.shape) + 1j * rng.standard_normal(each.shape) for each in point[:2])
    modes, turns = (rng.standard_normal(each.shape) + 1j * rng.standard_normal(each.shape) for each in point[-2:])
    shift, light = rng.standard_normal((2, len(masked_scan))), rng.standard_normal((N, N))
    for move, slope in (
        (zero._replace(object=image), np.vdot(gradient.object, image).real),
        (zero._replace(probe=probe), np.vdot(gradient.probe[:2], probe).real),
        (zero._replace(variation=modes), np.vdot(gradient.probe[2:], modes).real),
        (
            zero._replace(coefficients=turns),
            (variation_terms.gradient * np.concatenate([turns.real, turns.imag], axis=1)).sum(),
        ),
        (zero._replace(x=shift[0], y=shift[1]), (terms.gradient.T * shift).sum()),
        # twice the logarithm of the factor is that of the flux
        (zero._replace(flux=shift[0]), (flux_gradient * shift[0] / (2 * point.flux)).sum()),
        (zero._replace(background=light), (background_gradient * light).sum()),
        # t is exp(-1 / (2 sigma^2))
        (zero._replace(blur=np.ones(())), blur_gradient * share_of(point.blur) / point.blur**3),
    ):
        ends = [Point(*(a + sign * step * b for a, b in zip(point, move, strict=True))) for sign in (1, -1)]
        found = (passes.error(ends[0]) - passes.error(ends[1])) / (2 * step)
        assert found == pytest.approx(2 * slope / energy, rel=2e-5)


@pytest.mark.parametrize("name", ["numpy", "pytorch", "tensorflow"])
def test_gradients_of_the_probes_of_several_scans_are_differences_of_the_error(
    name, masked_scan, point, own_probes, rng
) -> None:
    """Of each scan's modes by themselves, and of the object that all of them share."""
    made = find_engine(name).kernels("poisson", intensity_floor(masked_scan, "poisson"), {"dtype": double(name)})
    known = own_probes(point.probe, len(masked_scan))
    point = point._replace(probe=known.all(point.probe).reshape(-1, N, N))
    passes = Passes(made, masked_scan, [np.arange(len(masked_scan))], np.arange(0), 2, 1 << 20, scans=known.scan)
    energy = float((masked_scan.amplitude().astype(float) ** 2).sum())
    _, gradient = passes.gradient(point, with_probe=True)
    assert gradient.probe.shape == (6, N, N)
    for k in range(6):
        move, step = np.zeros_like(point.probe), 1e-5
        move[k] = rng.standard_normal((N, N)) + 1j * rng.standard_normal((N, N))
        ends = [point._replace(probe=point.probe + sign * step * move) for sign in (1, -1)]
        found = (passes.error(ends[0]) - passes.error(ends[1])) / (2 * step)
        assert found == pytest.approx(2 * np.vdot(gradient.probe, move).real / energy, rel=2e-5)
    image = rng.standard_normal((SIZE, SIZE)) + 1j * rng.standard_normal((SIZE, SIZE))
    ends = [point._replace(object=point.object + sign * 1e-5 * image) for sign in (1, -1)]
    found = (passes.error(ends[0]) - passes.error(ends[1])) / 2e-5
    assert found == pytest.approx(2 * np.vdot(gradient.object, image).real / energy, rel=2e-5)


@pytest.mark.parametrize("name", ["numpy", "pytorch", "tensorflow"])
def test_terms_of_patches_are_differences_of_the_error(name, masked_scan, point, rng) -> None:
    """Of counts without a floor more, in double precision; their curvature is that along each change."""
    made = find_engine(name).kernels("poisson", intensity_floor(masked_scan, "poisson"), {"dtype": double(name)})
    rows, cols, dx, dy = places(point.x, point.y, N, point.object.shape)
    probes = made.shifted(made.image(point.probe), made.ramps(dx[:, None], dy[:, None], point.flux, N))
    measured = Passes(made, masked_scan, [np.arange(len(masked_scan))], np.arange(0), 2, 0)._measured
    part = measured(Part(np.arange(len(masked_scan))), point)
    corners = made.corners(rows, cols)
    images = [point.object, *(rng.standard_normal((2, SIZE, SIZE)) + 1j * rng.standard_normal((2, SIZE, SIZE)))]
    still, *moves = (made.cut(made.image(image), corners, N) for image in images)
    fields, step = made.fields(probes, still), 1e-5
    terms = np.asarray(made.patch_terms(fields, probes, moves, part, 0.0))
    gradient, curvature = terms[..., 0], terms[..., 1:]
    for k, move in enumerate(moves):
        ends = [float(made.error(made.fields(probes, still + sign * step * move), part)) for sign in (1, -1)]
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(2 * gradient[:, k].sum(), rel=2e-5)
        along = made.slopes(fields, made.fields_along(probes, None, None, move), part)
        assert curvature[:, k, k].sum() == pytest.approx(float(along), rel=1e-9)


@pytest.mark.parametrize("name", ["numpy", "pytorch", "tensorflow"])
def test_the_gradient_of_the_probe_is_the_adjoint_of_the_far_field(name, masked_scan, point, rng) -> None:
    """`<fft2(w), fields_along(p)> = <probe_gradient(w), p>` for any residual waves w, at three places, and probe p."""
    made = find_engine(name).kernels("amplitude", 1e-9, {"dtype": double(name)})
    rows, cols, dx, dy = places(point.x, point.y, N, point.object.shape)
    dx, dy = (each[:, None] + np.array([-1.0, 0.0, 0.5]) for each in (dx, dy))
    ramps, patches = made.ramps(dx, dy, point.flux, N), made.cut(made.image(point.object), made.corners(rows, cols), N)
    probes = made.shifted(made.image(point.probe), ramps)
    waves = rng.standard_normal((len(masked_scan), 6, N, N)) + 1j * rng.standard_normal((len(masked_scan), 6, N, N))
    probe = rng.standard_normal((2, N, N)) + 1j * rng.standard_normal((2, N, N))
    still = made.cut(made.image(np.zeros_like(point.object)), made.corners(rows, cols), N)
    forward = made.numpy(made.fields_along(probes, patches, made.shifted(made.image(probe), ramps), still))
    unit = N if name == "tensorflow" else 1  # whose far fields are N times the unitary ones
    left = np.vdot(np.fft.fft2(waves, norm="ortho"), forward / unit)
    right = np.vdot(made.numpy(made.probe_gradient(device(name, waves), patches, ramps)), probe)
    assert left == pytest.approx(right, rel=1e-9)


def double(name: str) -> Any:
    return {"numpy": np, "pytorch": torch, "tensorflow": tf}[name].float64


def device(name: str, values: np.ndarray) -> Any:
    return {"numpy": np.asarray, "pytorch": torch.as_tensor, "tensorflow": tf.constant}[name](values)


def test_blurs_and_normal_equations_are_products_in_full_precision(masked_scan, monkeypatch) -> None:
    """A GPU may else round the factors: PyTorch's where the caller allows it, TensorFlow's by itself."""
    switch, seen = tf.config.experimental, set()
    by_device = hasattr(torch.backends, "fp32_precision")  # from PyTorch 2.9 on
    rounded, full = ("tf32", "ieee") if by_device else ("high", "highest")

    def precision() -> str:
        return torch.backends.cuda.matmul.fp32_precision if by_device else torch.get_float32_matmul_precision()

    def watched(values: Any, measured: Any) -> Any:
        seen.add((precision(), switch.tensor_float_32_execution_enabled()))
        return blurred[type(values)](values, measured)

    blurred = {torch.Tensor: torch_kernels.blurred, type(tf.zeros(())): tf_kernels.blurred}
    for kernels in (torch_kernels, tf_kernels):
        monkeypatch.setattr(kernels, "blurred", watched)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        for name in ("pytorch", "tensorflow"):
            refine_scan(masked_scan, None, 1, engine=name, blur=0.5, refine_positions=True)
        assert seen == {(full, True), (rounded, False)}
        assert (precision(), switch.tensor_float_32_execution_enabled()) == (rounded, True)
    finally:
        torch.set_float32_matmul_precision(before)
