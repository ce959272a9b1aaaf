"""Pictures of what a network reconstructs while it is trained: some patches, and the stitched object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ptycho.config.config import INFERENCE_BATCH, PyTorchExecutionConfig
from ptycho.core.files.atomic import output_folder
from ptycho.core.geometry import object_frame
from ptycho.core.stitching.stitch import probe_weight, stitch_variants
from ptycho.core.stitching.synchronise import synchronise
from ptycho.errors import ConfigError
from ptycho.figures.drawing import colour_range, draw_bar, draw_map, save_figure, seen_pixels
from ptycho_torch.loader import PtychoDataContainerTorch
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.precision import full_float32

__all__ = ["ReconstructionLog", "draw_object", "draw_patches"]

Complex = NDArray[np.complex64]

_SIDE = 2.2  # inches of a patch


def draw_patches(patches: Complex, names: list[str]) -> Figure:
    """One row for each patch `(n, N, N)`: amplitude and phase, all rows on one scale."""
    figure = Figure(figsize=(2 * (_SIDE + 1.4), len(patches) * (_SIDE + 0.4)), layout="constrained")
    seen = np.ones(patches.shape[1:], bool)
    for row, name in zip(np.atleast_2d(figure.subplots(len(patches), 2)), names, strict=True):
        row[0].set_title(name, fontsize=9)
    for column, (kind, values) in enumerate((("amplitude", np.abs(patches)), ("phase", np.angle(patches)))):
        limits = colour_range(list(values), kind)
        for axes, value in zip(figure.axes[column::2], values, strict=True):
            image = draw_map(axes, value, seen, kind, limits)
            draw_bar(axes, image, "|O|" if kind == "amplitude" else "arg O (rad)")
    return figure


def draw_object(image: Complex, coverage: NDArray[np.float32]) -> Figure:
    """Amplitude and phase of an object `(H, W)`; what no patch reaches is hatched."""
    figure = Figure(figsize=(4 * (_SIDE + 0.6), 2 * _SIDE), layout="constrained")
    seen = seen_pixels(image, coverage)
    both = (("amplitude", np.abs(image), "|O|"), ("phase", np.angle(image), "arg O (rad)"))
    for axes, (kind, values, label) in zip(figure.subplots(1, 2), both, strict=True):
        draw_bar(axes, draw_map(axes, values, seen, kind, colour_range([values[seen]], kind)), label)
    return figure


class ReconstructionLog(Callback):
    """Writes `recon_log/epoch_NNN_patches.png` and, where asked for, `epoch_NNN_object.png`; epochs count from 1.

    The first member of every chosen group is drawn, in the file's units. The object is stitched from all groups, or
    from `recon_log_max_stitch_samples` of them spread over the scan, with the phases that its overlaps ask for; it is
    made for the eye, not for figures of merit. Where metrics go to TensorBoard, the pictures go there too.

    Args:
        groups: what is shown.
        execution: the settings, `recon_log_*`.
        folder: the training's output folder.
        seed: of the draw of `recon_log_num_patches` groups, where `recon_log_fixed_indices` does not name them.

    Raises:
        ConfigError: an index beyond the groups.
    """

    def __init__(
        self, groups: PtychoDataContainerTorch, execution: PyTorchExecutionConfig, folder: Path, seed: int
    ) -> None:
        self.execution = execution
        self.folder = folder / "recon_log"
        count, fixed = len(groups), execution.recon_log_fixed_indices or None
        if fixed is not None and max(fixed, default=0) >= count:
            raise ConfigError(
                f"recon_log_fixed_indices={fixed}: expected indices of {count} groups, from 0; lower them"
            )
        drawn = np.random.default_rng(seed).permutation(count)[: execution.recon_log_num_patches]
        self.chosen = np.sort(drawn) if fixed is None else np.asarray(fixed, np.int64)
        most = min(execution.recon_log_max_stitch_samples or count, count)
        self.stitched = np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))
        self.groups = groups

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Draw what the network says now; training goes on as if nobody had looked."""
        epoch = trainer.current_epoch + 1
        every = self.execution.recon_log_every_n_epochs
        if every is None or epoch % every or not trainer.is_global_zero:
            return
        model: PtychoPINN = pl_module.model
        was_training = model.training
        model.eval()
        try:
            patches = predicted(model, self.groups, self.chosen)[0][:, 0]
            figures = {"patches": draw_patches(patches, [f"group {index}" for index in self.chosen])}
            if self.execution.recon_log_stitch:
                figures["object"] = draw_object(*stitched(model, self.groups, self.stitched))
        finally:
            model.train(was_training)
        for name, figure in figures.items():
            save_figure(figure, output_folder(self.folder) / f"epoch_{epoch:03d}_{name}.png")
            _to_tensorboard(trainer, f"reconstruction/{name}", figure, epoch)


def predicted(
    model: PtychoPINN, groups: PtychoDataContainerTorch, chosen: NDArray[np.int64]
) -> tuple[Complex, NDArray[np.float64]]:
    """Patches `(n, C, N, N)` of the members of some groups, and their positions `(n, C, 2)`, (x, y) pixels.

    The groups are seen as at inference: the members alone, without held-out neighbours.
    """
    on_grid = model.subpixel == "fourier"
    alone = PtychoDataContainerTorch(groups.grouped, groups.probe.numpy(), groups._mask, on_grid=on_grid)
    positions = alone.pixel_positions if on_grid else np.asarray(alone.grouped["coords_nn"])
    device, found = model.log_intensity_scale.device, []
    with torch.inference_mode(), full_float32():
        for start in range(0, len(chosen), INFERENCE_BATCH):
            batch: tuple[Tensor, ...] = alone.batch(chosen[start : start + INFERENCE_BATCH])
            normalised, relative, *further = (tensor.to(device) for tensor in batch)
            found.append(model.predict_on_grid(normalised, relative, alone.canvas_size, *further).cpu().numpy())
    return np.concatenate(found), np.moveaxis(positions[chosen][:, 0], 1, 2)


def stitched(
    model: PtychoPINN, groups: PtychoDataContainerTorch, chosen: NDArray[np.int64]
) -> tuple[Complex, NDArray[np.float32]]:
    """The object of some groups `(H, W)` on the smallest canvas that holds them, and its coverage."""
    patches, positions = predicted(model, groups, chosen)
    count, members, n, _ = patches.shape
    flat, (x, y) = patches.reshape(-1, n, n), positions.reshape(-1, 2).T
    weight = probe_weight(model.probe.file_units())
    labels = np.repeat(np.arange(count), members)
    turns = synchronise(flat, x, y, weight, labels=labels).turns
    made = stitch_variants(flat, x, y, weight, object_frame(x, y, n), [turns])[0]
    return made.object, made.coverage


def _to_tensorboard(trainer: pl.Trainer, tag: str, figure: Figure, epoch: int) -> None:
    """Add a picture to every logger that has a stream of images."""
    for logger in trainer.loggers:
        add = getattr(getattr(logger, "experiment", None), "add_image", None)
        if add is not None:
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            add(tag, np.asarray(canvas.buffer_rgba())[..., :3], epoch, dataformats="HWC")
