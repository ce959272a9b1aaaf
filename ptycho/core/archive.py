"""The model archive `wts.h5.zip`: one layout for both backends, read without unpickling.

The layout is specified in specs/archive_format.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import pickle
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Literal, NamedTuple, cast

import h5py
import numpy as np
import numpy.typing as npt

from ptycho.core.files.atomic import atomic_path, output_folder
from ptycho.core.files.damage import DAMAGE, check_regular, readable
from ptycho.core.files.hdf5_values import open_hdf5, own_datasets, own_member
from ptycho.core.files.npz import read_member
from ptycho.core.finite import non_finite
from ptycho.errors import ArchiveError, ConfigError, MissingFileError

__all__ = [
    "ARCHIVE_NAME",
    "FORMAT_VERSION",
    "MODEL_NAMES",
    "ArchivedExperiment",
    "ModelArchive",
    "check_experiment",
    "find_archive",
    "json_snapshot",
    "load_archive",
    "save_archive",
    "to_json",
]

ARCHIVE_NAME = "wts.h5.zip"
FORMAT = "ptychopinn-model"
FORMAT_VERSION = 2
"""Version 1 is what is written where there is one experiment; version 2 has several."""
MODEL_NAMES = ("autoencoder", "diffraction_to_obj")

Backend = Literal["pytorch", "tensorflow"]

_NAMED = 5
"""Members of a file that an error shows."""
_SCALARS = ("log_intensity_scale", "intensity_scale_nominal", "input_scale")
_POSITIVE = ("intensity_scale_nominal", "input_scale")


@dataclass(frozen=True, kw_only=True)
class ArchivedExperiment:
    """What a model knows of one experiment beside the network."""

    probe: npt.NDArray[np.complex64]
    """(M, N, N) incoherent modes in the unit of the measured amplitude."""
    log_intensity_scale: float
    """log s of the intensity scale s that the model uses, learned or not."""
    intensity_scale_nominal: float
    """sqrt(nphotons) / (N/2), the intensity scale before training."""
    input_scale: float
    """k: the network sees k times the amplitudes of a file."""
    mask: npt.NDArray[np.bool_] | None = None
    """(N, N), True where the detector pixel is valid; None when all are."""
    scan: dict[str, Any] = field(default_factory=dict)
    """What is known of the scan: `metadata` and `source`, as results have them; empty where nobody said."""


@dataclass(frozen=True, kw_only=True)
class ModelArchive(ArchivedExperiment):
    """A trained model as data, without a framework; of several experiments the first is its own."""

    backend: Backend
    """The backend that trained it; the other one reads it too."""
    weights: dict[str, npt.NDArray[Any]]
    """Arrays by canonical parameter name, such as "encoder/0/conv1/kernel"."""
    others: tuple[ArchivedExperiment, ...] = ()
    """The further experiments that the network was trained with."""
    params: dict[str, Any] = field(default_factory=dict)
    """Snapshot of params.cfg."""
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The configuration dataclasses as dicts, by name."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of the libraries that took part, by name."""
    probe_mask: npt.NDArray[np.float32] | None = None
    """(N, N), from 0 to 1: the mask that multiplies the probe, where it is an array and no disk."""

    @property
    def experiments(self) -> tuple[ArchivedExperiment, ...]:
        """All experiments, this one first."""
        return (self, *self.others)

    def of_experiment(self, number: int) -> ModelArchive:
        """The same network with the probe, the mask and the scales of one experiment, counted from 0.

        Raises:
            ConfigError: there is no such experiment.
        """
        check_experiment(number, len(self.experiments))
        chosen = self.experiments[number]
        own = {each.name: getattr(chosen, each.name) for each in fields(ArchivedExperiment)}
        return replace(self, **own, others=())


def check_experiment(number: int, count: int) -> None:
    """Raise ConfigError unless `number` is that of one of `count` experiments."""
    if not 0 <= number < count:
        raise ConfigError(f"experiment_number={number}: the model was trained with {count}, expected 0 to {count - 1}")


class _Source(NamedTuple):
    """An archive opened for reading: where it is, what its members are called, how to get their bytes."""

    path: Path
    names: list[str]
    read: Callable[[str], bytes]


def to_json(value: Any, name: str = "value") -> Any:
    """Turn a configuration value into what JSON holds.

    Paths become text with forward slashes, tuples lists, NumPy scalars and 0-d arrays Python numbers,
    dataclasses and mappings dicts with text for keys.

    Raises:
        ConfigError: anything else: arrays, complex numbers, objects, and numbers that are not finite. The
            line names the entry.
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {str(key): to_json(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item, f"{name}[{index}]") for index, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    shown = f"of shape {value.shape}" if hasattr(value, "shape") else repr(value)
    found = f"{type(value).__name__} {shown}"
    raise ConfigError(f"{name}: expected a finite number, text, a path, a list or a dict, found {found}")


def json_snapshot(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of `params` that JSON can hold; the others (probe, arrays, objects) are left out."""
    kept = {}
    for key, value in params.items():
        try:
            kept[str(key)] = to_json(value, str(key))
        except ConfigError:
            continue
    return kept


