"""Losses and their gradients: both backends against the oracle, its finite differences, and each other."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.config.losses import DETECTOR_LOSSES, REGULARISERS, detector_weights
from ptycho.core.physics import losses as oracle

NAMES = [loss.function for loss in DETECTOR_LOSSES]
REALSPACE = [*REGULARISERS.values(), "realspace_mae", "amplitude_flatness", "probe_distance"]
BESIDE_TRUTH = ("realspace_mae", "probe_distance")


@pytest.fixture
def counts(rng: np.random.Generator) -> np.ndarray:
    """Dim enough that some pixels have no photon."""
    return rng.poisson(3.0, (2, 3, 5, 7)).astype(float)


@pytest.fixture
def expected(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.5, 6, (2, 3, 5, 7))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("masked", [False, True])
def test_values(backend, agree, name, masked, counts, expected, rng) -> None:
    mask = rng.random((3, 5, 7)) > 0.4 if masked else None
    valid = None if mask is None else backend.array(mask)
    found = getattr(backend.losses, name)(backend.array(expected), backend.array(counts), 3.0, valid)
    agree("function", name, found, getattr(oracle, name)(expected, counts, 3.0, mask))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("masked", [False, True])
def test_gradients(both, dtype, agree, name, masked, counts, expected, rng) -> None:
    mask = rng.random((5, 7)) > 0.4 if masked else None
    expected[0, 0, 0, 0] = 0.0
    gradients = []
    for framework in both:
        function, data = getattr(framework.losses, name), framework.array(counts)
        valid = None if mask is None else framework.array(mask)
        gradients.append(framework.gradient(lambda x, f=function, y=data, v=valid: f(x, y, 3.0, v), expected))
    assert np.isfinite(gradients[0]).all()
    agree("gradient", name, gradients[1], gradients[0])
    for place in [(0, 0, 0, 1), (1, 2, 4, 3), (0, 1, 2, 2)]:
        step = np.zeros_like(expected)
        step[place] = 1e-6
        loss = getattr(oracle, name)
        slope = (loss(expected + step, counts, 3.0, mask) - loss(expected - step, counts, 3.0, mask)) / 2e-6
        limit = 1e-5 if dtype == "float32" else 1e-6
        assert gradients[1][place] == pytest.approx(slope, rel=limit, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [0.0, 1e9, 2.0**32 - 1, np.nan])
def test_masked_pixels_have_no_gradient_whatever_they_hold(framework, name, content, counts, expected) -> None:
    mask = np.ones((5, 7), bool)
    mask[2, 2] = False
    expected[..., 2, 2], counts[..., 2, 2] = 0, content
    data, valid = framework.array(counts), framework.array(mask)
    function = getattr(framework.losses, name)
    gradient = framework.gradient(lambda x: function(x, data, 3.0, valid), expected)
    assert np.isfinite(gradient).all()
    assert np.count_nonzero(gradient[..., 2, 2]) == 0
    assert np.isfinite(float(function(framework.array(expected), data, 3.0, valid)))


def test_digits_at_1e8_counts(framework) -> None:
    counts = np.full((8, 8), 1e8)
    exact = oracle.poisson_loss(counts * (1 + 1e-3), counts, 1.0)
    found = framework.losses.poisson_loss(framework.array(counts * (1 + 1e-3)), framework.array(counts), 1.0)
    assert float(found) == pytest.approx(exact, rel=2e-4)


@pytest.fixture
def patches(rng: np.random.Generator) -> np.ndarray:
    """Two groups of three complex patches."""
    return rng.normal(size=(2, 3, 5, 7)) + 1j * rng.normal(size=(2, 3, 5, 7))


@pytest.fixture
def truth(patches: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The patches, disturbed, each group with a phase of its own."""
    disturbed = patches + 0.3 * (rng.normal(size=patches.shape) + 1j * rng.normal(size=patches.shape))
    return disturbed * np.exp(1j * np.array([0.4, -2.5]))[:, None, None, None]


def test_total_variation_by_hand(backend) -> None:
    """Differences of 3 and 4 at the first pixel make 5; at an edge one of them is left, at the corner none."""
    patch = np.array([[[0, 3j], [4, 0]]])
    for turned in (patch, patch * np.exp(0.7j)):
        assert float(backend.losses.total_variation(backend.array(turned))) == pytest.approx((5 + 3 + 4) / 4, rel=1e-6)


def test_realspace_mae_by_hand(backend) -> None:
    """The first group is the truth turned by i, the second is 3 against -1: after a half turn they are 2 apart."""
    patches, truth = np.array([[1, 2j], [3, 3]]), np.array([[1j, -2], [-1, -1]])
    found = backend.losses.realspace_mae(backend.array(patches), backend.array(truth))
    assert float(found) == pytest.approx((0 + 0 + 2 + 2) / 4, rel=1e-6)


