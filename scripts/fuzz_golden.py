"""Whole files of every kind that is fuzzed, as small as they can be."""

from __future__ import annotations

import importlib.util
import json
import shutil
import struct
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptycho.core.archive import ModelArchive, save_archive
from ptycho.core.files.digest import file_digest

GOLDEN = Path(__file__).parents[1] / "tests" / "fixtures" / "formats"
_HDF5 = (".h5", ".cxi", ".nxs", ".ptyd")


def make_hdf5(folder: Path) -> None:
    """Scans, products and results; one leads to others by links and a virtual data set."""
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
    with h5py.File(folder / "steps_para.h5", "w") as file:
        file["ppX"], file["ppY"], file["lambda"], file["dx"] = rows, rows, 1e-10, 1e-8
    pairs = np.ones((2, 8, 8), [("real", "f4"), ("imag", "f4")])
    with h5py.File(folder / "shelves.mat", "w", userblock_size=512) as file:
        file["object"], file["probe"] = np.ones((20, 18), pairs.dtype), pairs
        file["p/lambda"], file["p/dx_spec"] = np.full((1, 1), 1e-10), np.full((2, 1), 1e-8)
        file["outputs/probe_positions"], file["outputs/fourier_error_out"] = np.ones((2, 3)), np.ones((2, 1))
    space, layout = h5py.h5s.create_simple((3, 8, 8)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_obj_track_times(False)
    layout.set_virtual(space, b".", b"raw/frames", space)
    with h5py.File(folder / "linked.h5", "w") as file:
        file["raw/frames"], file["x"], file["y"] = patterns, rows, rows
        h5py.h5d.create(file.create_group("entry/data").id, b"data", h5py.h5t.NATIVE_UINT16, space, layout)
        file["entry/data/x"], file["entry/data/y"] = h5py.SoftLink("/x"), h5py.ExternalLink("whole/linked.h5", "/y")
        file["entry"].attrs["NX_class"], file["entry/data"].attrs["NX_class"] = "NXentry", "NXdata"
        file["entry/data"].attrs.update({"signal": "data", "axes": ["y", "x", "."]})
        file["x"].attrs["units"] = file["y"].attrs["units"] = "m"


def make_npz(folder: Path) -> None:
    """Scans and results."""
    for path in GOLDEN.glob("*.npz"):
        shutil.copy(path, folder)
    n = np.arange(3.0)
    scan: dict[str, Any] = {"diff3d": np.ones((3, 8, 8), np.uint16), "xcoords": 9 * n, "ycoords": 9 * n}
    scan |= {"probeGuess": np.ones((8, 8), np.complex64), "mask": np.ones((8, 8), bool), "units": np.array("counts")}
    scan |= {"_metadata": np.array(json.dumps({"nphotons": 1e3, "indexes": [0, 1, 2], "origin_px": [1.0, 2.0]}))}
    np.savez(folder / "scan.npz", **scan)
    _thick_result(folder / "thick.npz")
    np.savez_compressed(
        folder / "packed.npz", Y=np.ones((3, 8, 8), np.complex64), xcoords_start=n, ycoords_start=n, **scan
    )
    facts = {"frame": np.array([20, 20, 0, 0]), "agreement": np.zeros(2), "synchronised": np.array(True)}
    texts = {"backend": "numpy", "method": "refined", "subpixel": "fourier", "timings": "{}", "metadata": "{}"}
    images = {"object": np.ones((20, 20), "c8"), "coverage": np.ones((20, 20)), "probe": np.ones((1, 8, 8), "c8")}
    places: dict[str, Any] = {"xcoords": n, "ycoords": n, "error_history": n, "provenance": "{}"}
    np.savez(folder / "reconstruction.npz", **facts, **texts, **images, **places)  # type: ignore[arg-type]


def _thick_result(path: Path) -> None:
    """A result with all that one may have beside object and probe."""
    from ptycho.core.formats.reconstruction_npz import write_npz
    from ptycho.core.geometry import ObjectFrame
    from ptycho.core.physics.near_field import NearField
    from ptycho.core.physics.variable_probe import ProbeVariation
    from ptycho.core.reconstruction import Reconstruction

    shape, n = (20, 20), np.arange(3.0)
    images = {"object": np.ones(shape, np.complex64), "probe": np.ones((1, 8, 8), np.complex64)}
    beside: dict[str, Any] = {"flux": np.ones(3), "background": np.zeros((8, 8)), "fly_path": np.zeros((3, 2, 2))}
    beside |= {"slices": np.ones((2, *shape), np.complex64), "gap": NearField(0.1, 1e-3)}
    beside |= {"variation": ProbeVariation(np.ones((1, 8, 8), complex), np.ones((3, 1), complex))}
    places = {"xcoords": 4 + n, "ycoords": 4 + n, "frame": ObjectFrame(*shape, 0, 0)}
    facts: dict[str, Any] = {"backend": "numpy", "method": "refined", "subpixel": "fourier", "network_object": None}
    facts |= {"error_history": (1.0, 0.5), "timings": {"iterate": 1.0}, "synchronised": False, "agreement": (1.0, 1.0)}
    facts["coverage"] = np.ones(shape, np.float32)
    write_npz(Reconstruction(**images, **places, **beside, **facts), path)  # type: ignore[arg-type]


def make_images(folder: Path) -> None:
    """Frames of detectors."""
    patterns = np.arange(3 * 5 * 7, dtype=np.int32).reshape(3, 5, 7)
    if importlib.util.find_spec("tifffile"):
        import tifffile

        tifffile.imwrite(folder / "a.tif", patterns.astype(np.uint16))
        tifffile.imwrite(folder / "b.tif", patterns[0], compression="zlib")
        (folder / "a.mccd").write_bytes(_marccd(patterns[0].astype(np.uint16)))
    if importlib.util.find_spec("fabio"):
        from fabio import cbfimage, edfimage

        cbfimage.CbfImage(data=patterns[0]).write(str(folder / "a.cbf"))
        edfimage.EdfImage(data=patterns[0]).write(str(folder / "a.edf"))


def _marccd(frame: NDArray[np.uint16]) -> bytes:
    """A frame of a MarCCD detector: a TIFF whose pixels lie behind a header of the maker, at 4096."""
    rows, columns = frame.shape
    short, long = 3, 4
    entries = [(256, long, columns), (257, long, rows), (258, short, 16), (259, short, 1), (262, short, 1)]
    entries += [(273, long, 4096), (277, short, 1), (278, long, rows), (279, long, frame.nbytes)]
    tags = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + tags + bytes(4)
    return head.ljust(1024, b"\0") + struct.pack("<I16s", 2, b"MMX").ljust(3072, b"\0") + frame.tobytes()


def make_arrays(folder: Path) -> None:
    """Arrays and tables that are named, also a result of PtychoShelves."""
    from scipy import io

    io.savemat(folder / "a.mat", {"frames": np.ones((8, 8, 3)), "probe": np.ones((8, 8), complex)})
    io.savemat(folder / "b.mat", {"frames": np.ones((8, 8, 3))}, do_compression=True)
    parts = {"p": {"lambda": 1e-10, "dx_spec": [1e-8, 1e-8]}, "outputs": {"probe_positions": np.ones((3, 2))}}
    io.savemat(folder / "c.mat", {"object": np.ones((9, 8), complex), "probe": np.ones((4, 4), complex), **parts})
    for path in folder.iterdir():  # whose first line has the time
        path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + path.read_bytes()[116:])
    np.save(folder / "a.npy", np.ones((3, 8, 8)))
    np.savez(folder / "a.npz", frames=np.ones((3, 8, 8)), positions=np.ones((3, 2)))
    with h5py.File(folder / "a.h5", "w") as file:
        file["frames"], file["positions"] = np.ones((3, 8, 8)), np.ones((3, 2))
    np.save(folder / "b.npy", np.ones((8, 8), np.float32))
    (folder / "a.csv").write_text("# x_um, y_um, frame\n1.5, 2.5, 0\n2.5, 3.5, 1\n1e-3, 7, 2\n")


