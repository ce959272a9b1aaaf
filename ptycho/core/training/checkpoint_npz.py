"""What a training leaves in its folder when no framework writes it: checkpoints, and the losses of every epoch."""

from __future__ import annotations

import csv
import dataclasses
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.atomic import atomic_path, output_folder
from ptycho.core.files.damage import readable
from ptycho.core.files.npz import open_npz, write_arrays
from ptycho.core.training.identity import TrainingIdentity
from ptycho.errors import ArchiveError, MissingFileError

__all__ = [
    "CUT_OFF",
    "MetricsFile",
    "cut_off",
    "epochs_of",
    "nothing_left",
    "read_checkpoint",
    "restore",
    "write_checkpoint",
]

CHECKPOINT = "ptychopinn-tensorflow-checkpoint"
VERSION = 1
CUT_OFF = "the beginning of one, which was cut off (copied in part, or the disk was full)"

Array = NDArray[Any]


def write_checkpoint(path: Path, arrays: Sequence[Array], about: Mapping[str, Any]) -> None:
    """Write arrays in their order, and plain values about them, as an NPZ, whole or not at all."""
    content: dict[str, Any] = {f"{index}": array for index, array in enumerate(arrays)}
    content["about"] = np.array(json.dumps({"format": CHECKPOINT, "version": VERSION, **about}))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        write_arrays(file, content)


def read_checkpoint(
    path: Path, shapes: Sequence[tuple[int, ...]], identity: TrainingIdentity | None = None
) -> tuple[list[Array], dict[str, Any]]:
    """The arrays of a checkpoint, which have to have these shapes, and the values about them.

    `identity` is that of the scans and settings that it has to have been trained on; None does not compare them.

    Raises:
        MissingFileError: there is no such file.
        ArchiveError: the file is no checkpoint of the tensorflow backend, or of other scans, settings, network or
            optimiser.
    """
    if not path.is_file():
        raise MissingFileError(f"no checkpoint to resume from at {path}: leave --resume out to start afresh")
    expected, advice = "a checkpoint of the tensorflow backend", "name the last.ckpt of this training"
    if path.is_file() and cut_off(path):
        raise ArchiveError(f"{path}: expected {expected}, found {CUT_OFF}: {advice}")
    with readable(path, expected, ArchiveError, advice):
        return _checked(path, shapes, identity)


def _checked(
    path: Path, shapes: Sequence[tuple[int, ...]], identity: TrainingIdentity | None
) -> tuple[list[Array], dict[str, Any]]:
    content = _read(path)
    about: dict[str, Any] = json.loads(str(content.pop("about", "{}")))
    version = about.get("version")
    if about.get("format") != CHECKPOINT or not isinstance(version, int) or not 1 <= version <= VERSION:
        raise ArchiveError(
            f"{path}: expected a checkpoint of the tensorflow backend, version {VERSION} or older, found "
            f"{about.get('format', 'another file')} {about.get('version', '')}: name the last.ckpt of this training"
        )
    if identity is not None:
        identity.check(about.get("identity"), path)
    arrays = [content[str(index)] for index in range(len(content))]
    if [array.shape for array in arrays] != list(shapes):
        raise ArchiveError(
            f"{path}: expected {len(shapes)} arrays of this network and optimiser, found {len(arrays)} or other "
            "shapes: resume with the settings of the training that wrote it"
        )
    return arrays, about


def epochs_of(about: Mapping[str, Any], path: Path) -> int:
    """The epochs that a checkpoint has seen; ArchiveError where it does not say."""
    found = about.get("epoch")
    if not isinstance(found, int) or found < 0:
        raise ArchiveError(f"{path}: expected a number of epochs, found {found!r}; train again")
    return found


def nothing_left(path: Path, done: int, epochs: int) -> str:
    """The line that says why no epoch is trained from a checkpoint that has all of them."""
    return (
        f"{path}: has {done} of {epochs} epochs, nothing is left to train; the model is taken as it is: raise nepochs "
        "to go on"
    )


def _read(path: Path) -> dict[str, Array]:
    with open_npz(path) as file:
        return {name: file[name] for name in file if name == "about" or name.isdecimal()}


def restore(target: Any, stored: Mapping[str, Any], path: Path) -> None:
    """Put the fields of a dataclass of numbers back as a checkpoint has them.

    Raises:
        ArchiveError: others than those of `target`.
    """
    fields = {field.name for field in dataclasses.fields(target)}
    if not isinstance(stored, dict) or stored.keys() != fields or not all(map(_is_number, stored.values())):
        raise ArchiveError(f"{path}: expected the numbers {', '.join(sorted(fields))}, found {stored!r}; train again")
    vars(target).update(stored)


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, (int, float))


def cut_off(path: Path) -> bool:
    """Whether a file is empty, or the beginning of an archive without its end, as a full disk or a broken copy leaves.

    Checkpoints of both backends are ZIP archives.
    """
    with path.open("rb") as file:
        begun = file.read(4)
    try:
        return not begun or (begun == b"PK\x03\x04" and not zipfile.is_zipfile(path))
    except zipfile.BadZipFile:  # there is an end, which is damaged
        return False


class MetricsFile:
    """`logs/version_<k>/metrics.csv` of a run, k the first number that is free: where Lightning's CSVLogger writes.

    One line per epoch, `epoch,step,train_loss[,val_loss]`: epochs and steps are counted from 0 and from the start of
    the training, the step is the last of its epoch. The folder is made with the first line.
    """

    def __init__(self, output_dir: Path) -> None:
        self.folder = Path(output_dir) / "logs"
        self.path: Path | None = None

    def add(self, epoch: int, step: int, losses: Mapping[str, float]) -> None:
        """Append the line of an epoch."""
        row = {"epoch": epoch, "step": step, **losses}
        first = self.path is None
        if self.path is None:
            self.path = output_folder(self.folder / f"version_{self._version()}") / "metrics.csv"
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if first:
                writer.writeheader()
            writer.writerow(row)

    def _version(self) -> int:
        taken = [path.name.removeprefix("version_") for path in self.folder.glob("version_*")]
        return 1 + max((int(number) for number in taken if number.isdecimal()), default=-1)