def realspace_arguments(name: str, truth: np.ndarray) -> list[np.ndarray]:
    """What a real-space loss takes beside the patches."""
    if name == "probe_distance":
        return [truth[1]]
    return [truth] if name == "realspace_mae" else []


def realspace_subject(name: str, patches: np.ndarray) -> np.ndarray:
    """What a real-space loss is of: a probe of three modes, patches whose amplitude varies little, or just patches."""
    return {"probe_distance": patches[1], "amplitude_flatness": 0.2 * patches}.get(name, patches)


def test_realspace_mae_of_the_absolute_phase_by_hand(backend) -> None:
    """Distances in the plane, nothing turned: sqrt(2), 2 sqrt(2), 4 and 4."""
    patches, truth = np.array([[1, 2j], [3, 3]]), np.array([[1j, -2], [-1, -1]])
    found = backend.losses.realspace_mae(backend.array(patches), backend.array(truth), False)
    assert float(found) == pytest.approx((3 * np.sqrt(2) + 8) / 4, rel=1e-6)


@pytest.mark.parametrize("phase_free", [True, False])
def test_realspace_mae_where_the_light_is(both, dtype, agree, phase_free, patches, truth, rng) -> None:
    """A weight of 0 and 1 is a choice of pixels; values and gradients of any other."""
    chosen = np.zeros((5, 7))
    chosen[1:4, 2:6] = 1
    inner = oracle.realspace_mae(patches[..., 1:4, 2:6], truth[..., 1:4, 2:6], phase_free)
    assert oracle.realspace_mae(patches, truth, phase_free, chosen) == pytest.approx(inner, rel=1e-12)
    weight, gradients = rng.random((5, 7)), []
    for framework in both:
        given = framework.array(truth), phase_free, framework.array(weight)
        loss = framework.losses.realspace_mae
        expected = oracle.realspace_mae(patches, truth, phase_free, weight)
        agree("function", "realspace_mae, weighted", loss(framework.array(patches), *given), expected)
        gradients.append(framework.gradient(lambda x, f=loss, g=given: f(x, *g), patches))
    agree("gradient", "realspace_mae, weighted", gradients[1], gradients[0])
    step = np.zeros_like(patches)
    step[1, 2, 4, 6] = 1e-6
    up, down = (oracle.realspace_mae(patches + sign * step, truth, phase_free, weight) for sign in (1, -1))
    assert gradients[1][1, 2, 4, 6].real == pytest.approx((up - down) / 2e-6, rel=1e-4 if dtype == "float32" else 1e-6)


def test_mean_deviation_by_hand(backend) -> None:
    """Two patches with means 2 and i: each patch by itself."""
    patches = np.array([[[0, 4], [2, 2]], [[3 + 1j, -3 + 1j], [1j, 1j]]])
    assert float(backend.losses.mean_deviation(backend.array(patches))) == pytest.approx((4 + 6) / 8, rel=1e-6)
    assert float(backend.losses.mean_deviation(backend.array(patches[0].real))) == pytest.approx(1, rel=1e-6)


def test_amplitude_flatness_by_hand(backend) -> None:
    """Amplitudes 0.1 and 0.3 have the variance 0.01 of 1/e, whatever their phases; flat patches of any height are 1."""
    patches = np.array([[[0.1, 0.3], [0.3, 0.1]]]) * np.exp(1j * np.array([[[0, 1], [2, 3]]]))
    assert float(backend.losses.amplitude_flatness(backend.array(patches))) == pytest.approx(np.exp(-1), rel=1e-6)
    flat = np.array([1j, 3])[:, None, None] * np.ones((2, 4, 4))
    assert float(backend.losses.amplitude_flatness(backend.array(flat))) == pytest.approx(1, rel=1e-6)


def test_probe_distance_by_hand(backend) -> None:
    """A phase of each mode is free; twice the probe is as far from it as nothing at all."""
    reference = np.array([[[3, 4j], [0, 0]], [[0, 0], [1, 1j]]])
    turned = reference * np.exp(1j * np.array([0.5, -2.0]))[:, None, None]
    for factor, expected in ((1, 0), (2, 1), (0, 1), (1.5, 0.25)):
        found = backend.losses.probe_distance(backend.array(factor * turned), backend.array(reference))
        assert float(found) == pytest.approx(expected, abs=1e-6)


def test_phasors_know_no_wrap(backend) -> None:
    """Phases of 3.1 and -3.1 are neighbours; the phase of nothing is 0."""
    found = backend.numpy(backend.losses.phasors(backend.array(np.array([[2 * np.exp(3.1j), np.exp(-3.1j)], [0, 5j]]))))
    np.testing.assert_allclose(found, [[np.exp(3.1j), np.exp(-3.1j)], [1, 1j]], rtol=1e-6, atol=1e-6)
    assert abs(found[0, 0] - found[0, 1]) == pytest.approx(2 * np.sin(np.pi - 3.1), abs=1e-6)


