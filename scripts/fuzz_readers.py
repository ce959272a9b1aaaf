"""The readers that are fuzzed: whole files of each, and what reading one is."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from ptycho.core.archive import ModelArchive, load_archive, save_archive
from ptycho.core.formats import registry
from ptycho.core.formats.opening import load_record, load_scan
from ptycho.core.formats.sources import array_in, frames_at, source
from ptycho.errors import PtychoError

__all__ = ["READERS", "Reader"]

GOLDEN = Path(__file__).parents[1] / "tests" / "fixtures" / "formats"
_HDF5 = (".h5", ".cxi", ".nxs", ".ptyd")


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


def _scan(path: Path) -> None:
    """Each way into a scan; an error of one is none of the others."""
    for use in (_record, load_scan):
        try:
            use(path)
        except PtychoError as error:
            _check_line(error)


def _check_line(error: PtychoError) -> None:
    if "\n" in str(error) or len(str(error)) > 4000:
        raise AssertionError(f"an error of several lines, or a very long one: {str(error)[:200]!r}") from error


def _make_hdf5(folder: Path) -> None:
    for path in GOLDEN.iterdir():
        if path.suffix in _HDF5:
            shutil.copy(path, folder)
    patterns = np.arange(3 * 8 * 8, dtype=np.uint16).reshape(3, 8, 8)
    rows = np.linspace(0, 1e-6, 3)
    wave = np.ones((2, 8, 8), np.complex64)
    with h5py.File(folder / "scan_master.h5", "w") as file:
        file["entry/data/data_000001"] = patterns
        file["entry/instrument/detector/x_pixel_size"] = 1e-4
        file["entry/instrument/detector/y_pixel_size"] = 1e-4
        file["entry/instrument/detector/detector_distance"] = 1.5
        file["entry/instrument/beam/incident_wavelength"] = 1.0
        file["entry/instrument/detector/pixel_mask"] = np.zeros((8, 8), np.uint32)
    with h5py.File(folder / "pair_dp.h5", "w") as file:
        file["dp"], file["probe"], file["object"] = patterns, wave, np.ones((1, 20, 20), np.complex64)
        file["probe_position_x_m"], file["probe_position_y_m"] = rows, rows
        for name in ("probe", "object"):
            file[name].attrs.update({"pixel_width_m": 1e-7, "pixel_height_m": 1e-7})
        file["object"].attrs.update({"center_x_m": 0.0, "center_y_m": 0.0})
    with h5py.File(folder / "result.ptyr", "w") as file:
        file["content/probe/S00/data"], file["content/obj/S00/data"] = wave, np.ones((1, 20, 20), np.complex64)
        file["content/obj/S00/_psize"], file["content/obj/S00/_center"] = np.full(2, 1e-7), np.full(2, 1e-6)
        file["content/positions/S00"] = np.stack([rows, rows], 1)
        file["content/pars/scans/a/data/energy"] = 8.8


def _make_npz(folder: Path) -> None:
    for path in GOLDEN.glob("*.npz"):
        shutil.copy(path, folder)
    n = np.arange(3.0)
    scan: dict[str, Any] = {"diff3d": np.ones((3, 8, 8), np.uint16), "xcoords": 9 * n, "ycoords": 9 * n}
    scan |= {"probeGuess": np.ones((8, 8), np.complex64), "mask": np.ones((8, 8), bool), "units": np.array("counts")}
    scan |= {"_metadata": np.array(json.dumps({"nphotons": 1e3, "indexes": [0, 1, 2], "origin_px": [1.0, 2.0]}))}
    np.savez(folder / "scan.npz", **scan)
    np.savez_compressed(
        folder / "packed.npz", Y=np.ones((3, 8, 8), np.complex64), xcoords_start=n, ycoords_start=n, **scan
    )
    facts = {"frame": np.array([20, 20, 0, 0]), "agreement": np.zeros(2), "synchronised": np.array(True)}
    texts = {"backend": "numpy", "method": "iterative", "subpixel": "fourier", "timings": "{}", "metadata": "{}"}
    images = {
        "object": np.ones((20, 20), np.complex64),
        "coverage": np.ones((20, 20)),
        "probe": np.ones((1, 8, 8), "c8"),
    }
    places = {"xcoords": n, "ycoords": n, "error_history": n, "provenance": "{}"}
    np.savez(folder / "reconstruction.npz", **facts, **texts, **images, **places)  # type: ignore[arg-type]


def _make_images(folder: Path) -> None:
    patterns = np.arange(3 * 5 * 7, dtype=np.int32).reshape(3, 5, 7)
    if importlib.util.find_spec("tifffile"):
        import tifffile

        tifffile.imwrite(folder / "a.tif", patterns.astype(np.uint16))
        tifffile.imwrite(folder / "b.tif", patterns[0], compression="zlib")
    if importlib.util.find_spec("fabio"):
        from fabio import cbfimage, edfimage

        cbfimage.CbfImage(data=patterns[0]).write(str(folder / "a.cbf"))
        edfimage.EdfImage(data=patterns[0]).write(str(folder / "a.edf"))
    if importlib.util.find_spec("rsciio"):
        import dask
        from rsciio import blockfile

        dask.config.set(scheduler="synchronous")  # its threads would not be there in a child
        axes = [
            {"size": 2, "scale": 1.0, "offset": 0.0, "units": "nm", "name": name, "navigate": True} for name in "yx"
        ]
        axes += [
            {"size": 8, "scale": 1.0, "offset": 0.0, "units": "cm", "name": name, "navigate": False} for name in "ba"
        ]
        signal = {
            "data": np.ones((2, 2, 8, 8), np.uint8),
            "axes": axes,
            "metadata": {},
            "original_metadata": {},
            "attributes": {"_lazy": False},
        }
        blockfile.file_writer(str(folder / "a.blo"), signal)


def _make_arrays(folder: Path) -> None:
    from scipy import io

    io.savemat(folder / "a.mat", {"frames": np.ones((8, 8, 3)), "probe": np.ones((8, 8), complex)})
    io.savemat(folder / "b.mat", {"frames": np.ones((8, 8, 3))}, do_compression=True)
    np.save(folder / "a.npy", np.ones((3, 8, 8)))
    np.savez(folder / "a.npz", frames=np.ones((3, 8, 8)), positions=np.ones((3, 2)))
    with h5py.File(folder / "a.h5", "w") as file:
        file["frames"], file["positions"] = np.ones((3, 8, 8)), np.ones((3, 2))
    (folder / "a.csv").write_text("# x_um, y_um, frame\n1.5, 2.5, 0\n2.5, 3.5, 1\n1e-3, 7, 2\n")


def _arrays(path: Path) -> None:
    from ptycho.core.formats.position_table import positions_at

    for use in (lambda: positions_at(str(path)), lambda: np.array(array_in(path, None, ("frames",)))):
        try:
            use()
        except PtychoError as error:
            _check_line(error)
    frames_at(source(str(path))).whole()


def _make_map(folder: Path) -> None:
    from ptycho.core.scan_edit.map_write import make_map

    _make_npz(folder)
    made = make_map(folder / "packed.npz")
    for path in made.iterdir():
        shutil.copy(path, folder)
    for path in [*folder.glob("*.npz")]:
        if path.name != "fields.npz":
            path.unlink()
    shutil.rmtree(made)


def _map(path: Path) -> None:
    folder = path.parent / "scan.map"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(path.parent / "whole", folder)
    shutil.copy(path, folder / f"{path.stem.partition('-')[2]}{path.suffix}")
    _scan(folder)


def _make_archive(folder: Path) -> None:
    one: dict[str, Any] = {"log_intensity_scale": 2.5, "intensity_scale_nominal": 9.5, "input_scale": 0.5}
    archive = ModelArchive(
        backend="pytorch",
        weights={"encoder/0/kernel": np.ones((3, 3, 1, 2), np.float32), "step": np.array(7)},
        probe=np.ones((1, 4, 4), np.complex64),
        mask=np.ones((4, 4), bool),
        params={"N": 64},
        configs={"model": {"N": 64}},
        versions={"ptychopinn": "1"},
        **one,
    )
    save_archive(folder / "wts.h5.zip", archive)


def _archive(path: Path) -> None:
    load_archive(path)


def _make_tensorflow(folder: Path) -> None:
    from ptycho.core.training.checkpoint_npz import write_checkpoint

    identity = {"scans": [{"name": "a", "sha256": "0" * 64}], "settings": {"nepochs": 3}}
    write_checkpoint(folder / "last.ckpt", _ARRAYS, {"epoch": 3, "plateau": asdict(_progress()), "identity": identity})


_ARRAYS = (np.arange(6.0, dtype=np.float32).reshape(2, 3), np.array(7))


def _progress() -> Any:
    from ptycho.core.training.schedules import Plateau

    return Plateau()


def _identity() -> Any:
    from ptycho.core.scan.identity import ScanIdentity
    from ptycho.core.training.identity import TrainingIdentity

    return TrainingIdentity((ScanIdentity("a", "0" * 64),), {"nepochs": 3})


def _tensorflow(path: Path) -> None:
    from ptycho.core.training.checkpoint_npz import epochs_of, read_checkpoint, restore

    _, about = read_checkpoint(path, [array.shape for array in _ARRAYS], _identity())
    restore(_progress(), about.get("plateau", {}), path)
    epochs_of(about, path)


def _make_torch(folder: Path) -> None:
    import torch

    weights = {"model.a": torch.ones(2, 3), "model.b": torch.ones(3)}
    loops = {"fit_loop": {"epoch_progress": {"current": {"processed": 3}}}}
    settings = {"config": {"optimizer": "adam", "nepochs": 3, "train_data_file": "a.npz"}}
    content = {"state_dict": weights, "hyper_parameters": settings, "loops": loops, "epoch": 3, "global_step": 9}
    torch.save({**content, "identity": _identity().content()}, folder / "last.ckpt")


def _torch(path: Path) -> None:
    import torch

    from ptycho_torch.lightning.checkpoint import check_checkpoint, models_of, training_of

    weights = {"model.a": torch.ones(2, 3), "model.b": torch.ones(3)}
    content = check_checkpoint(path, weights, "adam", _identity())
    for use in (training_of, models_of):
        try:
            use(content, str(path))
        except PtychoError as error:
            _check_line(error)


def _make_settings(folder: Path) -> None:
    (folder / "a.yaml").write_text(
        "model: &m\n  N: 64\n  gridsize: 2\nother: *m\nnepochs: 3\nlist: [1, a, 2.5, null]\n"
    )
    (folder / "a.toml").write_text('nepochs = 3\n[model]\nN = 64\nname = "a"\nlist = [1, 2]\n')
    (folder / "a.json").write_text('{"nepochs": 3, "model": {"N": 64, "list": [1, "a", null]}}')


def _settings(path: Path) -> None:
    from ptycho.config.config import TrainingConfig
    from ptycho.config.files import config_from_dict, load_config_file

    config_from_dict(TrainingConfig, load_config_file(path), str(path))


def _make_run(folder: Path) -> None:
    from ptycho.core.geometry import ObjectFrame
    from ptycho.core.refinement.run import Refinement
    from ptycho.workflows.journal import write_step

    images = {"object": np.ones((20, 20), np.complex64), "probe": np.ones((1, 8, 8), np.complex64)}
    places = {"xcoords": np.arange(3.0), "ycoords": np.arange(3.0), "frame": ObjectFrame(20, 20, 0, 0)}
    facts = {"kept": 1, "restarts": 0, "iterations": 2, "seconds": 0.5, "stopped": "done", "engine": "numpy"}
    history = {"error_history": (1.0, 0.5), "unseen_history": (), "flux": np.ones(3)}
    found = Refinement(**images, **places, **facts, **history)  # type: ignore[arg-type]
    write_step(folder / "step_0.npz", found, "search")


def _run(path: Path) -> None:
    from ptycho.workflows.journal import read_step

    read_step(path, "search")


READERS = {
    "hdf5": Reader(_make_hdf5, _record),
    "npz": Reader(_make_npz, _scan),
    "images": Reader(_make_images, _record),
    "arrays": Reader(_make_arrays, _arrays),
    "map": Reader(_make_map, _map),
    "archive": Reader(_make_archive, _archive),
    "tensorflow": Reader(_make_tensorflow, _tensorflow),
    "torch": Reader(_make_torch, _torch),
    "settings": Reader(_make_settings, _settings),
    "run": Reader(_make_run, _run),
}
"""By the name on the command line."""
