"""Models to and from `wts.h5.zip`, with the canonical names that both backends share."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray

import ptycho
from ptycho import params
from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.config.files import config_from_dict
from ptycho.core.archive import ModelArchive, json_snapshot, load_archive, save_archive, to_json
from ptycho.errors import ArchiveError
from ptycho_torch.layers import CnnNetwork, canonical_name
from ptycho_torch.model import PtychoPINN

__all__ = ["canonical_weights", "load_torch_bundle", "model_from_archive", "save_torch_bundle", "set_canonical_weights"]


def canonical_weights(network: CnnNetwork) -> dict[str, NDArray[np.floating[Any]]]:
    """Trained arrays by canonical name; kernels as `(row, column, in, out)`."""
    weights = {}
    for name, parameter in network.named_parameters():
        array = parameter.detach().cpu().numpy()
        weights[canonical_name(name)] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
    return weights


def set_canonical_weights(network: CnnNetwork, weights: dict[str, NDArray[Any]], source: str) -> None:
    """Put arrays with canonical names into a network; names and shapes must be just those of its spec.

    Raises:
        ArchiveError: naming `source` and the first array that is missing, unexpected or of another shape.
    """
    expected = network.spec.parameters()
    for name in sorted(expected.keys() ^ weights.keys()):
        state = "is missing" if name in expected else "is unexpected"
        raise ArchiveError(
            f"{source}: weight {name!r} {state} for N={network.spec.N}: the archive is of another network"
        )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            canonical = canonical_name(name)
            array, shape = weights[canonical], expected[canonical]
            if array.shape != shape:
                raise ArchiveError(f"{source}: weight {canonical!r} must be of shape {shape}, found {array.shape}")
            parameter.copy_(torch.as_tensor(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array))


def save_torch_bundle(path: Path, model: PtychoPINN, config: TrainingConfig) -> Path:
    """Write a trained model as `wts.h5.zip` into the folder `path` (or as `path`, when it ends in `.zip`)."""
    archive = ModelArchive(
        backend="pytorch",
        weights=canonical_weights(model.network),
        probe=model.probe.file_units(masked=False),
        log_intensity_scale=math.log(model.intensity_scale),
        intensity_scale_nominal=model.nominal_intensity_scale,
        input_scale=model.input_scale,
        mask=model.mask.cpu().numpy(),
        params=json_snapshot(params.cfg),
        configs={"training": to_json(asdict(config))},
        versions={"ptychopinn": ptycho.__version__, "torch": torch.__version__, "lightning": lightning.__version__},
    )
    return save_archive(Path(path), archive)


def model_from_archive(archive: ModelArchive, source: str = "archive") -> PtychoPINN:
    """Build the model that an archive describes, on the CPU and in evaluation mode."""
    try:
        config = config_from_dict(ModelConfig, archive.configs["training"]["model"])
    except KeyError as error:
        raise ArchiveError(f"{source}: the configuration of the model is missing ({error}): save it again") from error
    model = PtychoPINN(
        config,
        archive.probe,
        archive.input_scale,
        archive.intensity_scale_nominal,
        archive.mask,
        intensity_scale_trainable=False,
    )
    set_canonical_weights(model.network, archive.weights, source)
    model.log_intensity_scale.data.fill_(archive.log_intensity_scale)
    return model.eval()


def load_torch_bundle(path: Path, device: torch.device | str = "cpu") -> tuple[PtychoPINN, ModelArchive]:
    """Load `wts.h5.zip` (its folder, the zip, or an unpacked archive) onto a device; restore `params.cfg`.

    `params.cfg` receives the archive's snapshot and the computed keys `probe`, `intensity_scale`, `input_scale`.

    Raises:
        MissingFileError, ArchiveError: from reading the archive or from weights that do not fit the network.
    """
    archive = load_archive(Path(path))
    model = model_from_archive(archive, str(path)).to(device)
    params.cfg.update(archive.params)
    params.cfg.update(probe=archive.probe, intensity_scale=model.intensity_scale, input_scale=archive.input_scale)
    return model, archive
