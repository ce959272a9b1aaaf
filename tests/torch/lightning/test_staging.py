"""Stages of a training: weights and rates by hand, what they do to a network, and that they can be interrupted."""

import logging
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from ptycho.config.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.config.options import StageOptions
from ptycho.errors import ArchiveError, ConfigError
from ptycho.networks.spec import network_spec
from ptycho.workflows.networks.training_data import prepare_training
from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
from ptycho_torch.fit import PtychoPINN_Lightning, fit
from ptycho_torch.layers import CnnNetwork
from ptycho_torch.lightning.schedule import Stages
from ptycho_torch.lightning.staging import parts_of, physics_weight, plan, set_apart
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.unrolled import UnrolledNetwork

Weights = dict[str, torch.Tensor]


class Watch(Callback):
    """Notes what every step is taken with and what every epoch begins with; may interrupt before an epoch."""

    def __init__(self, interrupt_before: int | None = None) -> None:
        self.interrupt_before = interrupt_before
        self.rates: list[dict[str, float]] = []
        self.physics: list[float] = []
        self.weights: list[Weights] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.rates.append({group.get("part", "all"): group["lr"] for group in optimizer.param_groups})
        self.physics.append(pl_module.physics_weight)

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.weights.append(weights(pl_module))
        if trainer.current_epoch == self.interrupt_before:
            raise KeyboardInterrupt


def weights(module: nn.Module) -> Weights:
    return {name: value.clone() for name, value in module.state_dict().items()}


def run(scan, config: TrainingConfig, execution: PyTorchExecutionConfig, validated: bool = False, **options):
    """Module and history of a training."""
    found = prepare_training(scan, scan if validated else None, config, PtychoDataContainerTorch)
    with torch.random.fork_rng():
        torch.manual_seed(found.seed)
        model = PtychoPINN(config.model, found.probe, found.input_scale, found.intensity_scale, found.mask)
    module = PtychoPINN_Lightning(model, config, execution, found.canvas_size)
    return module, fit(module, found.train, found.test, seed=found.seed, **options)


def watched(scan, config, execution, options: StageOptions = StageOptions(), **more) -> tuple[Watch, Weights, dict]:  # noqa: B008
    watch = Watch()
    module, history = run(scan, config, execution, stages=options, callbacks=[watch], **more)
    return watch, weights(module), history


def equal(one: Weights, other: Weights) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture
def small(training: TrainingConfig) -> TrainingConfig:
    """One step an epoch."""
    return replace(training, n_groups=3, batch_size=3, nepochs=3)


@pytest.fixture
def bare(execution: PyTorchExecutionConfig) -> PyTorchExecutionConfig:
    return replace(execution, enable_checkpointing=False)


def test_weights_of_the_likelihood_by_hand() -> None:
    assert [physics_weight(e, StageOptions()) for e in range(3)] == [1, 1, 1]
    assert [physics_weight(e, StageOptions(2, 3, 1)) for e in range(7)] == [0, 0, 0.25, 0.5, 0.75, 1, 1]
    cosine = StageOptions(0, 2, 1, physics_weight_schedule="cosine")
    assert [physics_weight(e, cosine) for e in range(3)] == pytest.approx([0.25, 0.75, 1])
    steep = StageOptions(0, 4, 0, physics_weight_schedule="exponential")
    expected = [(math.exp(k) - 1) / (math.exp(5) - 1) for k in (1, 2, 3, 4)]
    assert [physics_weight(e, steep) for e in range(5)] == pytest.approx([*expected, 1])
    assert [physics_weight(e, StageOptions(2, 0, 0)) for e in range(3)] == [0, 0, 1]


