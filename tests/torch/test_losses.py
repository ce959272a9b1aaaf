"""Losses against the oracle, their gradients against finite differences of it, and their digits at high dose."""

import numpy as np
import pytest
import torch

from ptycho.core.physics import losses as oracle
from ptycho_torch import losses

PAIRS = [(losses.poisson_loss, oracle.poisson_loss), (losses.mae_loss, oracle.mae_loss)]


@pytest.fixture
def counts(rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(3.0, (2, 3, 5, 5)).astype(float)


@pytest.fixture
def expected(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.5, 6, (2, 3, 5, 5))


@pytest.mark.parametrize(("function", "reference"), PAIRS)
@pytest.mark.parametrize("masked", [False, True])
def test_values_agree_with_the_oracle(function, reference, masked, counts, expected, rng) -> None:
    mask = rng.random((5, 5)) > 0.4 if masked else None
    found = function(
        torch.as_tensor(expected), torch.as_tensor(counts), 3.0, None if mask is None else torch.as_tensor(mask)
    )
    assert float(found) == pytest.approx(reference(expected, counts, 3.0, mask), rel=1e-12)


@pytest.mark.parametrize(("function", "reference"), PAIRS)
def test_gradients_agree_with_finite_differences_of_the_oracle(function, reference, counts, expected) -> None:
    variable = torch.as_tensor(expected).requires_grad_()
    function(variable, torch.as_tensor(counts), 3.0).backward()
    for place in [(0, 0, 0, 0), (1, 2, 4, 3), (0, 1, 2, 2)]:
        step = np.zeros_like(expected)
        step[place] = 1e-6
        slope = (reference(expected + step, counts, 3.0) - reference(expected - step, counts, 3.0)) / 2e-6
        assert float(variable.grad[place]) == pytest.approx(slope, rel=1e-5, abs=1e-10)


def test_masked_pixels_have_no_gradient_whatever_they_hold(counts, expected) -> None:
    mask = torch.ones(5, 5, dtype=torch.bool)
    mask[2, 2] = False
    for function, held in ((function, held) for function, _ in PAIRS for held in (1e9, 2.0**32, np.nan)):
        expected[..., 2, 2], counts[..., 2, 2] = 0, held
        variable = torch.as_tensor(expected, dtype=torch.float32).requires_grad_()
        value = function(variable, torch.as_tensor(counts, dtype=torch.float32), 3.0, mask)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(variable.grad).all()
        assert torch.count_nonzero(variable.grad[..., 2, 2]) == 0


@pytest.mark.parametrize("ratio", [1e-3, 1e-8, 1e-12])
def test_a_bright_pixel_predicted_black_has_a_finite_loss(ratio: float) -> None:
    counts = torch.full((2, 2), 1e9)
    variable = (counts * ratio).requires_grad_()
    value = losses.poisson_loss(variable, counts, 1e6)
    value.backward()
    exact = oracle.poisson_loss(counts.double().numpy() * ratio, counts.double().numpy(), 1e6)
    assert float(value.detach()) == pytest.approx(exact, rel=1e-5)
    assert torch.isfinite(variable.grad).all()


def test_single_precision_keeps_its_digits_at_1e8_counts() -> None:
    counts = torch.full((8, 8), 1e8, dtype=torch.float64)
    expected = counts * (1 + 1e-3)
    exact = float(losses.poisson_loss(expected, counts, 1.0))
    single = float(losses.poisson_loss(expected.float(), counts.float(), 1.0))
    assert single == pytest.approx(exact, rel=2e-4)


def test_the_loss_does_not_depend_on_the_dose(counts, expected) -> None:
    one = losses.poisson_loss(torch.as_tensor(expected), torch.as_tensor(counts), 3.0)
    many = losses.poisson_loss(torch.as_tensor(expected * 49), torch.as_tensor(counts * 49), 3.0 * 49)
    assert float(many) == pytest.approx(float(one), rel=1e-13)
