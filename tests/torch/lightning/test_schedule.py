"""Learning rates of PyTorch trainings, and when a training stops and what it keeps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ptycho.config.options import StageOptions
from ptycho.core.training.schedules import RateCurve
from ptycho.errors import ConfigError
from ptycho_torch.lightning.schedule import rate_curve
from ptycho_torch.workflows.components import train_cdi_model_torch


def test_curves_by_hand() -> None:
    def factors(name: str, **settings) -> list[float]:
        curve = RateCurve(name, 3, 6, **settings)
        return [curve.factor(step // 2, step) for step in range(6)]

    assert factors("Default", default=lambda step: float(step)) == [0, 1, 2, 3, 4, 5]
    assert factors("Default") == factors("MultiStage") == [1.0] * 6
    assert factors("MultiStage", lowered_from=2, lowered_by=0.25) == [1, 1, 1, 1, 0.25, 0.25]
    assert factors("Exponential", floor=1 / 8) == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])
    assert factors("WarmupCosine", warmup_epochs=1)[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert factors("Cosine", warmup_epochs=1, floor=0.0)[:4:3] == pytest.approx([1, 0.5])
    with pytest.raises(ConfigError, match=r"scheduler must be one of Default, .*, found 'Step'"):
        RateCurve("Step", 3, 6)


@pytest.mark.parametrize("name", ["ReduceLROnPlateau", "Adaptive"])
def test_a_plateau_halves_the_rate(name) -> None:
    curve = RateCurve(name, 9, 9)
    found = []
    for loss in (1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8):
        curve.plateau.see(loss)
        found.append(curve.factor(0, 0))
    assert found == [1.0] * 5 + [0.5] * 2


@pytest.mark.parametrize(
    ("options", "epochs", "from_epoch"),
    [(StageOptions(), 3, 2), (StageOptions(), 5, 4), (StageOptions(1, 0, 3), 9, 1), (StageOptions(0, 2, 2), 9, 2)],
)
def test_where_multistage_lowers_the_rate(options, epochs, from_epoch, training) -> None:
    """At the third stage where there are stages, else with the last third."""
    total = options.epochs(epochs)
    curve = rate_curve("MultiStage", replace(training, nepochs=epochs), options, total)
    assert [curve.factor(e, e) for e in range(total)] == [1.0] * from_epoch + [0.1] * (total - from_epoch)


def test_a_warm_up_has_to_leave_an_epoch(training) -> None:
    config = replace(training, lr_warmup_epochs=3)
    with pytest.raises(ConfigError, match="lr_warmup_epochs=3 leaves no epoch of the 3 of the stages"):
        rate_curve("WarmupCosine", config, StageOptions(1, 1, 1), 6)


def test_groups_are_added_up_before_a_step(scan, training, execution) -> None:
    """Two batches of one size a step: the same as one batch of both."""
    execution = replace(execution, enable_checkpointing=False)
    config = replace(training, n_groups=6, batch_size=3, nepochs=2, optimizer="sgd")
    twice = replace(execution, accum_steps=2)
    added, whole, plain = (
        train_cdi_model_torch(scan, None, c, execution_config=e)["model"].state_dict()
        for c, e in ((config, twice), (replace(config, batch_size=6), execution), (config, execution))
    )
    for name, expected in whole.items():
        torch.testing.assert_close(added[name], expected, rtol=1e-5, atol=1e-8)
    assert not torch.allclose(added["network.phase_head.weight"], plain["network.phase_head.weight"], rtol=1e-3)


def test_training_stops_when_the_loss_stands_still(scan, training, execution) -> None:
    execution = replace(execution, learning_rate=1e-12, early_stop_patience=2, enable_checkpointing=False)
    results = train_cdi_model_torch(scan, None, replace(training, nepochs=9, n_groups=2), execution_config=execution)
    assert len(results["history"]["train_loss"]) == 3


@pytest.mark.parametrize("kept", [0, 1, 2, -1])
def test_the_best_checkpoints_are_kept_and_the_last_is_the_last(kept, scan, training, execution) -> None:
    """Also after an epoch that is no better: so much rate that the loss rises."""
    execution = replace(execution, checkpoint_save_top_k=kept, learning_rate=0.3)
    results = train_cdi_model_torch(scan, None, replace(training, n_groups=2, nepochs=4), execution_config=execution)
    losses = results["history"]["train_loss"]
    assert losses != sorted(losses, reverse=True), "no epoch is worse than the one before"
    folder = Path(training.output_dir) / "checkpoints"
    assert torch.load(folder / "last.ckpt", weights_only=True)["epoch"] == 3
    best = [torch.load(path, weights_only=True)["epoch"] for path in folder.glob("best-checkpoint*.ckpt")]
    assert sorted(best) == sorted(np.argsort(losses)[: len(losses) if kept == -1 else kept])
