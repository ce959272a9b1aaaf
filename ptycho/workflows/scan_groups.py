"""A scan made ready, and its groups: what training and reconstruction do alike."""

from __future__ import annotations

from ptycho.config.config import InferenceConfig, TrainingConfig
from ptycho.core.groups.grouped_data import GroupedData
from ptycho.core.groups.options import NEUTRAL_GROUPS, GroupOptions
from ptycho.errors import DataError
from ptycho.raw_data import RawData

__all__ = ["group_scan", "prepared_scan"]


def prepared_scan(data: RawData, config: TrainingConfig | InferenceConfig, straight_probe: bool) -> RawData:
    """Check the pattern size, take the subsample that the configuration asks for, straighten the probe if need be."""
    if data.N != config.model.N:
        raise DataError(
            f"the model expects patterns of N={config.model.N} pixels, found {data.N}: crop or bin them, or train with "
            f"N={data.N}"
        )
    if straight_probe:
        data = data.without_probe_ramp()
    if config.n_subsample is None:
        return data
    return data.subsample(config.n_subsample, config.subsample_seed)


def group_scan(
    data: RawData,
    config: TrainingConfig | InferenceConfig,
    groups: int,
    sequential: bool,
    options: GroupOptions = NEUTRAL_GROUPS,
) -> GroupedData:
    """Groups of a scan by the fields that training and inference share."""
    return data.generate_grouped_data(
        config.model.N,
        K=config.neighbor_count,
        nsamples=groups,
        seed=config.subsample_seed,
        sequential_sampling=sequential,
        gridsize=config.model.gridsize,
        enable_oversampling=config.enable_oversampling,
        neighbor_pool_size=config.neighbor_pool_size,
        options=options,
    )
