"""Which losses of the patches a configuration asks for."""

from dataclasses import replace

from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.config.options import ObjectiveOptions
from ptycho.core.training.patch_losses import patch_losses


def test_nothing_is_asked_for_by_default() -> None:
    assert patch_losses(TrainingConfig(), ObjectiveOptions()) == []


def test_each_weight_brings_its_loss() -> None:
    config = replace(TrainingConfig(), realspace_weight=0.5, realspace_mae_weight=0.25)
    options = ObjectiveOptions(
        amp_loss="Total_Variation",
        phase_loss="Mean_Deviation",
        amp_loss_coeff=2.0,
        phase_loss_coeff=3.0,
        amplitude_variance_loss=True,
        amplitude_variance_coeff=0.125,
    )
    assert patch_losses(config, options) == [
        (0.5, "total_variation", "object"),
        (0.25, "realspace_mae", "truth"),
        (2.0, "total_variation", "modulus"),
        (3.0, "mean_deviation", "phasors"),
        (0.125, "amplitude_flatness", "object"),
    ]


def test_a_supervised_model_is_compared_with_the_truth_without_a_weight() -> None:
    config = replace(TrainingConfig(), model=ModelConfig(model_type="supervised"))
    assert patch_losses(config, ObjectiveOptions()) == [(1.0, "realspace_mae", "truth")]
