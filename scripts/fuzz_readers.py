"""The readers that are fuzzed: whole files of each, and what reading one is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import fuzz_golden as golden
import numpy as np
from fuzz_electron import make_electron

from ptycho.core.archive import load_archive
from ptycho.core.formats import registry
from ptycho.core.formats.opening import load_record, load_scan
from ptycho.core.formats.sources import array_in, frames_at, source
from ptycho.errors import PtychoError

__all__ = ["READERS", "Reader"]


class Reader(NamedTuple):
    """A family of files that go one way."""

    make: Callable[[Path], None]
    """Fills a folder with whole files."""
    read: Callable[[Path], None]
    """Reads a file as the commands do; the whole files lie in the folder beside it, `whole`."""


def _record(path: Path) -> None:
    """As `ptycho convert` and `ptycho reconstruct` read it."""
    record = registry.read(path)
    for frames in (record.patterns, record.true_patches):
        if frames is not None and len(frames):
            frames.read(np.array([0, len(frames) - 1]))
    load_record(record, path)


def _each(path: Path, *uses: Callable[[Path], object]) -> None:
    """Each way into a file; an error of one is none of the others."""
    for use in uses:
        try:
            use(path)
        except PtychoError as error:
            _check_line(error)


def _scan(path: Path) -> None:
    _each(path, _record, load_scan)


def _check_line(error: PtychoError) -> None:
    if "\n" in str(error) or len(str(error)) > 4000:
        raise AssertionError(f"an error of several lines, or a very long one: {str(error)[:200]!r}") from error


def _arrays(path: Path) -> None:
    from ptycho.config.options import NetworkOptions
    from ptycho.core.formats.position_table import positions_at
    from ptycho.core.simulation.truth_files import read_object, read_probe

    _each(
        path,
        lambda one: positions_at(str(one)),
        lambda one: np.array(array_in(one, None, ("frames",))),
        lambda one: frames_at(source(str(one))).whole(),
        lambda one: NetworkOptions(mask_array=str(one)),
        read_object,
        read_probe,
        _record,
    )


def _map(path: Path) -> None:
    folder, name = path.parent / "scan.map", path.name.partition("-")[2]
    if not folder.exists():
        shutil.copytree(path.parent / "whole", folder)
    try:
        shutil.copyfile(path, folder / name)
        _scan(folder)
    finally:
        shutil.copyfile(path.parent / "whole" / name, folder / name)


def _archive(path: Path) -> None:
    load_archive(path)


def _tensorflow(path: Path) -> None:
    from ptycho.core.training.checkpoint_npz import epochs_of, read_checkpoint, restore

    _, about = read_checkpoint(path, [array.shape for array in golden.ARRAYS], golden.identity())
    restore(golden.progress(), about.get("plateau", {}), path)
    epochs_of(about, path)


def _torch(path: Path) -> None:
    import torch

    from ptycho_torch.lightning.checkpoint import check_checkpoint, models_of, training_of
    from ptycho_torch.lightning.model_folder import checkpoint_in

    if path.suffix == ".json":
        shutil.copyfile(path, path.parent / "whole" / "manifest.json")
        checkpoint_in(path.parent / "whole")
        return
    weights = {"model.a": torch.ones(2, 3), "model.b": torch.ones(3)}
    content = check_checkpoint(path, weights, "adam", golden.identity())
    _each(path, lambda one: training_of(content, str(one)), lambda one: models_of(content, str(one)))


def _settings(path: Path) -> None:
    from ptycho.config.config import TrainingConfig
    from ptycho.config.files import config_from_dict, load_config_file

    config_from_dict(TrainingConfig, load_config_file(path), str(path))


def _run(path: Path) -> None:
    from ptycho.workflows.journal import read_step

    _each(
        path,
        lambda one: read_step(one, "search"),
        lambda one: golden.keeper(one).restore(np.random.default_rng(0)),
    )


def _records(path: Path) -> None:
    from ptycho.cli.batch import Job, jobs_of, row_of, write_table
    from ptycho.cli.resuming import read_asked
    from ptycho.core.files.written import written_before
    from ptycho.core.quality.patch_stats import read_statistics
    from ptycho.core.quality.resolution import read_resolution

    _each(
        path,
        lambda one: jobs_of([str(one)], "", one.parent) if one.suffix == ".txt" else None,
        read_asked,
        read_resolution,
        read_statistics,
        lambda one: written_before(one, [Path("a.png"), Path("b.png")]),
    )
    folder = path.parent / "run"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(path, folder / "batch.json")
    _each(folder, lambda one: write_table([row_of(Job("a.npz", (), one))], path.parent / "table.csv"))


READERS = {
    "hdf5": Reader(golden.make_hdf5, _record),
    "npz": Reader(golden.make_npz, _scan),
    "images": Reader(golden.make_images, _record),
    "electron": Reader(make_electron, _record),
    "arrays": Reader(golden.make_arrays, _arrays),
    "map": Reader(golden.make_map, _map),
    "archive": Reader(golden.make_archive, _archive),
    "tensorflow": Reader(golden.make_tensorflow, _tensorflow),
    "torch": Reader(golden.make_torch, _torch),
    "settings": Reader(golden.make_settings, _settings),
    "run": Reader(golden.make_run, _run),
    "records": Reader(golden.make_records, _records),
}
"""By the name on the command line."""
