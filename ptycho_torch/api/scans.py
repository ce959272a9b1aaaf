"""Scans as the interface takes them: a folder of files to train on, or arrays to reconstruct."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ptycho.core.files.atomic import output_folder
from ptycho.errors import DataError, OutputError
from ptycho.raw_data import RawData
from ptycho.workflows.experiments import Files, directory_files, scan_files
from ptycho_torch.api.config_manager import ConfigManager

__all__ = ["DataloaderFormats", "PtychoDataLoader"]


class DataloaderFormats(Enum):
    """How groups reach the training."""

    LIGHTNING = "lightning_only_module"
    """Batches that Lightning reads."""


class PtychoDataLoader:
    """A scan to train on or to reconstruct, and the folder of the run.

    Args:
        data_dir: the scan file, or a folder with `train_data.npz` or one other NPZ; `test_data.npz` in it is the scan
            to validate with.
        config_manager: the settings.
        data_format: how groups reach the training.
        output_dir: the run gets a folder `run_<time>` of its own in it.

    Raises:
        MissingFileError, DataError, OutputError: no scan, more than one, a damaged one, or nowhere to write.
    """

    train_file: Path | None
    """Where the scan was read; None for one in memory."""
    test_file: Path | None
    """Where the scan to validate with was read, if there is one."""

    def __init__(
        self,
        data_dir: Path | str,
        config_manager: ConfigManager,
        data_format: DataloaderFormats | str = DataloaderFormats.LIGHTNING,
        output_dir: Path | str | None = None,
    ) -> None:
        self.data_format = DataloaderFormats(data_format)
        self.train_file, self.test_file = scan_files(Path(data_dir))
        train = RawData.from_file(self.train_file)
        validation = None if self.test_file is None else RawData.from_file(self.test_file)
        self._hold(config_manager, train, validation, output_dir)

    @classmethod
    def from_np(
        cls,
        diff_patterns: ArrayLike,
        probe: ArrayLike,
        positions: ArrayLike,
        config_manager: ConfigManager,
        units: str | None = None,
        output_dir: Path | str | None = None,
    ) -> PtychoDataLoader:
        """A scan in memory; nothing is copied.

        Args:
            diff_patterns: (n, N, N) counts or amplitude of any real type, zero frequency at [N/2, N/2].
            probe: complex (N, N) or (M, N, N).
            positions: (n, 2) centres of the patches, **[y, x]** pixels of the object.
            config_manager: the settings.
            units: 'counts' or 'amplitude' where the caller knows; else the data say.
            output_dir: as of the class.

        Raises:
            DataError: arrays that do not fit together.
        """
        yx = np.asarray(positions, np.float64)
        if yx.ndim != 2 or yx.shape[1] != 2:
            raise DataError(f"positions: expected (n, 2), the pairs [y, x], found shape {yx.shape}; reshape them")
        made = cls.__new__(cls)
        made.data_format, made.train_file, made.test_file = DataloaderFormats.LIGHTNING, None, None
        scan = RawData(yx[:, 1], yx[:, 0], None, None, diff_patterns, probe, units=units)
        made._hold(config_manager, scan, None, output_dir)
        return made

    def others(self, folders: Sequence[Path]) -> list[Files]:
        """The files of further experiments (`training_directories`), all but this one."""
        own = None if self.train_file is None else self.train_file.resolve()
        return [files for files in directory_files(folders) if files[0].resolve() != own]

    def _hold(
        self, manager: ConfigManager, train: RawData, validation: RawData | None, output_dir: Path | str | None
    ) -> None:
        self.config_manager, self.train, self.validation = manager, train, validation
        self._parent = Path(manager.training_config.output_dir if output_dir is None else output_dir)
        self._run: Path | None = None

    @property
    def output_dir(self) -> Path:
        """The folder of the run, made when it is first asked for."""
        if self._run is None:
            self._run = _new_run(self._parent)
        return self._run


def _new_run(parent: Path) -> Path:
    """A new folder `run_<time>`."""
    name = time.strftime("run_%Y%m%d_%H%M%S")
    for number in itertools.count(1):
        folder = output_folder(parent) / (name if number == 1 else f"{name}_{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another one") from error
        break
    return folder
