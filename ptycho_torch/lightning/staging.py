"""Stages of a training: which losses, rates and parts of the network each of them has. Data alone, no framework.

Three stages (`stage_1_epochs` and so on, in the place of `nepochs`) bring in the likelihood: first the robust error of
the amplitude alone, then a mixture, at last the configured likelihood alone, at a lower rate. `epochs_fine_tune` adds
epochs at a constant lower rate, and staged fine-tuning after that frees the network part by part, from its outputs to
its inputs, as in Howard & Ruder, ACL 2018 (arXiv:1801.06146).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ptycho.config.options import StageOptions
from ptycho.errors import ConfigError

__all__ = ["Groups", "Period", "SomeGroups", "parts_of", "physics_weight", "plan", "set_apart"]

EXPONENT = 5.0
"""How steep the exponential schedule is: half of its weight comes in the last seventh."""

Part = Literal["decoder", "phase_head", "encoder_top", "encoder_bottom"]


_RISES = {
    "linear": lambda part: part,
    "cosine": lambda part: (1 - math.cos(math.pi * part)) / 2,
    "exponential": lambda part: math.expm1(EXPONENT * part) / math.expm1(EXPONENT),
}


def physics_weight(epoch: int, options: StageOptions) -> float:
    """Weight w of the configured likelihood in an epoch, counted from 0: `loss = (1 - w) mae + w configured`.

    0 in stage 1, 1 in stage 3 and after. Epoch i of the n of stage 2 has `w(t)`, `t = (i + 1) / (n + 1)`: linear `t`,
    cosine `(1 - cos(pi t)) / 2`, exponential `(e^(5 t) - 1) / (e^5 - 1)`. Without three stages always 1.

    >>> [physics_weight(epoch, StageOptions(1, 3, 1)) for epoch in range(6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    since = epoch - options.stage_1_epochs
    if not options.three_stages or since >= options.stage_2_epochs:
        return 1.0
    if since < 0:
        return 0.0
    return float(_RISES[options.physics_weight_schedule]((since + 1) / (options.stage_2_epochs + 1)))


@dataclass(frozen=True)
class Period:
    """Epochs that follow one rule and can end early together."""

    name: str
    epochs: int
    patience: int
    """Epochs without progress that end it."""
    rates: Mapping[str, float] | None = None
    """Factor of the learning rate, constant, of every part; None: what the schedule says, for all of them."""


def plan(options: StageOptions, nepochs: int, patience: int) -> tuple[Period, ...]:
    """The periods of a training in their order; those without an epoch are left out.

    Args:
        options: the stages.
        nepochs: epochs of a training without stages.
        patience: epochs without progress that end a period, where the options do not say.
    """
    parts: Sequence[Part] = ("decoder", "phase_head", "encoder_top", "encoder_bottom")
    fine = Period("fine-tuning", options.epochs_fine_tune, patience, dict.fromkeys(parts, options.fine_tune_gamma))
    periods = [Period("training", options.epochs(nepochs), patience), fine]
    if options.enable_staged_finetuning:
        periods += _finetuning(options)
    return tuple(period for period in periods if period.epochs)


def _finetuning(options: StageOptions) -> list[Period]:
    """The stages of staged fine-tuning."""
    o, patience = options, options.finetune_early_stop_patience

    def period(stage: int, epochs: int, **rates: float) -> Period:
        return Period(f"fine-tuning, stage {stage}", epochs, patience, rates)

    return [
        period(
            1,
            o.finetune_stage1_epochs,
            decoder=o.finetune_stage1_lr_decoder,
            phase_head=o.finetune_stage1_lr_decoder,
            encoder_top=0.0,
            encoder_bottom=0.0,
        ),
        period(
            2,
            o.finetune_stage2_epochs,
            decoder=o.finetune_stage2_lr_decoder,
            phase_head=o.finetune_stage2_lr_phase_head,
            encoder_top=o.finetune_stage2_lr_encoder_top,
            encoder_bottom=0.0,
        ),
        period(
            3,
            0 if o.finetune_skip_stage3 else o.finetune_stage3_epochs,
            decoder=o.finetune_stage3_lr_decoder,
            phase_head=o.finetune_stage3_lr_phase_head,
            encoder_top=o.finetune_stage3_lr_encoder_top,
            encoder_bottom=o.finetune_stage3_lr_encoder_bottom,
        ),
    ]


_LEVEL = re.compile(r"(?:^|\.)(?:encoder|down)\.(\d+)\.")
_PHASE_HEAD = re.compile(r"(?:^|\.)(?:phase_head|stages\.\d+\.head)\.")


def parts_of(names: Iterable[str]) -> dict[str, Part]:
    """The part of the network that each parameter belongs to, by the names that PyTorch gives them.

    * `encoder_top`: the deeper half of the levels of the encoder; of `unrolled`, of the way down of its corrections;
    * `encoder_bottom`: the other half, which is next to the input (of an odd number the larger one);
    * `phase_head`: the last layer of the phase; of `unrolled` the heads of the corrections, which make both;
    * `decoder`: everything else: both decoders, the heads of amplitude and border, and what comes after the network
      (intensity scale, probe).
    """
    names = list(names)
    found = {name: int(match[1]) for name in names if (match := _LEVEL.search(name))}
    levels = max(found.values(), default=-1) + 1

    def part(name: str) -> Part:
        if name in found:
            return "encoder_top" if 2 * found[name] >= levels else "encoder_bottom"
        return "phase_head" if _PHASE_HEAD.search(name) else "decoder"

    return {name: part(name) for name in names}


class Groups(Protocol):
    """What training needs of a container of groups."""

    def __len__(self) -> int: ...

    def batch(self, indices: Any, truth: bool = False, part: slice = slice(None)) -> tuple[Any, ...]:
        """Groups of one step, or a part of them."""


class SomeGroups:
    """Some groups of a container, in this order; nothing is copied."""

    def __init__(self, groups: Groups, chosen: NDArray[np.int64]) -> None:
        self.groups = groups
        self.chosen = chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def batch(self, indices: Any, truth: bool = False, part: slice = slice(None)) -> tuple[Any, ...]:
        """Groups of one step, or a part of them."""
        return self.groups.batch(self.chosen[indices], truth, part)


def set_apart(groups: Groups, part: float, seed: int) -> tuple[SomeGroups, SomeGroups]:
    """Draw a part of the groups, one at least, by the seed: the groups that stay, and those drawn, each in order.

    Raises:
        ConfigError: none stays.
    """
    count = max(1, round(part * len(groups)))
    if count >= len(groups):
        raise ConfigError(
            f"finetune_val_split={part} leaves none of {len(groups)} groups to train on: lower it or raise n_groups"
        )
    drawn = np.zeros(len(groups), bool)
    drawn[np.random.default_rng(seed).permutation(len(groups))[:count]] = True
    return SomeGroups(groups, np.flatnonzero(~drawn)), SomeGroups(groups, np.flatnonzero(drawn))