def test_periods_by_hand() -> None:
    assert [(p.name, p.epochs, p.rates) for p in plan(StageOptions(), 7, 9)] == [("training", 7, None)]
    options = StageOptions(1, 2, 3, epochs_fine_tune=4, enable_staged_finetuning=True, finetune_skip_stage3=False)
    found = plan(options, 50, 9)
    assert [(p.epochs, p.patience) for p in found] == [(6, 9), (4, 9), (7, 3), (7, 3), (5, 3)]
    rates = [None if p.rates is None else [p.rates[name] for name in sorted(p.rates)] for p in found]
    assert rates == [None, [0.1] * 4, [0.1, 0, 0, 0.1], [0.05, 0, 0.01, 0.1], [0.02, 0.005, 0.01, 0.05]]
    assert len(plan(replace(options, finetune_skip_stage3=True, finetune_stage2_epochs=0), 50, 9)) == 3


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"stage_2_epochs": -1}, "stage_2_epochs=-1: expected a whole number at least 0"),
        ({"fine_tune_gamma": math.nan}, "fine_tune_gamma=nan: expected a finite number at least 0"),
        ({"finetune_val_split": 1.0}, "finetune_val_split=1.0: expected .* below 1"),
        ({"finetune_early_stop_patience": 0}, "finetune_early_stop_patience=0: expected a whole number at least 1"),
        (
            {"physics_weight_schedule": "step"},
            "physics_weight_schedule='step': expected one of linear, cosine, exponential",
        ),
        (
            {"enable_staged_finetuning": True, "finetune_stage1_epochs": 0, "finetune_stage2_epochs": 0},
            "enable_staged_finetuning asks for no epoch",
        ),
    ],
)
def test_stages_that_cannot_be(settings, line) -> None:
    with pytest.raises(ConfigError, match=line):
        StageOptions(**settings)


@pytest.mark.parametrize(("n", "border"), [(64, True), (128, False)])
def test_every_parameter_of_the_cnn_has_its_part(n, border) -> None:
    network = CnnNetwork(network_spec(ModelConfig(N=n, n_filters_scale=1, probe_big=border)))
    found = parts_of(f"model.network.{name}" for name, _ in network.named_parameters())
    levels = {part: {name.split(".")[3] for name, one in found.items() if one == part} for part in set(found.values())}
    top = {"2", "3"} if n == 64 else {"3", "4"}
    assert levels["encoder_top"] == top
    assert levels["encoder_bottom"] == set("01234"[: 2 + (n == 128)])
    heads = {name.split(".")[2] for name, part in found.items() if part == "phase_head"}
    rest = {name.split(".")[2] for name, part in found.items() if part == "decoder"}
    assert heads == {"phase_head"}
    assert rest == {"amplitude", "phase", "amplitude_head"} | ({"border_head"} if border else set())


def test_every_parameter_of_the_unrolled_network_has_its_part() -> None:
    spec = network_spec(ModelConfig(N=64, n_filters_scale=1, architecture="unrolled"))
    found = parts_of(f"model.network.{name}" for name, _ in UnrolledNetwork(spec).named_parameters())
    assert found["model.network.stages.3.down.2.conv1.weight"] == "encoder_top"
    assert found["model.network.stages.0.down.1.conv2.bias"] == "encoder_bottom"
    assert found["model.network.stages.1.up.0.conv1.weight"] == found["model.network.step"] == "decoder"
    assert found["model.network.stages.2.head.bias"] == "phase_head"
    assert parts_of(["model.log_intensity_scale"]) == {"model.log_intensity_scale": "decoder"}


class Numbers:
    """Groups that are numbers."""

    def __len__(self) -> int:
        return 9

    def batch(self, indices, truth=False, part=slice(None)) -> tuple:
        return (np.arange(9)[indices], truth)

    def check_truth(self) -> None:
        raise NotImplementedError


def test_groups_that_judge_are_taken_out() -> None:
    rest, drawn = set_apart(Numbers(), 0.3, seed=2)
    assert (len(rest), len(drawn)) == (6, 3)
    both = [part.batch(np.arange(len(part)), True) for part in (rest, drawn)]
    assert sorted([*both[0][0], *both[1][0]]) == list(range(9))
    assert both[0][1] is True
    assert rest.batch([2, 0])[0].tolist() == [both[0][0][2], both[0][0][0]]
    np.testing.assert_array_equal(set_apart(Numbers(), 0.3, seed=2)[1].chosen, drawn.chosen)
    assert any(set_apart(Numbers(), 0.3, seed=s)[1].chosen.tolist() != drawn.chosen.tolist() for s in range(3))
    assert len(set_apart(Numbers(), 0.01, seed=0)[1]) == 1
    with pytest.raises(ConfigError, match=r"finetune_val_split=0.95 leaves none of 9 groups"):
        set_apart(Numbers(), 0.95, seed=0)