def make_map(folder: Path) -> None:
    """The files of a map of a scan."""
    from ptycho.core.scan_edit.map_write import make_map

    make_npz(folder)
    made = make_map(folder / "packed.npz")
    for path in made.iterdir():
        shutil.copy(path, folder)
    about = json.loads((folder / "manifest.json").read_text())
    about["source"] |= {"path": "packed.npz", "mtime_ns": 1}
    (folder / "manifest.json").write_text(json.dumps(about))
    for path in [*folder.glob("*.npz")]:
        if path.name != "fields.npz":
            path.unlink()
    shutil.rmtree(made)


def make_archive(folder: Path) -> None:
    """A model."""
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


def make_tensorflow(folder: Path) -> None:
    """A checkpoint of NumPy arrays."""
    from ptycho.core.training.checkpoint_npz import write_checkpoint

    identity = {"scans": [{"name": "a", "sha256": "0" * 64}], "settings": {"nepochs": 3}}
    write_checkpoint(folder / "last.ckpt", ARRAYS, {"epoch": 3, "plateau": asdict(progress()), "identity": identity})


ARRAYS = (np.arange(6.0, dtype=np.float32).reshape(2, 3), np.array(7))


def progress() -> Any:
    """What a checkpoint says of a training besides its arrays."""
    from ptycho.core.training.schedules import Plateau

    return Plateau()


def identity() -> Any:
    """The scan and settings of a training."""
    from ptycho.core.scan.identity import ScanIdentity
    from ptycho.core.training.identity import TrainingIdentity

    return TrainingIdentity((ScanIdentity("a", "0" * 64),), {"nepochs": 3})


