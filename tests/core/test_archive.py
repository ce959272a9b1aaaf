"""The model archive: what goes in comes out, bytes repeat, and every kind of damage is named."""

import io
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dill
import h5py
import numpy as np
import pytest

from ptycho.core.archive import (
    ARCHIVE_NAME,
    ArchivedExperiment,
    ModelArchive,
    json_snapshot,
    load_archive,
    save_archive,
    to_json,
)
from ptycho.errors import ArchiveError, ConfigError, MissingFileError, OutputError


@pytest.fixture
def archive() -> ModelArchive:
    rng = np.random.default_rng(3)
    return ModelArchive(
        backend="pytorch",
        weights={
            "encoder/1/conv1/bias": np.zeros(5, np.float32),
            "encoder/0/conv1/kernel": rng.normal(size=(3, 3, 1, 5)).astype(np.float32),
            "step": np.array(7),
        },
        probe=(rng.normal(size=(2, 4, 4)) + 1j * rng.normal(size=(2, 4, 4))).astype(np.complex64),
        log_intensity_scale=2.2907,
        intensity_scale_nominal=9.875,
        input_scale=0.5,
        mask=rng.random((4, 4)) > 0.25,
        params={"N": 64, "nphotons": 1e9, "probe": np.ones((4, 4), "c8"), "output_prefix": Path("out/run")},
        configs={"model": {"N": 64, "amp_activation": "sigmoid"}, "training": {"train_data_file": None}},
        versions={"ptychopinn": "0.1.0", "torch": "2.13.0"},
    )


def test_what_is_known_of_the_scans_comes_back(archive: ModelArchive, tmp_path: Path) -> None:
    names = ({"metadata": {"name": "star", "energy_eV": 8800.0}}, {})
    fields = ("probe", "log_intensity_scale", "intensity_scale_nominal", "input_scale")
    other = ArchivedExperiment(**{name: getattr(archive, name) for name in fields}, scan=names[1])
    given = replace(archive, scan=names[0], others=(other,))
    loaded = load_archive(save_archive(tmp_path, given))
    assert tuple(each.scan for each in loaded.experiments) == names
    assert loaded.of_experiment(1).scan == {}
    assert load_archive(save_archive(tmp_path, archive)).scan == {}
    with zipfile.ZipFile(save_archive(tmp_path, given)) as file:
        shown = json.loads(file.read("params.json"))
    assert shown["scans"] == list(names)