def test_three_stages_bring_the_likelihood_in(scan, small, execution) -> None:
    """And the best checkpoint is of the epochs that can be compared: those of the third stage."""
    watch, _, history = watched(scan, replace(small, nepochs=9), execution, StageOptions(1, 2, 1))
    assert watch.physics == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert [step["all"] for step in watch.rates] == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4])
    assert len(history["train_loss"]) == 4
    best = torch.load(Path(small.output_dir) / "checkpoints" / "best-checkpoint.ckpt", weights_only=True)
    assert best["epoch"] == 3


def test_the_first_stage_is_training_on_the_amplitude_alone(scan, small, bare) -> None:
    _, staged, first = watched(scan, small, bare, StageOptions(2))
    _, plain, second = watched(scan, replace(small, nepochs=2, torch_loss_mode="mae"), bare)
    assert equal(staged, plain)
    assert first["train_loss"] == second["train_loss"]


def test_unseen_groups_are_always_judged_by_the_whole_likelihood(scan, small, bare) -> None:
    still = replace(bare, learning_rate=1e-12)
    history = watched(scan, small, still, StageOptions(1, 0, 1), validated=True)[2]
    assert history["val_loss"][0] == pytest.approx(history["val_loss"][1], rel=1e-6)
    assert abs(history["train_loss"][0] / history["train_loss"][1] - 1) > 0.1


def test_fine_tuning_begins_with_the_best_weights(scan, small, execution) -> None:
    """With a rate that makes the loss rise, then none: what is left is the best checkpoint."""
    options = StageOptions(epochs_fine_tune=2, fine_tune_gamma=0.0)
    wild = replace(execution, learning_rate=0.3)
    watch, found, history = watched(scan, small, wild, options)
    assert [step["all"] for step in watch.rates] == pytest.approx([0.3, 0.3, 0.3, 0, 0])
    assert int(np.argmin(history["train_loss"][:3])) != 2
    best = watch.weights[int(np.argmin(history["train_loss"][:3])) + 1]
    assert equal(best, found)
    assert not equal(best, watch.weights[3])


def test_without_a_checkpoint_it_goes_on(scan, small, bare) -> None:
    watch, found, _ = watched(scan, small, bare, StageOptions(epochs_fine_tune=1, fine_tune_gamma=0.25))
    plain = watched(scan, small, bare)[1]
    assert equal(watch.weights[3], plain)
    assert not equal(found, plain)
    assert watch.rates[-1]["all"] == pytest.approx(2.5e-4)


def test_a_period_without_progress_makes_way_for_the_next(scan, small, bare) -> None:
    still = replace(bare, learning_rate=1e-12, early_stop_patience=2)
    options = StageOptions(epochs_fine_tune=9, fine_tune_gamma=0.5)
    watch = watched(scan, replace(small, nepochs=9), still, options)[0]
    assert [step["all"] for step in watch.rates] == pytest.approx([1e-12] * 3 + [5e-13] * 2)


def test_staged_fine_tuning_frees_part_by_part(scan, small, bare, caplog) -> None:
    options = StageOptions(
        enable_staged_finetuning=True,
        finetune_stage1_epochs=1,
        finetune_stage2_epochs=1,
        finetune_stage3_epochs=1,
        finetune_skip_stage3=False,
        finetune_val_split=0.3,
    )
    config = replace(small, nepochs=1, optimizer="adamw", weight_decay=0.5)
    with caplog.at_level(logging.INFO, "ptycho_torch.lightning.schedule"):
        watch, last, history = watched(scan, config, bare, options)
    assert len(history["val_loss"]) == 4, "some groups validate"
    named = [{part: rate / 1e-3 for part, rate in step.items()} for step in watch.rates[1:]]
    assert [pytest.approx(step) for step in named] == [dict(period.rates) for period in plan(options, 1, 1)[1:]]
    states = [*watch.weights[1:], last]
    parts = parts_of(name for name in last if "network" in name)
    for stage, (before, after) in enumerate(pairwise(states)):
        moved = {part for name, part in parts.items() if not torch.equal(before[name], after[name])}
        assert moved == {part for part, rate in named[stage].items() if rate}
    lines = [record.getMessage().split(":")[0] for record in caplog.records]
    assert lines == [f"fine-tuning, stage {k}" for k in (1, 2, 3)]


