"""The scans of a training: one, or those of several experiments that train the same network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ptycho.config.config import TrainingConfig
from ptycho.core.formats.opening import MemoryMap
from ptycho.errors import ConfigError, DataError, MissingFileError
from ptycho.raw_data import RawData

__all__ = [
    "Asked",
    "Files",
    "Scans",
    "TestScans",
    "as_asked",
    "directory_files",
    "experiment_files",
    "experiment_pairs",
    "read_experiments",
    "scan_files",
    "scans_to_stitch",
]

TRAIN, TEST = "train_data.npz", "test_data.npz"

Scans = RawData | Sequence[RawData]
"""A scan to train on, or one per experiment."""
TestScans = RawData | Sequence[RawData | None] | None
"""What to validate with, of several experiments in the same order."""

Files = tuple[Path, Path | None]
"""The scan to train on, and the one to validate with, if there is one."""


def experiment_pairs(train_data: Scans, test_data: TestScans) -> list[tuple[RawData, RawData | None]]:
    """Every experiment's scan to train on and the one to validate with, if it has one.

    Raises:
        ConfigError: no experiment, or lists that do not fit together.
    """
    train = [train_data] if isinstance(train_data, RawData) else list(train_data)
    if test_data is None:
        test: list[RawData | None] = [None] * len(train)
    else:
        test = [test_data] if isinstance(test_data, RawData) else list(test_data)
    if not train or len(train) != len(test):
        raise ConfigError(
            f"experiments: expected one scan to train on, or more, and as many to validate with (None for none), found "
            f"{len(train)} and {len(test)}"
        )
    return list(zip(train, test, strict=True))


Asked = tuple[Scans, TestScans, TrainingConfig]
"""Scans to train on and to validate with, and the configuration."""


def as_asked(
    asked: Asked, flip_x: bool = False, flip_y: bool = False, transpose: bool = False, M: int | None = None
) -> Asked:
    """A training with the positions of all its scans along other axes, and with the part of a patch that is stitched.

    Args:
        asked: the training.
        flip_x, flip_y, transpose: as of `RawData.turned`.
        M: side of the central part of each patch that is stitched, pixels (`stitching.middle_trim`); None leaves what
            the configuration says.
    """
    train_data, test_data, config = asked
    if M is not None:
        config = replace(config, stitching=replace(config.stitching, middle_trim=M))
    if not (flip_x or flip_y or transpose):
        return train_data, test_data, config
    pairs = experiment_pairs(train_data, test_data)
    turned = [[one and one.turned(flip_x, flip_y, transpose) for one in pair] for pair in pairs]
    return [train for train, _ in turned if train is not None], [test for _, test in turned], config


def scans_to_stitch(train_data: Scans, test_data: TestScans) -> list[RawData]:
    """Of every experiment the scan to reconstruct: the one to validate with, else the one to train on."""
    return [train if test is None else test for train, test in experiment_pairs(train_data, test_data)]


def read_experiments(
    files: Sequence[Files], units: str | None = None, memory_map: MemoryMap = "auto"
) -> tuple[list[RawData], list[RawData | None]]:
    """The scans to train on and, in the same order, those to validate with.

    Args:
        files: of every experiment.
        units: what the patterns of all of them hold, instead of what each file says.
        memory_map: as of `RawData.from_file`.

    Raises:
        MissingFileError, DataError: a scan that is not there or cannot be read; the line names it.
    """
    train = [RawData.from_file(path, units, memory_map) for path, _ in files]
    test = [None if path is None else RawData.from_file(path, units, memory_map) for _, path in files]
    return train, test


def experiment_files(config: TrainingConfig) -> list[Files]:
    """The files of every experiment of a training, in the order of their numbers.

    The first is `train_data_file` with `test_data_file`, those of `training_directories` follow; a folder with that
    same scan in it is no further experiment. Without `train_data_file` the first directory comes first, and
    `test_data_file` takes the place of what is there to validate with.

    Raises:
        MissingFileError, DataError: as `scan_files`.
    """
    test = config.test_data_file if _is_set(config.test_data_file) else None
    found = directory_files(config.training_directories)
    if _is_set(config.train_data_file):
        assert config.train_data_file is not None
        first = config.train_data_file.resolve()
        return [(config.train_data_file, test), *(files for files in found if files[0].resolve() != first)]
    return [(found[0][0], test or found[0][1]), *found[1:]] if found else []


def directory_files(folders: Sequence[Path]) -> list[Files]:
    """The files of the experiments in folders: `train_data.npz` with `test_data.npz`, or else every scan by itself.

    Raises:
        MissingFileError: a folder without a scan to train on.
        DataError: a `test_data.npz` beside several scans.
    """
    found: list[Files] = []
    for folder in folders:
        scans, test = _scans(Path(folder))
        if test is not None and len(scans) > 1:
            raise DataError(
                f"{test}: expected {TRAIN} beside it, found {len(scans)} scans; name the one that it belongs to {TRAIN}"
            )
        found += [(scan, test) for scan in scans]
    return found


def scan_files(folder: Path) -> Files:
    """The scan of a folder to train on, `train_data.npz` or its only one, and `test_data.npz`, if it is there.

    A file is the scan to train on itself.

    Raises:
        MissingFileError: no scan to train on.
        DataError: several, none of them named `train_data.npz`.
    """
    scans, test = _scans(folder)
    if len(scans) > 1:
        names = ", ".join(path.name for path in scans[:4])
        raise DataError(f"{folder}: expected {TRAIN} or one other scan, found {names}; name the one {TRAIN}")
    return scans[0], test


def _scans(folder: Path) -> tuple[list[Path], Path | None]:
    """The scans of a folder to train on, `train_data.npz` alone where it is there, and `test_data.npz`."""
    if folder.is_file():
        return [folder], None
    # a hidden one is what a run that was killed left of a scan (`atomic_path`)
    found = sorted(path for path in folder.glob("*.npz") if not path.name.startswith("."))
    test = next((path for path in found if path.name == TEST), None)
    scans = [path for path in found if path != test]
    if not scans:
        raise MissingFileError(f"{folder}: expected {TRAIN} or one other scan (.npz), found none; export it there")
    return [path for path in scans if path.name == TRAIN] or scans, test


def _is_set(path: Path | None) -> bool:
    return path is not None and path != Path()
