"""What a checkpoint says of the training that wrote it, its scans and settings: no other training goes on from it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ptycho.core.archive import to_json
from ptycho.core.scan.identity import ScanIdentity
from ptycho.errors import ArchiveError

__all__ = ["MAY_DIFFER", "TrainingIdentity"]

logger = logging.getLogger(__name__)

MAY_DIFFER = frozenset(
    {
        # where files lie: scans are compared by their content, and only those that are trained on
        *("train_data_file", "test_data_file", "training_directories", "output_dir"),
        # how long a training lasts, so that it can go on for longer
        *("nepochs", "stage_3_epochs", "epochs_fine_tune", "fine_tune_gamma", "enable_staged_finetuning"),
        *("finetune_stage1_epochs", "finetune_stage2_epochs", "finetune_stage3_epochs", "finetune_skip_stage3"),
        *("finetune_stage1_lr_decoder", "finetune_stage2_lr_encoder_top", "finetune_stage2_lr_decoder"),
        *("finetune_stage2_lr_phase_head", "finetune_stage3_lr_encoder_bottom", "finetune_stage3_lr_encoder_top"),
        *("finetune_stage3_lr_decoder", "finetune_stage3_lr_phase_head"),
        *("finetune_early_stop_patience", "finetune_val_split"),
        # what a training that diverged is told to change
        *("gradient_clip_val", "gradient_clip_algorithm"),
        # what is made of a trained network, and what is told of it
        *("middle_trim", "window", "pad_eval", "patch_weighting", "log_patch_stats", "patch_stats_limit"),
        # the machine; the file of a checkpoint says its backend itself
        *("backend", "use_xla"),
        # the deprecated name of n_groups
        "n_images",
    }
)
"""Settings that a training may change when it goes on; all others are compared.

Learning rate, hardware, precision, loaders, logging, patience and `max_seconds` are no part of an identity in the first
place.
"""


@dataclass(frozen=True)
class TrainingIdentity:
    """The scans of a training, one per experiment, and the settings that decide what it learns."""

    scans: tuple[ScanIdentity, ...]
    settings: Mapping[str, Any]
    """Plain values by name."""

    @classmethod
    def of(cls, scans: Sequence[ScanIdentity], *settings: Any, **further: Any) -> TrainingIdentity:
        """The identity of a training.

        Args:
            scans: those that it trains on.
            settings: dataclasses; fields of nested ones count as their own.
            further: settings that no dataclass has, or not as they act.
        """
        values: dict[str, Any] = {}
        for each in settings:
            values |= _flat(asdict(each))
        values = {name: _plain(value) for name, value in (values | further).items() if name not in MAY_DIFFER}
        return cls(tuple(scans), values | {"subsample_seed": values.get("subsample_seed") or 0})

    def content(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain values."""
        return {"scans": [asdict(scan) for scan in self.scans], "settings": dict(self.settings)}

    def check(self, found: Mapping[str, Any] | None, path: Path) -> None:
        """Compare with what a checkpoint keeps; None, of one that keeps nothing yet, is told and let pass.

        Settings that only one of the two knows are not compared: they are of another version of the library.

        Raises:
            ArchiveError: other scans, or other settings; the line names them.
        """
        if found is None:
            logger.warning(
                "%s: does not say which scan and settings it was trained on, an older version wrote it: that they are "
                "those of this training could not be checked",
                path,
            )
            return
        scans = [ScanIdentity(**scan) for scan in found["scans"]]
        if [scan.sha256 for scan in scans] != [scan.sha256 for scan in self.scans]:
            raise ArchiveError(
                f"{path}: expected a checkpoint of {_listed(self.scans)}, found one of {_listed(scans)}: name the "
                "checkpoint of this run, or leave --resume out"
            )
        other = found["settings"]
        changed = [name for name, value in self.settings.items() if name in other and other[name] != value]
        if changed:
            raise ArchiveError(
                f"{path}: expected a checkpoint of a training with {_told(self.settings, changed)}, "
                f"found {_told(other, changed)}: resume with the settings of the training that wrote it, or leave "
                "--resume out"
            )


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a dictionary and of those in it."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value) if isinstance(value, Mapping) else {name: value}
    return flat


def _plain(value: Any) -> Any:
    """A setting as JSON has it; an array by its digest."""
    if isinstance(value, np.ndarray):
        return f"sha256 {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:12]}"
    return to_json(value)


def _listed(scans: Sequence[ScanIdentity]) -> str:
    return f"the scan{'s' if len(scans) > 1 else ''} {', '.join(map(str, scans))}"


def _told(settings: Mapping[str, Any], names: Sequence[str]) -> str:
    return ", ".join(f"{name}={settings[name]!r}" for name in names)