def test_a_stage_ends_early_by_its_own_patience(scan, small, bare) -> None:
    options = StageOptions(
        enable_staged_finetuning=True,
        finetune_stage1_epochs=9,
        finetune_stage2_epochs=9,
        finetune_early_stop_patience=1,
        finetune_val_split=0.0,
    )
    watch, _, history = watched(scan, replace(small, nepochs=2), replace(bare, learning_rate=1e-12), options)
    assert "val_loss" not in history
    assert [step["decoder"] / 1e-12 for step in watch.rates] == pytest.approx([1, 1, 0.1, 0.05])


def test_statistics_of_frozen_layers_stay() -> None:
    module = nn.Module()
    module.encoder = nn.ModuleDict({"0": nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))})
    module.phase = nn.Sequential(nn.BatchNorm2d(1))
    module.train()
    stages = Stages(StageOptions(enable_staged_finetuning=True), 3)
    optimiser = torch.optim.SGD(stages.parameter_groups(dict(module.named_parameters())), 1.0, weight_decay=0.5)
    for group in optimiser.param_groups:
        group["lr"] = float(group["part"] == "decoder")
    stages._set_rates(SimpleNamespace(lr_scheduler_configs=[], optimizers=[optimiser]), module)
    assert (module.encoder["0"][1].training, module.phase[0].training) == (False, True)
    assert {group["part"]: group["weight_decay"] for group in optimiser.param_groups} == {
        "encoder_bottom": 0.0,
        "decoder": 0.5,
    }


FINE = StageOptions(epochs_fine_tune=1)
STAGED = StageOptions(
    1,
    1,
    1,
    epochs_fine_tune=1,
    enable_staged_finetuning=True,
    finetune_stage1_epochs=1,
    finetune_stage2_epochs=0,
    finetune_val_split=0.3,
)


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize(
    ("name", "options", "before"),
    [
        ("WarmupCosine", StageOptions(), 2),
        ("Adaptive", FINE, 3),
        ("Exponential", STAGED, 1),
        ("Default", STAGED, 4),
    ],
)
def test_an_interrupted_training_goes_on_to_the_last_bit(
    name, options, before, scan, small, execution, tmp_path
) -> None:
    execution = replace(execution, scheduler=name)
    small = replace(small, n_groups=5, weight_decay=0.01)
    whole, losses = run(scan, replace(small, output_dir=tmp_path / "whole"), execution, stages=options)
    parts = replace(small, output_dir=tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        run(scan, parts, execution, stages=options, callbacks=[Watch(interrupt_before=before)])
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    resumed, rest = run(scan, parts, execution, stages=options, resume=last)
    assert rest["train_loss"] == losses["train_loss"][before:]
    assert equal(weights(whole), weights(resumed))


def test_a_training_that_is_over_can_be_fine_tuned(scan, small, execution) -> None:
    """As if it had been asked for at once."""
    options = StageOptions(epochs_fine_tune=2, fine_tune_gamma=0.25)
    run(scan, small, execution)
    last = Path(small.output_dir) / "checkpoints" / "last.ckpt"
    watch, found, _ = watched(scan, small, execution, options, resume=last)
    assert [step["all"] for step in watch.rates] == pytest.approx([2.5e-4] * 2)
    assert equal(found, watched(scan, replace(small, output_dir=small.output_dir / "at_once"), execution, options)[1])


def test_a_checkpoint_of_other_stages_is_an_error() -> None:
    state = Stages(replace(STAGED, enable_staged_finetuning=True), 3).state_dict()
    with pytest.raises(ArchiveError, match="resume with the settings of the training that wrote it"):
        Stages(StageOptions(), 3).load_state_dict(state)
    with pytest.raises(ArchiveError, match="is in period 2 of a training without staged fine-tuning"):
        Stages(StageOptions(), 3).load_state_dict({**state, "by_parts": False, "phase": 1})