def make_torch(folder: Path) -> None:
    """A checkpoint, and the manifest of a folder with a model."""
    import torch

    weights = {"model.a": torch.ones(2, 3), "model.b": torch.ones(3)}
    loops = {"fit_loop": {"epoch_progress": {"current": {"processed": 3}}}}
    settings = {"config": {"optimizer": "adam", "nepochs": 3, "train_data_file": "a.npz"}}
    content = {"state_dict": weights, "hyper_parameters": settings, "loops": loops, "epoch": 3, "global_step": 9}
    torch.save({**content, "identity": identity().content()}, folder / "last.ckpt")
    manifest = {"format": "ptychopinn-checkpoint", "format_version": 1, "backend": "pytorch", "params": {"N": 64}}
    manifest |= {"checkpoint": "last.ckpt", "sha256": file_digest(folder / "last.ckpt")}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def make_settings(folder: Path) -> None:
    """Settings in each language."""
    (folder / "a.yaml").write_text(
        "model: &m\n  N: 64\n  gridsize: 2\nother: *m\nnepochs: 3\nlist: [1, a, 2.5, null]\n"
    )
    (folder / "a.toml").write_text('nepochs = 3\n[model]\nN = 64\nname = "a"\nlist = [1, 2]\n')
    (folder / "a.json").write_text('{"nepochs": 3, "model": {"N": 64, "list": [1, "a", null]}}')


def make_run(folder: Path) -> None:
    """A step of a run, and the state of a search."""
    from ptycho.core.geometry import ObjectFrame
    from ptycho.core.physics.near_field import NearField
    from ptycho.core.physics.variable_probe import ProbeVariation
    from ptycho.core.refinement.refinement import Refinement
    from ptycho.workflows.journal import write_step

    images = {"object": np.ones((20, 20), np.complex64), "probe": np.ones((1, 8, 8), np.complex64)}
    places = {"xcoords": np.arange(3.0), "ycoords": np.arange(3.0), "frame": ObjectFrame(20, 20, 0, 0)}
    facts = {"kept": 1, "restarts": 0, "iterations": 2, "seconds": 0.5, "stopped": "done", "engine": "numpy"}
    history = {"error_history": (1.0, 0.5), "unseen_history": (), "flux": np.ones(3), "background": np.zeros((8, 8))}
    found = Refinement(**images, **places, **facts, **history)  # type: ignore[arg-type]
    write_step(folder / "step_0.npz", found, "search")
    variation = ProbeVariation(np.ones((1, 8, 8), complex), np.ones((3, 1), complex))
    thick = {"slices": np.ones((2, 20, 20), np.complex64), "gap": NearField(0.1, 1e-3)}
    write_step(folder / "step_1.npz", replace(found, variation=variation, **thick), "search")  # type: ignore[arg-type]
    (folder / "running.npz").write_bytes(_state(folder / "state.npz"))
    (folder / "state.npz").unlink()


def _state(path: Path) -> bytes:
    """The state of a search for an object of 9 x 9 pixels."""
    from ptycho.core.refinement.descent import Descent, State
    from ptycho.core.refinement.device.kernels import Direction, Point

    point = Point(
        np.ones((9, 9), "c8"), np.ones((1, 4, 4), "c8"), np.arange(3.0), np.arange(3.0), np.ones(3), np.zeros((4, 4))
    )
    direction = Direction(point.object, point.probe)
    found = Descent(point, [1.0, 0.5], [], 1, 0)
    keeper(path).keep(State(point, 0.5, direction, found, False, 1, 0, None), np.random.default_rng(0))
    return path.read_bytes()


def keeper(path: Path) -> Any:
    """What keeps the state of a search; of the problem only what it asks for."""
    from types import SimpleNamespace

    from ptycho.core.refinement.state_file import ScanKeeper, StateFile

    problem: Any = SimpleNamespace(gauge_at=lambda point: (1.0, (0.0, 0.0), (0, 0)), prepared=None)
    return ScanKeeper(StateFile(path, "search", seconds=0.0), problem, lambda found: found)


def make_records(folder: Path) -> None:
    """What a run says of itself, and a list of scans."""
    from ptycho.cli.batch import Row

    run = {"arguments": ["a.npz", "--probe.modes", "2"], "working_directory": "/"}
    rings = {"frequency": [0.1, 0.2], "correlation": [1.0, 0.5], "n": [9, 20], "patterns": [3, 4]}
    numbers = {"mean": 1.5, "std": 0.5, "var_zero_mean": 0.25}
    batch = {"phase": "train", "global_mean": 1.5, "var_zero_mean": 0.25, "per_patch": [1, 2]}
    row = Row("a.npz", "out/a", "done", "green", 0.1, 1, 20, 20, 5.0, 3.5, "found")
    records: dict[str, Any] = {"run": run, "frc": {**rings, "object_pixel_m": 1e-8, "scan_sha256": "0" * 64}}
    records |= {"stats": {"patch": numbers, "canvas": numbers}, "pooled": [batch, batch], "batch": asdict(row)}
    records |= {"before": {"a.png": [1, 2], "b.png": None}}
    for name, content in records.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "scans.txt").write_text("a.npz  # the first\n'b c.npz' --iterations 9\n")
