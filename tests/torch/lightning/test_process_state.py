"""What a training leaves of the process as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from ptycho.errors import ConfigError
from ptycho_torch.lightning.process_state import own_determinism, seeded
from ptycho_torch.workflows.components import train_cdi_model_torch


@pytest.fixture
def _determinism() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


def test_a_training_draws_nothing_from_the_generator_of_the_process(scan, training, execution) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    train_cdi_model_torch(scan, scan, training, execution_config=execution)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_draws_are_the_same_and_leave_the_generator_alone() -> None:
    torch.manual_seed(11)
    before, drawn = torch.get_rng_state(), []
    for _ in range(2):
        with seeded(3):
            drawn.append(torch.rand(4))
    assert torch.equal(*drawn)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("_determinism")
def test_determinism_comes_back_when_the_last_training_is_through() -> None:
    torch.use_deterministic_algorithms(False)
    first, second = own_determinism(True), own_determinism(True)
    first.__enter__()
    torch.use_deterministic_algorithms(True)
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.are_deterministic_algorithms_enabled()
    second.__exit__(None, None, None)
    assert not torch.are_deterministic_algorithms_enabled()


def test_two_trainings_that_want_it_otherwise_are_refused() -> None:
    with own_determinism(True), pytest.raises(ConfigError, match="deterministic='warn': expected True"):
        own_determinism("warn").__enter__()
