"""A scan as a network takes it, and the warnings where it is far from the scan of the training."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ptycho.config.config import InferenceConfig, ModelConfig
from ptycho.core.physics.diffraction import as_modes
from ptycho.raw_data import RawData
from ptycho.workflows.networks.model_scan import scan_for


def network(data: RawData, factor: float = 1.0, probe: Any = None, scan: Any = None) -> Any:
    """A model that was trained on patterns of this scan, of `factor` times the energy."""
    modes = as_modes(np.asarray(data.probeGuess if probe is None else probe))
    seen: list[Any] = []
    return SimpleNamespace(
        config=ModelConfig(N=data.N, gridsize=1),
        scaling=SimpleNamespace(straight_probe=False, level=1.0),
        input_scale=data.N / 2 / np.sqrt(factor * data.mean_energy),
        probe=SimpleNamespace(file_units=lambda masked=True: modes, take_energy_of=seen.append),
        scan=scan or {},
        seen=seen,
    )


@pytest.fixture
def data(plain: RawData, monkeypatch: pytest.MonkeyPatch) -> RawData:
    monkeypatch.setattr("ptycho.workflows.networks.training_data.PATTERN_SIZES", (plain.N,))
    return plain.part(np.arange(20))


def test_the_settings_are_the_models_and_the_probe_takes_the_energy_of_the_scan(data: RawData, caplog) -> None:
    model = network(data)
    with caplog.at_level(logging.WARNING):
        scan, settings = scan_for(model, data, InferenceConfig(n_subsample=7, subsample_seed=1))
    assert settings.model is model.config and len(scan) == 7
    (given,) = model.seen
    np.testing.assert_array_equal(given, data.probeGuess)
    assert not caplog.messages


@pytest.mark.parametrize(("factor", "warned"), [(0.55, False), (1.9, False), (0.45, True), (2.1, True)])
def test_more_than_twice_the_energy_is_warned_of(data: RawData, factor: float, warned: bool, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        scan_for(network(data, factor), data, InferenceConfig())
    assert [text for text in caplog.messages if "times the energy" in text] == caplog.messages
    assert bool(caplog.messages) is warned
    assert not warned or caplog.messages[0].startswith(f"the patterns hold {1 / factor:.2g} times")


def test_another_probe_and_another_number_of_modes_are_warned_of(data: RawData, caplog) -> None:
    other = np.roll(data.probeGuess, 9, axis=-1)
    with caplog.at_level(logging.WARNING):
        scan_for(network(data, probe=np.stack([other, 0.1 * other])), data, InferenceConfig())
    modes, overlap = caplog.messages
    assert modes.startswith("the network was trained with 2 probe modes, the scan has 1")
    assert overlap.startswith("the scan's probe overlaps with that of the network by 0.")


def test_weights_of_many_experiments_are_compared_with_none(data: RawData, caplog) -> None:
    drawn = {"source": {"simulated": {"ranges": {"photons": [1, 2]}}}}
    with caplog.at_level(logging.WARNING):
        scan_for(network(data, 50.0, scan=drawn), data, InferenceConfig())
    assert not caplog.messages
