"""Models to and from `wts.h5.zip`, with the canonical names that both backends share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptycho.config.config import TrainingConfig
from ptycho.core.archive import ModelArchive, load_archive, save_archive
from ptycho.networks.archiving import (
    archived_arguments,
    checked_weights,
    choose_experiment,
    make_archive,
    restore_params,
)
from ptycho_torch.layers import canonical_name
from ptycho_torch.lightning.process_state import seeded
from ptycho_torch.network import Network
from ptycho_torch.pinn import PtychoPINN

__all__ = [
    "archive_of",
    "blank_model",
    "canonical_weights",
    "load_torch_bundle",
    "model_from_archive",
    "restored",
    "save_torch_bundle",
    "set_canonical_weights",
]


def canonical_weights(network: Network) -> dict[str, NDArray[np.floating[Any]]]:
    """Trained arrays and running statistics by canonical name; kernels as `(row, column, in, out)`."""
    weights = {}
    for name, tensor in _named(network):
        array = tensor.detach().cpu().numpy()
        weights[name] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
    return weights


def _named(network: Network) -> Iterator[tuple[str, torch.Tensor]]:
    """What an archive holds of a network, by canonical name."""
    yield from ((canonical_name(name), parameter) for name, parameter in network.named_parameters())
    for name, buffer in network.named_buffers():
        if not name.endswith("num_batches_tracked"):
            yield canonical_name(name), buffer


def set_canonical_weights(network: Network, weights: dict[str, NDArray[Any]], source: str) -> None:
    """Put arrays with canonical names into a network; names and shapes must be just those of its spec.

    Raises:
        ArchiveError: naming `source` and the first array that is missing, unexpected or of another shape.
    """
    checked = checked_weights(network.spec, weights, source)
    with torch.no_grad():
        for name, tensor in _named(network):
            array = checked[name]
            tensor.copy_(torch.as_tensor(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array))


def save_torch_bundle(path: Path, model: PtychoPINN | Sequence[PtychoPINN], config: TrainingConfig) -> Path:
    """Write a trained model as `wts.h5.zip` into the folder `path` (or as `path`, when it ends in `.zip`).

    `model` may be those of several experiments, which share one network.
    """
    return save_archive(Path(path), archive_of([model] if isinstance(model, PtychoPINN) else list(model), config))


def archive_of(models: Sequence[PtychoPINN], config: TrainingConfig) -> ModelArchive:
    """Models that share one network as data."""
    versions = {"torch": torch.__version__, "lightning": version("lightning")}
    weights, masks = canonical_weights(models[0].network), [model.mask.cpu().numpy() for model in models]
    return make_archive("pytorch", models, weights, masks, config, versions)


def model_from_archive(archive: ModelArchive, source: str = "archive") -> PtychoPINN:
    """Build the model that an archive describes, on the CPU and in evaluation mode."""
    model = blank_model(archive, source)
    set_canonical_weights(model.network, archive.weights, source)
    model.log_intensity_scale.data.fill_(archive.log_intensity_scale)
    return model.eval()


def blank_model(archive: ModelArchive, source: str = "archive", network: Network | None = None) -> PtychoPINN:
    """The model that an archive describes, all but its weights; with the network of another one, where one is given."""
    with seeded(0):  # its first weights are drawn, and give way to those of the archive
        model = PtychoPINN(**archived_arguments(archive, source), network=network)
    model.scan = dict(archive.scan)
    return model


def load_torch_bundle(
    path: Path,
    device: torch.device | str = "cpu",
    experiment: int | None = None,
    probe: NDArray[Any] | None = None,
) -> tuple[PtychoPINN, ModelArchive]:
    """Load `wts.h5.zip` (its folder, the zip, or an unpacked archive) onto a device; restore `params.cfg`.

    `params.cfg` receives the archive's snapshot and the computed keys `probe`, `intensity_scale`, `input_scale`.

    Args:
        path: the archive.
        device: where the model goes.
        experiment: where the network was trained with several, the number of the one whose probe and scales are used.
        probe: of the scan to reconstruct, which else chooses (`choose_experiment`); without both it is the first.

    Raises:
        MissingFileError, ArchiveError: from reading the archive or from weights that do not fit the network.
        ConfigError: there is no such experiment.
    """
    return restored(choose_experiment(load_archive(Path(path)), experiment, probe), str(path), device)


def restored(archive: ModelArchive, source: str, device: torch.device | str = "cpu") -> tuple[PtychoPINN, ModelArchive]:
    """The model of an archive that is read, on a device, and the archive; `params.cfg` as by `load_torch_bundle`."""
    model = model_from_archive(archive, source).to(device)
    restore_params(archive, model.intensity_scale)
    return model, archive
