"""What a training leaves in its folder when no framework writes it: checkpoints, and the losses of every epoch."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.atomic import atomic_path, output_folder
from ptycho.core.npz import write_arrays
from ptycho.core.training.identity import TrainingIdentity
from ptycho.errors import ArchiveError, MissingFileError

__all__ = ["CUT_OFF", "MetricsFile", "cut_off", "nothing_left", "read_checkpoint", "write_checkpoint"]

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
    content = _read(path)
    about: dict[str, Any] = json.loads(str(content.pop("about", "{}")))
    if about.get("format") != CHECKPOINT or about["version"] > VERSION:
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


def nothing_left(path: Path, done: int, epochs: int) -> str:
    """The line that says why no epoch is trained from a checkpoint that has all of them."""
    return (
        f"{path}: has {done} of {epochs} epochs, nothing is left to train; the model is taken as it is: raise nepochs "
        "to go on"
    )


def _read(path: Path) -> dict[str, Array]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return {name: file[name] for name in file.files if name == "about" or name.isdecimal()}
    except (ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        found = CUT_OFF if cut_off(path) else f"another file ({error})"
        raise ArchiveError(
            f"{path}: expected a checkpoint of the tensorflow backend, found {found}: name the last.ckpt of this "
            "training"
        ) from error


def cut_off(path: Path) -> bool:
    """Whether a file is empty, or the beginning of an archive without its end, as a full disk or a broken copy leaves.

    Checkpoints of both backends are ZIP archives.
    """
    with path.open("rb") as file:
        begun = file.read(4)
    return not begun or (begun == b"PK\x03\x04" and not zipfile.is_zipfile(path))


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
