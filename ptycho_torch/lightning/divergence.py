"""Stopping a training that diverges, as a Lightning callback; the rule is `ptycho.core.training.divergence`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from numpy.typing import NDArray
from torch import Tensor

from ptycho.core.training.divergence import LOOK_EVERY, DivergenceWatch, check_resumed

__all__ = ["FiniteTraining", "check_finite"]

Named = Iterator[tuple[str, Tensor]]


class FiniteTraining(Callback):
    """Ends a training with a `DivergedError` before an epoch that is not finite is reported, validated or written.

    A gradient that is not finite is no divergence: with mixed precision such a step is left out.

    Args:
        learning_rate: of the training, for the advice.
        checkpoints: that this training writes, the best one first.
        resume: the checkpoint that it goes on from.
    """

    def __init__(
        self, learning_rate: float, checkpoints: Sequence[ModelCheckpoint] = (), resume: Path | None = None
    ) -> None:
        self.checkpoints = checkpoints
        self.resume = resume
        self.watch = DivergenceWatch(learning_rate, self._best, to_host=_to_host)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A look at every loss costs nothing on a CPU; on a GPU it waits for the device."""
        self.watch.interval = 1 if pl_module.device.type == "cpu" else LOOK_EVERY

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss."""
        self.watch.see(outputs["loss"], trainer.current_epoch + 1, batch_idx + 1)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the weights before they are validated."""
        self._check(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note the loss."""
        self.watch.see(outputs, trainer.current_epoch + 1, batch_idx + 1, "validation loss")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the weights before they are written."""
        if trainer.val_dataloaders is None:
            self._check(trainer, pl_module)
        self.watch.look()

    def _check(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.watch.look()
        named = list(_changed(trainer, module))
        # Adam counts its steps on the CPU, whatever the device of the weights
        finite = torch.stack([tensor.isfinite().all().to(module.device) for _, tensor in named])
        if not bool(finite.all()):
            self.watch.check((name, _to_host([tensor])) for name, tensor in named)

    def _best(self) -> Path | None:
        """The checkpoint of the best model so far; as long as there is none, the one that training goes on from."""
        written = [Path(each.best_model_path) for each in self.checkpoints if each.best_model_path]
        return next((path for path in written if path.is_file()), self.resume)


def _to_host(tensors: Sequence[Tensor]) -> NDArray[Any]:
    """One array of tensors of one shape."""
    stacked = torch.stack(list(tensors)).detach().cpu()
    array: NDArray[Any] = (stacked if stacked.is_complex() else stacked.double()).numpy()
    return array


def _changed(trainer: pl.Trainer, module: pl.LightningModule) -> Named:
    """What has to stay finite, by name: all that a checkpoint keeps, and what scales of the models are made of it.

    A scale is to be a number above 0: its inverse is finite, too.
    """
    yield from module.state_dict().items()
    for optimiser in trainer.optimizers:
        yield from _moments(optimiser.state)
    for model in module.models:  # type: ignore[union-attr]
        yield "intensity_scale", model.log_intensity_scale.detach().abs().exp()


def _moments(state: Mapping[Any, Mapping[str, Any]]) -> Named:
    """The tensors of an optimiser's state."""
    for number, values in enumerate(state.values()):
        for name, value in values.items():
            if isinstance(value, Tensor):
                yield f"{name} of parameter {number}", value


def check_finite(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Refuse to go on from a checkpoint, whose content this is, that is not finite.

    Raises:
        ArchiveError: naming it.
    """
    arrays = dict(checkpoint["state_dict"])
    for one in checkpoint.get("optimizer_states", ()):
        arrays |= dict(_moments(one["state"]))
    check_resumed(path, ((name, _to_host([array])) for name, array in arrays.items()))