@pytest.mark.parametrize("name", REGULARISERS.values())
@pytest.mark.parametrize("part", ["amplitude", "phase"])
def test_regularisers_of_amplitude_and_phase(both, dtype, agree, name, part, patches) -> None:
    """Through |O| and O/|O|, values and gradients; a gradient along O changes no phase, across it no amplitude."""
    loss, parts = getattr(oracle, name), {"amplitude": np.abs, "phase": oracle.phasors}
    gradients = []
    for framework in both:
        function = getattr(framework.losses, name)
        reduced = {"amplitude": framework.losses.modulus, "phase": framework.losses.phasors}[part]
        value = function(reduced(framework.array(patches)))
        agree("function", f"{name} of {part}", value, loss(parts[part](patches)))
        gradients.append(framework.gradient(lambda x, f=function, r=reduced: f(r(x)), patches))
    agree("gradient", f"{name} of {part}", gradients[1], gradients[0])
    along = gradients[1] * patches.conj() / abs(patches)
    still = along.imag if part == "amplitude" else along.real
    assert abs(still).max() < (1e-6 if dtype == "float32" else 1e-14)
    for place in [(0, 0, 0, 0), (1, 2, 4, 6)]:
        step = np.zeros_like(patches)
        step[place] = 1e-6
        slope = (loss(parts[part](patches + step)) - loss(parts[part](patches - step))) / 2e-6
        assert gradients[1][place].real == pytest.approx(slope, rel=2e-4 if dtype == "float32" else 1e-5, abs=1e-9)


@pytest.mark.parametrize("name", ["modulus", "phasors"])
def test_an_empty_pixel_has_a_finite_gradient(framework, name) -> None:
    function, loss = getattr(framework.losses, name), framework.losses.mean_deviation
    gradient = framework.gradient(lambda x: loss(function(x)), np.array([[[0, 1j], [0, 2]]]))
    assert np.isfinite(gradient).all()
    assert gradient[0, 0, 0] == gradient[0, 1, 0] == 0


@pytest.mark.parametrize("name", REALSPACE)
def test_realspace_values(backend, agree, name, patches, truth) -> None:
    others, patches = realspace_arguments(name, truth), realspace_subject(name, patches)
    found = getattr(backend.losses, name)(*map(backend.array, [patches, *others]))
    agree("function", name, found, getattr(oracle, name)(patches, *others))


@pytest.mark.parametrize("name", REALSPACE)
def test_realspace_gradients(both, dtype, agree, name, patches, truth) -> None:
    others, loss = realspace_arguments(name, truth), getattr(oracle, name)
    patches, gradients = realspace_subject(name, patches), []
    for framework in both:
        function, given = getattr(framework.losses, name), [framework.array(other) for other in others]
        gradients.append(framework.gradient(lambda x, f=function, g=given: f(x, *g), patches))
    agree("gradient", name, gradients[1], gradients[0])
    for place in [(0, 0, 0, 0), (1, 2, 4, 6), (0, 1, 2, 3)]:
        place = place[-patches.ndim :]
        slopes = []
        for direction in (1e-6, 1e-6j):
            step = np.zeros_like(patches)
            step[place] = direction
            slopes.append((loss(patches + step, *others) - loss(patches - step, *others)) / 2e-6)
        assert gradients[1][place] == pytest.approx(complex(*slopes), rel=2e-5 if dtype == "float32" else 1e-6)


@pytest.mark.parametrize("name", REALSPACE)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_realspace_gradients_are_finite_where_there_is_nothing_to_see(framework, name, level, truth) -> None:
    """A network begins flat; an empty group has no phase to be removed."""
    others = [framework.array(other) for other in realspace_arguments(name, truth)]
    function, flat = getattr(framework.losses, name), np.full(truth.shape, level + 0j)
    gradient = framework.gradient(lambda x: function(x, *others), flat[1] if name == "probe_distance" else flat)
    assert np.isfinite(gradient).all()
    if name not in BESIDE_TRUTH:
        assert np.count_nonzero(gradient) == 0


@pytest.mark.parametrize(
    ("mode", "weights", "expected"),
    [("poisson", (1.0, 0.5), (1.0, 0.5)), ("mae", (1.0, 0.5), (0.0, 0.5)), ("mae", (1.0, 0.0), (0.0, 1.0))],
)
def test_the_mode_mae_leaves_the_absolute_error_alone(mode, weights, expected) -> None:
    def found(physics_weight: float = 1.0) -> tuple[float, ...]:
        given = dict(zip(("nll_weight", "mae_weight"), weights, strict=True))
        return tuple(detector_weights(given, mode, physics_weight).values())

    assert found() == expected
    assert found(0.0) == (0.0, 1.0)
    half = tuple(0.5 * weight for weight in expected)
    assert found(0.5) == (half[0], half[1] + 0.5)