def assert_equal(loaded: ModelArchive, archive: ModelArchive) -> None:
    assert loaded.backend == archive.backend
    assert list(loaded.weights) == sorted(archive.weights)
    for name, array in archive.weights.items():
        assert loaded.weights[name].dtype == array.dtype
        assert loaded.weights[name].shape == array.shape
        np.testing.assert_array_equal(loaded.weights[name], array)
    assert loaded.probe.dtype == np.complex64
    np.testing.assert_array_equal(loaded.probe, archive.probe)
    assert loaded.log_intensity_scale == archive.log_intensity_scale
    assert loaded.intensity_scale_nominal == archive.intensity_scale_nominal
    assert loaded.input_scale == archive.input_scale
    assert loaded.configs == archive.configs
    assert loaded.versions == archive.versions
    assert loaded.params == {"N": 64, "nphotons": 1e9, "output_prefix": "out/run"}


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Write the zip again after `change` has worked on its members."""
    content = members(path)
    change(content)
    with zipfile.ZipFile(path, "w") as file:
        for name, data in content.items():
            file.writestr(name, data)


def edit_manifest(path: Path, **entries: Any) -> None:
    def change(content: dict[str, bytes]) -> None:
        content["manifest.json"] = json.dumps(json.loads(content["manifest.json"]) | entries).encode()

    rewrite(path, change)


def test_round_trip_from_zip_folder_and_unpacked_archive(tmp_path: Path, archive: ModelArchive) -> None:
    written = save_archive(tmp_path / "run" / "model", archive)
    assert written == tmp_path / "run" / "model" / ARCHIVE_NAME
    with zipfile.ZipFile(written) as file:
        file.extractall(tmp_path / "unpacked")
    for path in (written, written.parent, tmp_path / "unpacked"):
        loaded = load_archive(path)
        assert_equal(loaded, archive)
        np.testing.assert_array_equal(loaded.mask, archive.mask)


def test_mask_may_be_absent_and_a_zip_may_have_another_name(tmp_path: Path, archive: ModelArchive) -> None:
    written = save_archive(tmp_path / "model.zip", replace(archive, mask=None, backend="tensorflow"))
    assert list(tmp_path.iterdir()) == [written]
    loaded = load_archive(written)
    assert loaded.mask is None
    assert loaded.backend == "tensorflow"


def test_big_endian_and_strided_weights_come_back_equal(tmp_path: Path, archive: ModelArchive) -> None:
    kernel = np.arange(12, dtype=">f4").reshape(3, 4)[:, ::2]
    loaded = load_archive(save_archive(tmp_path, replace(archive, weights={"kernel": kernel})))
    np.testing.assert_array_equal(loaded.weights["kernel"], [[0, 2], [4, 6], [8, 10]])
    assert loaded.weights["kernel"].dtype == np.dtype("<f4")


def test_equal_archives_give_equal_bytes(tmp_path: Path, archive: ModelArchive) -> None:
    first = save_archive(tmp_path / "a", archive).read_bytes()
    shuffled = replace(
        archive, weights=dict(reversed(archive.weights.items())), params=dict(reversed(archive.params.items()))
    )
    assert save_archive(tmp_path / "b", shuffled).read_bytes() == first
    other = replace(archive, input_scale=np.nextafter(0.5, 1.0))
    assert save_archive(tmp_path / "c", other).read_bytes() != first


def test_loading_never_looks_at_the_pickled_members(tmp_path: Path, archive: ModelArchive) -> None:
    path = save_archive(tmp_path, archive)
    rewrite(path, lambda content: content.update({name: b"cnope\nx\n." for name in content if "dill" in name}))
    assert_equal(load_archive(path), archive)


def test_loading_needs_no_framework(tmp_path: Path, archive: ModelArchive) -> None:
    save_archive(tmp_path, archive)
    code = (
        "import sys\n"
        "from ptycho.core.archive import load_archive\n"
        "load_archive(sys.argv[1])\n"
        "assert not {'torch', 'tensorflow', 'dill'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_older_readers_find_plain_dicts(tmp_path: Path, archive: ModelArchive) -> None:
    content = members(save_archive(tmp_path, archive))
    read = dill.loads  # what such a reader calls
    assert read(content["params.dill"]) == {"N": 64, "nphotons": 1e9, "output_prefix": "out/run"}
    manifest = read(content["manifest.dill"])
    assert manifest["models"] == ["autoencoder", "diffraction_to_obj"]
    assert manifest["backend"] == "pytorch"


def test_dill_alone_is_refused_unless_allowed(tmp_path: Path, archive: ModelArchive) -> None:
    path = save_archive(tmp_path, archive)
    rewrite(path, lambda content: [content.pop(name) for name in ("manifest.json", "params.json")])
    with pytest.raises(ArchiveError, match=r"expected JSON .* found only pickled .* allow_pickle=True"):
        load_archive(tmp_path)
    assert_equal(load_archive(tmp_path, allow_pickle=True), replace(archive, configs={}))


def test_dill_that_runs_code_is_refused_even_when_allowed(tmp_path: Path, archive: ModelArchive) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    path = save_archive(tmp_path, archive)

    def change(content: dict[str, bytes]) -> None:
        del content["manifest.json"]
        content["params.dill"] = pickle.dumps({"N": 64, "x": Attack()})

    rewrite(path, change)
    with pytest.raises(ArchiveError, match=r"params\.dill: expected a pickled plain dict, .* of .*mkdir"):
        load_archive(tmp_path, allow_pickle=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"\x80\x04]\x94.", b"garbage", b"\x80\x04K\x01a."])
def test_dill_that_is_no_dict(tmp_path: Path, archive: ModelArchive, content: bytes) -> None:
    path = save_archive(tmp_path, archive)
    rewrite(path, lambda found: (found.pop("manifest.json"), found.update({"manifest.dill": content})))
    with pytest.raises(ArchiveError, match=r"wts\.h5\.zip: manifest\.dill: expected"):
        load_archive(tmp_path, allow_pickle=True)


def test_missing_archive_names_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"nowhere: expected a model archive .* found nothing"):
        load_archive(tmp_path / "nowhere")
    with pytest.raises(MissingFileError, match=r"expected wts\.h5\.zip or .*, found an empty folder"):
        load_archive(tmp_path)
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(MissingFileError, match=r"found model\.ckpt"):
        load_archive(tmp_path)


def test_not_a_zip(tmp_path: Path) -> None:
    (tmp_path / ARCHIVE_NAME).write_text("weights")
    with pytest.raises(ArchiveError, match=r"wts\.h5\.zip: expected an intact model archive \(zip\), found"):
        load_archive(tmp_path)


def test_truncated_zip(tmp_path: Path, archive: ModelArchive) -> None:
    path = save_archive(tmp_path, archive)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArchiveError, match="expected an intact model archive"):
        load_archive(path)


def test_flipped_byte_names_the_member(tmp_path: Path, archive: ModelArchive) -> None:
    path = save_archive(tmp_path, archive)
    content = bytearray(path.read_bytes())
    content[content.index(b"amp_activation")] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"params\.json"):
        load_archive(path)


@pytest.mark.parametrize("name", ["params.json", "weights.h5"])
def test_member_with_another_hash(tmp_path: Path, archive: ModelArchive, name: str) -> None:
    path = save_archive(tmp_path, archive)
    rewrite(path, lambda content: content.update({name: content[name] + b" "}))
    with pytest.raises(ArchiveError, match=rf"{name} is damaged: expected sha256 \w{{64}}, found \w{{64}}"):
        load_archive(path)


@pytest.mark.parametrize("name", ["params.json", "weights.h5"])
def test_missing_member(tmp_path: Path, archive: ModelArchive, name: str) -> None:
    path = save_archive(tmp_path, archive)
    rewrite(path, lambda content: content.pop(name))
    with pytest.raises(ArchiveError, match=rf"expected the member {name}, found \['manifest"):
        load_archive(path)


def test_zip_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("xcoords.npy", b"")
    with pytest.raises(ArchiveError, match=r"expected the member manifest\.json, found \['xcoords\.npy'\]"):
        load_archive(tmp_path / "other.zip")


def test_several_experiments_come_back_each_with_its_own(tmp_path: Path, archive: ModelArchive) -> None:
    second = ArchivedExperiment(
        probe=np.full((1, 4, 4), 2j, np.complex64),
        log_intensity_scale=0.25,
        intensity_scale_nominal=3.5,
        input_scale=7.0,
    )
    loaded = load_archive(save_archive(tmp_path, replace(archive, others=(second,))))
    assert_equal(loaded, archive)
    assert len(loaded.experiments) == 2
    found = loaded.of_experiment(1)
    assert (found.log_intensity_scale, found.intensity_scale_nominal, found.input_scale) == (0.25, 3.5, 7.0)
    np.testing.assert_array_equal(found.probe, second.probe)
    assert found.mask is None
    assert found.weights is loaded.weights
    assert_equal(loaded.of_experiment(0), archive)
    with pytest.raises(ConfigError, match="experiment_number=2: the model was trained with 2, expected 0 to 1"):
        loaded.of_experiment(2)


def test_newer_format_version_names_both(tmp_path: Path, archive: ModelArchive) -> None:
    path = save_archive(tmp_path, archive)
    edit_manifest(path, format_version=3)
    with pytest.raises(ArchiveError, match="expected format version 2 or older, found version 3; update"):
        load_archive(path)


def test_newer_version_is_reported_before_anything_that_it_may_have_changed(
    tmp_path: Path, archive: ModelArchive
) -> None:
    path = save_archive(tmp_path, archive)
    edit_manifest(path, format_version=3, sha256="another scheme", backend="jax")
    with pytest.raises(ArchiveError, match="found version 3"):
        load_archive(path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"backend": "jax"}, "expected the backend 'pytorch' or 'tensorflow', found 'jax'"),
        ({"format": "other"}, "expected the format 'ptychopinn-model', found 'other'"),
        ({"format_version": "1"}, r"expected 'format_version' \(int\), found '1'"),
        ({"sha256": None}, r"expected 'sha256' \(dict\), found None"),
        ({"versions": []}, r"expected 'versions' \(dict\), found \[\]"),
    ],
)
def test_manifest_that_does_not_fit(
    tmp_path: Path, archive: ModelArchive, entries: dict[str, Any], message: str
) -> None:
    path = save_archive(tmp_path, archive)
    edit_manifest(path, **entries)
    with pytest.raises(ArchiveError, match=message) as caught:
        load_archive(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe"])
def test_manifest_that_is_no_json_object(tmp_path: Path, archive: ModelArchive, content: bytes) -> None:
    path = save_archive(tmp_path, archive)
    rewrite(path, lambda found: found.update({"manifest.json": content}))
    with pytest.raises(ArchiveError, match=r"manifest\.json"):
        load_archive(path)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:\\evil"])
def test_name_that_leads_out_of_the_archive(tmp_path: Path, archive: ModelArchive, name: str) -> None:
    path = save_archive(tmp_path, archive)
    rewrite(path, lambda content: content.update({name: b"x"}))
    with pytest.raises(ArchiveError, match="leads out of it; do not trust it"):
        load_archive(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path: Path, archive: ModelArchive) -> None:
    path = save_archive(tmp_path, archive)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("params.json", b"{}")
    with pytest.raises(ArchiveError, match="expected every member once"):
        load_archive(path)


def test_weights_that_lack_an_entry(tmp_path: Path, archive: ModelArchive) -> None:
    path = save_archive(tmp_path, archive)
    with zipfile.ZipFile(path) as file:
        file.extractall(tmp_path / "unpacked")
    for name in ("manifest.json", "params.json"):
        (tmp_path / "unpacked" / name).unlink()
    with h5py.File(tmp_path / "unpacked" / "weights.h5", "a") as file:
        del file["physics/input_scale"]
    with pytest.raises(ArchiveError, match=r"weights\.h5 is damaged or incomplete: .*input_scale"):
        load_archive(tmp_path / "unpacked", allow_pickle=True)
    (tmp_path / "unpacked" / "weights.h5").write_bytes(b"no HDF5")
    with pytest.raises(ArchiveError, match=r"weights\.h5 is damaged or incomplete"):
        load_archive(tmp_path / "unpacked", allow_pickle=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": "jax"}, "cannot save: expected the backend .* found 'jax'"),
        ({"probe": np.ones((4, 4), np.complex64)}, r"probe: expected modes first, .* found \(4, 4\)"),
        ({"weights": {"a//b": np.ones(1)}}, "weight 'a//b': expected a name such as"),
        ({"weights": {"a/../b": np.ones(1)}}, "expected a name such as"),
        ({"weights": {"a": np.array([None])}}, "weight 'a': expected a numeric array, found type object"),
    ],
)
def test_saving_what_cannot_be_read_back_is_refused(
    tmp_path: Path, archive: ModelArchive, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArchiveError, match=message):
        save_archive(tmp_path / "out", replace(archive, **change))
    assert not (tmp_path / "out").exists()


def test_saving_again_keeps_the_old_archive_when_it_fails(
    tmp_path: Path, archive: ModelArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_archive(tmp_path, archive)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(OutputError, match="No space left"):
        save_archive(tmp_path, replace(archive, input_scale=2.0))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_saving_into_a_missing_folder_of_a_named_zip(tmp_path: Path, archive: ModelArchive) -> None:
    with pytest.raises(OutputError, match="create it first"):
        save_archive(tmp_path / "gone" / "model.zip", archive)


def test_zip_beats_an_unpacked_archive_beside_it(tmp_path: Path, archive: ModelArchive) -> None:
    old = save_archive(tmp_path / "old", replace(archive, input_scale=3.0))
    shutil.unpack_archive(old, tmp_path)
    save_archive(tmp_path, archive)
    assert load_archive(tmp_path).input_scale == archive.input_scale


@dataclass
class Settings:
    folder: Path
    shape: tuple[int, int]


def test_to_json_gives_plain_values() -> None:
    value = {
        "settings": Settings(Path("a/b"), (2, 3)),
        "scale": np.float32(0.5),
        "count": np.int64(3),
        "flag": np.bool_(True),
        "scalar": np.array(1.5),
        "nothing": None,
        4: ["x", (1.0,)],
    }
    plain = to_json(value)
    assert json.loads(json.dumps(plain)) == plain
    assert plain == {
        "settings": {"folder": "a/b", "shape": [2, 3]},
        "scale": 0.5,
        "count": 3,
        "flag": True,
        "scalar": 1.5,
        "nothing": None,
        "4": ["x", [1.0]],
    }
    assert plain["flag"] is True


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (np.ones(3), r"ndarray of shape \(3,\)"),
        (1j, "complex 1j"),
        (float("nan"), "float nan"),
        (np.float32("inf"), "float inf"),
        (io.BytesIO, "type <class"),
    ],
)
def test_to_json_names_what_it_cannot_hold(value: Any, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.probe\[1\]: expected .*, found {found}"):
        to_json({"probe": [0, value]}, "model")


def test_snapshot_leaves_out_what_json_cannot_hold() -> None:
    params = {"N": np.int64(64), "probe": np.ones((2, 2)), "nested": {"a": 1, "b": 1j}, "x": float("nan")}
    assert json_snapshot(params) == {"N": 64}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"weights": {"step": np.array([1.0, np.nan])}}, "weights/step"),
        ({"probe": np.full((1, 4, 4), np.inf, np.complex64)}, "physics/probe"),
        ({"log_intensity_scale": math.nan}, "physics/log_intensity_scale"),
    ],
)
def test_numbers_that_are_not_finite_are_not_saved(tmp_path: Path, archive: ModelArchive, change, name: str) -> None:
    good = save_archive(tmp_path, archive).read_bytes()
    with pytest.raises(ArchiveError, match=rf"expected finite weights, found .* \(the first in {name}\)"):
        save_archive(tmp_path, replace(archive, **change))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [good]


def test_a_checkpoint_in_the_place_of_an_archive_is_named_in_a_line(tmp_path):
    path = tmp_path / "last.ckpt"
    with zipfile.ZipFile(path, "w") as made:
        for number in range(300):
            made.writestr(f"last/data/{number}", b"")
        made.writestr("last/data.pkl", b"")
    with pytest.raises(ArchiveError, match=r"found a checkpoint, .*--resume.*wts\.h5\.zip") as caught:
        load_archive(path)
    assert len(str(caught.value)) < 300 + len(str(path))


@pytest.mark.parametrize("version", [0, -1])
def test_versions_begin_with_one(tmp_path: Path, archive: ModelArchive, version: int) -> None:
    path = save_archive(tmp_path, archive)
    edit_manifest(path, format_version=version)
    with pytest.raises(ArchiveError, match=f"expected a format version from 1 on, found {version}"):
        load_archive(path)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"input_scale": 0.0}, "input_scale = 0"),
        ({"intensity_scale_nominal": -1.0}, "intensity_scale_nominal = -1"),
        ({"mask": np.zeros((4, 4), bool)}, "valid pixels, found none"),
    ],
)
def test_scales_and_masks_that_leave_nothing_are_refused(
    tmp_path: Path, archive: ModelArchive, change: dict[str, Any], found: str
) -> None:
    with pytest.raises(ArchiveError, match=found):
        load_archive(save_archive(tmp_path, replace(archive, **change)))
