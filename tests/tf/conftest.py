"""A small real chain for the TensorFlow tests: the fixture scan, and settings that train in a second."""

from pathlib import Path

import pytest

from ptycho.config.config import ModelConfig, TrainingConfig


@pytest.fixture
def training(tmp_path: Path) -> TrainingConfig:
    model = ModelConfig(N=64, gridsize=1, n_filters_scale=1)
    return TrainingConfig(model=model, nepochs=2, n_groups=32, backend="tensorflow", output_dir=tmp_path / "out")
