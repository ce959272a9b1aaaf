"""Refinement: the kernels of both backends against the oracle's, and whole refinements against each other."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch

from ptycho.core.refinement.kernels_numpy import NumpyKernels
from ptycho.core.refinement.passes import Direction, Passes, Point, intensity_floor
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData
from ptycho.tf import refine as tf_refine
from ptycho_torch import refine as torch_refine

N, SIZE = 16, 44
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def kernels(name: str, dtype: str) -> Any:
    if name == "pytorch":
        return partial(torch_refine.RefinementKernels, dtype=getattr(torch, dtype))
    return partial(tf_refine.RefinementKernels, dtype=getattr(tf, dtype))


def close(found: Any, expected: Any, dtype: str) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.linalg.norm(found - expected) <= TOLERANCE[dtype] * np.linalg.norm(expected)


@pytest.fixture
def scan(rng) -> RawData:
    made = make_scan("lines", SIZE, N, 5.0, 0.5, 1e4, 4)
    masks = rng.random(made.diffraction.shape) > 0.2
    return RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, mask=masks, units="amplitude")


@pytest.fixture
def point(scan, rng) -> Point:
    noise = rng.standard_normal((2, SIZE, SIZE))
    probe = np.asarray(scan.probeGuess, complex)
    modes = np.stack([probe, 0.4j * np.roll(probe, 3, axis=1)])
    return Point(1 + 0.2 * (noise[0] + 1j * noise[1]), modes, scan.xcoords, scan.ycoords)


@pytest.mark.parametrize("keep", [0, 1 << 30], ids=["nothing kept", "all kept"])
@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
@pytest.mark.parametrize("name", ["pytorch", "tensorflow"])
def test_kernels_are_those_of_the_oracle(name, likelihood, keep, dtype, scan, point, rng) -> None:
    seen, unseen = np.arange(4, len(scan)), np.arange(4)
    floor = intensity_floor(scan, likelihood)
    made = (kernels(name, dtype)(likelihood, floor), NumpyKernels(likelihood, floor))
    ours, oracle = (Passes(each, scan, [seen], unseen, 2, keep) for each in made)
    move = Direction(rng.standard_normal((SIZE, SIZE)) + 0.3j, rng.standard_normal((2, N, N)) + 0.2j)
    for with_probe in (True, False):
        error, gradient = ours.gradient(point, with_probe)
        expected_error, expected = oracle.gradient(point, with_probe)
        close(error, expected_error, dtype)
        close(gradient.object, expected.object, dtype)
        if with_probe:
            close(gradient.probe, expected.probe, dtype)
        direction = move if with_probe else Direction(move.object, None)
        close(ours.curvature(point, direction), oracle.curvature(point, direction), dtype)
        moved = point.probe + 0.01 * move.probe if with_probe else point.probe
        target = Point(point.object + 0.01 * move.object, moved, point.x, point.y)
        ours.advance(point, target, 0.01)
        close(ours.error(target), oracle.error(target), dtype)
        close(ours.error(target, unseen=True), oracle.error(target, unseen=True), dtype)
        there, expected = (each.gradient(target, with_probe)[1] for each in (ours, oracle))
        close(there.object, expected.object, dtype)
        if with_probe:
            close(there.probe, expected.probe, dtype)
    for (indices, terms), (expected_indices, expected_terms) in zip(
        ours.position_terms(point), oracle.position_terms(point), strict=True
    ):
        np.testing.assert_array_equal(indices, expected_indices)
        close(terms.gradient, expected_terms.gradient, dtype)
        close(terms.curvature, expected_terms.curvature, dtype)


@pytest.mark.parametrize(
    "settings",
    [
        {"refine_probe": False, "tolerance": 0.0},
        {"refine_positions": True, "likelihood": "poisson", "holdout": 5},
        {"batch_size": 10, "seed": 3},
    ],
    ids=["object", "positions, poisson, held out", "mini-batches"],
)
def test_whole_refinements_agree(settings, scan) -> None:
    found = [each.refine(scan, None, 9, **settings) for each in (torch_refine, tf_refine)]
    assert found[0].stopped == found[1].stopped
    assert (found[0].kept, found[0].restarts) == (found[1].kept, found[1].restarts)
    np.testing.assert_allclose(found[0].error_history, found[1].error_history, rtol=1e-4)
    np.testing.assert_allclose(found[0].unseen_history, found[1].unseen_history, rtol=1e-3)
    np.testing.assert_allclose(found[0].object, found[1].object, atol=5e-3)
    np.testing.assert_allclose(found[0].probe, found[1].probe, atol=5e-3 * abs(found[1].probe).max())
    np.testing.assert_allclose(found[0].xcoords, found[1].xcoords, atol=5e-3)


def test_compiled_kernels_find_the_same(scan) -> None:
    eager, compiled = (tf_refine.refine(scan, None, 4, use_xla=xla) for xla in (False, True))
    np.testing.assert_allclose(compiled.error_history, eager.error_history, rtol=1e-4)
    np.testing.assert_allclose(compiled.object, eager.object, atol=2e-3)


def test_cutting_and_adding_are_the_oracles(dtype, rng) -> None:
    image = rng.standard_normal((9, 7)) + 1j * rng.standard_normal((9, 7))
    rows, cols = np.array([0, 3, 3, 5, 1]), np.array([2, 0, 0, 3, 1])
    oracle = NumpyKernels("amplitude", 0.0)
    expected = oracle.cut(image, rows, cols, 4)
    for name in ("pytorch", "tensorflow"):
        ours = kernels(name, dtype)("amplitude", 0.0)
        patches = ours.cut(ours.image(image), rows, cols, 4)
        close(ours.numpy(patches), expected, dtype)
        total = ours.numpy(ours.add(None, (9, 7), patches, rows, cols))
        close(total, oracle.add(None, (9, 7), expected, rows, cols), dtype)


def test_both_backends_take_the_same_arguments() -> None:
    ours, theirs = (inspect.signature(each.refine).parameters for each in (tf_refine, torch_refine))
    own = {"device", "use_xla"}
    found = [{name: p.default for name, p in each.items() if name not in own} for each in (ours, theirs)]
    assert found[0] == found[1]