def save_archive(path: Path, archive: ModelArchive) -> Path:
    """Write `archive` and return the path of the zip; equal archives give equal bytes.

    Args:
        path: a name that ends in `.zip`, or else a folder (made when it is not there) that gets `wts.h5.zip`.
        archive: what to write. Entries of `params` that JSON cannot hold are left out; in `configs` they are
            an error.

    Raises:
        ArchiveError: unknown backend, a probe that is not (M, N, N), a weight that is no numeric array or
            badly named, or numbers that are not finite.
        ConfigError: a configuration entry that JSON cannot hold.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    _require_backend("cannot save", archive.backend)
    params = json_snapshot(archive.params)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION if archive.others else 1,
        "backend": archive.backend,
        "models": list(MODEL_NAMES),
        "versions": to_json(archive.versions, "versions"),
    }
    parameters = {"params": params, "configs": to_json(archive.configs, "configs")}
    if any(experiment.scan for experiment in archive.experiments):
        parameters["scans"] = to_json([experiment.scan for experiment in archive.experiments], "scans")
    members = {
        "params.json": _json_bytes(parameters),
        "weights.h5": _weights_bytes(archive),
        "manifest.dill": _dill_bytes(manifest),
        "params.dill": _dill_bytes(params),
    }
    manifest["sha256"] = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    target = path if path.suffix == ".zip" else output_folder(path) / ARCHIVE_NAME
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for name, content in {"manifest.json": _json_bytes(manifest), **members}.items():
            info = zipfile.ZipInfo(name)  # dated 1980-01-01
            info.create_system, info.external_attr = 3, 0o644 << 16  # the same bytes on every system
            file.writestr(info, content)
    return target


def load_archive(path: Path, allow_pickle: bool = False) -> ModelArchive:
    """Read a model archive; weights come in the order of their names.

    Args:
        path: the folder that holds `wts.h5.zip`, the zip itself, or the folder of an unpacked archive.
        allow_pickle: where there is no `manifest.json`, take manifest and parameters from the `.dill`
            members, which may hold plain dicts, lists, numbers and text and nothing else. The weights always
            come from `weights.h5`.

    Raises:
        MissingFileError: there is no archive at `path`.
        ArchiveError: not a zip, an unsafe member name, a missing or damaged member, a newer format version,
            an unknown backend, or nothing but dill. The line names the file, what was expected and what was
            found.
    """
    location = find_archive(Path(path))
    with readable(location, "an intact model archive (zip)", ArchiveError):
        if location.is_dir():
            names = sorted(item.name for item in location.iterdir())
            return _load(_Source(location, names, lambda name: _content(location / name)), allow_pickle)
        with zipfile.ZipFile(location) as file:
            names = file.namelist()
            _require_safe(location, names)
            return _load(_Source(location, names, lambda name: read_member(file, name)), allow_pickle)


def _content(path: Path) -> bytes:
    """The content of a member of an unpacked archive."""
    check_regular(path)
    return path.read_bytes()


def find_archive(path: Path) -> Path:
    """The zip or the unpacked folder that `path` means: the zip itself, its folder, or that of an unpacked archive.

    Raises:
        MissingFileError: there is none; the line says what is there.
    """
    if not path.exists():
        raise MissingFileError(f"{path}: expected a model archive ({ARCHIVE_NAME}) or its folder, found nothing")
    if not path.is_dir():
        check_regular(path)
        return path
    if (path / ARCHIVE_NAME).is_file():
        return path / ARCHIVE_NAME
    if any((path / name).is_file() for name in ("manifest.json", "manifest.dill")):
        return path
    found = ", ".join(sorted(item.name for item in path.iterdir())[:8]) or "an empty folder"
    expected = f"{ARCHIVE_NAME} or an unpacked archive (manifest.json)"
    raise MissingFileError(f"{path}: expected {expected}, found {found}")


def _require_safe(path: Path, names: list[str]) -> None:
    """Refuse names that lead out of the archive, and two members of one name."""
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in parts or parts[:1] == ("/",) or ":" in name:
            found = f"the member {name!r} that leads out of it"
            raise ArchiveError(f"{path}: expected members inside the archive, found {found}; do not trust it")
    if len(set(names)) != len(names):
        raise ArchiveError(f"{path}: expected every member once, found {sorted(names)}")


def _load(source: _Source, allow_pickle: bool) -> ModelArchive:
    path, names = source.path, source.names
    if "manifest.json" in names:
        manifest = _parse_json(path, "manifest.json", source.read("manifest.json"))
        _require_format(path, manifest)
        parameters = _parse_json(path, "params.json", _verified(source, "params.json", manifest))
        params, configs = (_entry(path, "params.json", parameters, key, dict) for key in ("params", "configs"))
        scans = _entry(path, "params.json", {"scans": [], **parameters}, "scans", list)
        weights = _verified(source, "weights.h5", manifest)
    elif allow_pickle and "manifest.dill" in names:
        manifest = _parse_dill(path, "manifest.dill", source.read("manifest.dill"))
        _require_format(path, manifest)
        params, configs = _parse_dill(path, "params.dill", _member(source, "params.dill")), {}
        scans = []
        weights = _member(source, "weights.h5")
    elif "manifest.dill" in names:
        found = "only pickled ones (.dill), which can run code when they are read"
        advice = "save the model again, or pass allow_pickle=True to read plain dicts from them"
        raise ArchiveError(f"{path}: expected JSON members, found {found}; {advice}")
    else:
        raise ArchiveError(f"{path}: {_no_archive(path, names)}")
    archive = ModelArchive(
        backend=_require_backend(str(path), manifest.get("backend")),
        params=params,
        configs=configs,
        versions=_entry(path, "manifest", manifest, "versions", dict),
        **_read_weights(path, weights),
    )
    return _with_scans(path, archive, scans)


def _with_scans(path: Path, archive: ModelArchive, scans: list[Any]) -> ModelArchive:
    """The archive with what is known of the scan of every experiment."""
    if not scans:
        return archive
    if len(scans) != len(archive.experiments) or not all(isinstance(scan, dict) for scan in scans):
        fact = f"expected an object for each of {len(archive.experiments)} experiments, found {len(scans)} entries"
        raise ArchiveError(f"{path}: params.json: scans: {fact}; save the model again")
    others = tuple(replace(other, scan=scan) for other, scan in zip(archive.others, scans[1:], strict=True))
    return replace(archive, scan=scans[0], others=others)


def _require_format(path: Path, manifest: dict[str, Any]) -> None:
    found = _entry(path, "manifest", manifest, "format", str)
    if found != FORMAT:
        raise ArchiveError(f"{path}: expected the format {FORMAT!r}, found {found!r}")
    version = _entry(path, "manifest", manifest, "format_version", int)
    if version < 1:
        raise ArchiveError(f"{path}: expected a format version from 1 on, found {version}; save the model again")
    if version > FORMAT_VERSION:
        expected = f"format version {FORMAT_VERSION} or older"
        raise ArchiveError(f"{path}: expected {expected}, found version {version}; update this library")


def _require_backend(context: str, backend: Any) -> Backend:
    if backend not in ("pytorch", "tensorflow"):
        raise ArchiveError(f"{context}: expected the backend 'pytorch' or 'tensorflow', found {backend!r}")
    return cast(Backend, backend)


def _entry(path: Path, member: str, content: dict[str, Any], key: str, kind: type) -> Any:
    """Return `content[key]`, which has to be there and of type `kind`."""
    if not isinstance(content.get(key), kind):
        found = repr(content[key]) if key in content else f"only {sorted(content)}"
        raise ArchiveError(f"{path}: {member}: expected {key!r} ({kind.__name__}), found {found}")
    return content[key]


def _member(source: _Source, name: str) -> bytes:
    if name not in source.names:
        raise ArchiveError(f"{source.path}: expected the member {name}, found {_few(source.names)}")
    return source.read(name)


def _no_archive(path: Path, names: Collection[str]) -> str:
    """What a file that is no model archive is, and what to name instead."""
    if any(name.endswith("/data.pkl") for name in names):
        return (
            "expected a model archive, found a checkpoint, from which a training goes on (--resume); name the archive "
            "that the training wrote, wts.h5.zip, in the folder of its run"
        )
    return f"expected the member manifest.json, found {_few(names)}"


def _few(names: Collection[str]) -> str:
    """Some of the names in an archive."""
    listed = sorted(names)
    return f"{listed[:_NAMED]}{f' and {len(listed) - _NAMED} more' if len(listed) > _NAMED else ''}"


def _verified(source: _Source, name: str, manifest: dict[str, Any]) -> bytes:
    """Return the bytes of a member, whose sha256 has to be the one in the manifest."""
    expected = _entry(source.path, "manifest.json", manifest, "sha256", dict).get(name)
    content = _member(source, name)
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        fact = f"expected sha256 {expected}, found {found}"
        raise ArchiveError(f"{source.path}: the member {name} is damaged: {fact}; copy or save it again")
    return content


def _parse_json(path: Path, name: str, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except DAMAGE as error:
        raise ArchiveError(f"{path}: the member {name} is damaged: expected JSON, found {error}") from error
    return cast("dict[str, Any]", _entry(path, name, {"content": value}, "content", dict))


class _PlainUnpickler(pickle.Unpickler):
    """Reads built-in containers, numbers and text; what needs an import is refused, so no code can run."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"an object of {module_name}.{global_name}")


def _parse_dill(path: Path, name: str, content: bytes) -> dict[str, Any]:
    try:
        value = _PlainUnpickler(io.BytesIO(content)).load()
    except DAMAGE as error:
        raise ArchiveError(f"{path}: {name}: expected a pickled plain dict, found {error}") from error
    return cast("dict[str, Any]", _entry(path, name, {"content": value}, "content", dict))


def _json_bytes(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _dill_bytes(value: dict[str, Any]) -> bytes:
    """Pickle a plain dict, as dill would; rebuilt from JSON first, so that equal dicts give equal bytes."""
    return pickle.dumps(json.loads(_json_bytes(value)), protocol=4)


def _weights_bytes(archive: ModelArchive) -> bytes:
    """Build weights.h5 in memory: data sets in the order of their names, without time stamps."""
    content = {f"weights/{name}": _numeric(name, array) for name, array in archive.weights.items()}
    for number, experiment in enumerate(archive.experiments):
        content |= _experiment_arrays(experiment, f"experiments/{number}" if number else "physics")
    if archive.probe_mask is not None:
        content["physics/probe_mask"] = np.asarray(archive.probe_mask, np.float32)
    if found := non_finite(content.items()):
        raise ArchiveError(
            f"cannot save: expected finite weights, found {found}: the model is of a training that diverged; train "
            "again with a lower learning rate"
        )
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_group("weights")
        for name in sorted(content):
            file.create_dataset(name, data=content[name], track_times=False)
    return buffer.getvalue()


def _experiment_arrays(experiment: ArchivedExperiment, group: str) -> dict[str, npt.NDArray[Any]]:
    """The data sets of an experiment."""
    if experiment.probe.ndim != 3:
        raise ArchiveError(f"probe: expected modes first, shape (M, N, N), found {experiment.probe.shape}")
    content: dict[str, npt.NDArray[Any]] = {f"{group}/probe": np.asarray(experiment.probe, np.complex64)}
    for name in _SCALARS:
        content[f"{group}/{name}"] = np.asarray(getattr(experiment, name), np.float64)
    if experiment.mask is not None:
        content[f"{group}/mask"] = np.asarray(experiment.mask, np.bool_)
    return content


def _read_experiment(group: h5py.Group) -> dict[str, Any]:
    """The fields of ArchivedExperiment that a group holds."""
    scalars = {name: float(_values(group, name)) for name in _SCALARS}
    wrong = [name for name, value in scalars.items() if not math.isfinite(value) or (name in _POSITIVE and value <= 0)]
    if wrong:
        found = f"{wrong[0]} = {scalars[wrong[0]]:g}"
        raise ArchiveError(f"weights.h5: expected scales above 0, found {found}; save the model again")
    mask = _values(group, "mask") if "mask" in group else None
    if mask is not None and not np.any(mask):
        raise ArchiveError("weights.h5: expected a mask with valid pixels, found none; save the model again")
    return {"probe": _values(group, "probe"), "mask": mask, **scalars}


def _values(group: h5py.Group, name: str) -> npt.NDArray[Any]:
    """A data set of numbers that lies in the file itself."""
    return _numbers(own_member(group, name), name)


def _numbers(found: Any, name: str) -> npt.NDArray[Any]:
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "biufc":
        raise TypeError(f"{name}: {found!r} in the place of numbers")
    return np.asarray(found[()])


def _numeric(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return `array` little-endian, after a look at whether it and its name can be stored."""
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise ArchiveError(f"weight {name!r}: expected a name such as 'encoder/0/conv1/kernel'")
    array = np.asarray(array)
    if array.dtype.kind not in "biufc":
        raise ArchiveError(f"weight {name!r}: expected a numeric array, found type {array.dtype}")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _read_weights(path: Path, content: bytes) -> dict[str, Any]:
    """Return the fields of ModelArchive that weights.h5 holds."""
    try:
        with open_hdf5(io.BytesIO(content)) as file:
            groups = own_member(file, "weights"), own_member(file, "physics"), own_member(file, "experiments") or {}
            weights, physics, others = groups
            numbers = range(1, len(others) + 1)
            return {
                "weights": dict(sorted((name, _numbers(found, name)) for name, found in own_datasets(weights))),
                "probe_mask": _values(physics, "probe_mask") if "probe_mask" in physics else None,
                "others": tuple(
                    ArchivedExperiment(**_read_experiment(own_member(others, str(number)))) for number in numbers
                ),
                **_read_experiment(physics),
            }
    except DAMAGE as error:
        raise ArchiveError(f"{path}: the member weights.h5 is damaged or incomplete: {error}") from error
