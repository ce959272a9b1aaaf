"""specs/archive_format.md and a written archive say the same, in names, types and bytes."""

import hashlib
import io
import json
import pickletools
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho import errors
from ptycho.core.archive import FORMAT, FORMAT_VERSION, MODEL_NAMES, ArchivedExperiment, ModelArchive, save_archive

SPEC = Path(__file__).parents[2] / "specs" / "archive_format.md"
N, MODES = 6, 2
TYPES = {"text": str, "integer": int, "list": list, "object": dict}

# the JSON members of the archive below, as format version 1 writes them (the hashes put aside)
GOLDEN = {
    "manifest.json": """{
  "backend": "pytorch",
  "format": "ptychopinn-model",
  "format_version": 1,
  "models": [
    "autoencoder",
    "diffraction_to_obj"
  ],
  "sha256": {},
  "versions": {
    "ptychopinn": "0.1.0"
  }
}
""",
    "params.json": """{
  "configs": {
    "model": {
      "N": 6,
      "grid": [
        1,
        1
      ],
      "probe_scale": 4.0
    },
    "training": {
      "n_groups": null
    }
  },
  "params": {
    "N": 6,
    "nphotons": 1000000000.0,
    "output_prefix": "out/run"
  },
  "scans": [
    {
      "metadata": {
        "name": "star"
      }
    }
  ]
}
""",
}


def tables() -> dict[str, list[list[str]]]:
    """Return the rows of the tables of the specification, by the heading above them."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in SPEC.read_text().splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").replace("`", "")
        elif line.startswith("|"):
            found.setdefault(heading, []).append([cell.strip(" `") for cell in line.strip("|").split("|")])
    return {name: rows[2:] for name, rows in found.items()}


@pytest.fixture(scope="module")
def archive() -> ModelArchive:
    return ModelArchive(
        backend="pytorch",
        weights={"encoder/0/conv1/kernel": np.ones((3, 3, 1, 2), np.float32), "bias": np.zeros(2, np.float32)},
        probe=np.ones((MODES, N, N), np.complex64),
        log_intensity_scale=0.5,
        intensity_scale_nominal=2.0,
        input_scale=0.25,
        mask=np.ones((N, N), bool),
        params={"N": N, "nphotons": 1e9, "output_prefix": Path("out/run"), "probe": np.ones((N, N))},
        configs={"model": {"N": N, "grid": (1, 1), "probe_scale": np.float32(4)}, "training": {"n_groups": None}},
        versions={"ptychopinn": "0.1.0"},
        probe_mask=np.full((N, N), 0.5, np.float32),
        scan={"metadata": {"name": "star"}},
    )


@pytest.fixture(scope="module")
def members(archive: ModelArchive, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    with zipfile.ZipFile(save_archive(tmp_path_factory.mktemp("archive"), archive)) as file:
        for info in file.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.external_attr >> 16 == 0o644
        return {name: file.read(name) for name in file.namelist()}


def test_members(members: dict[str, bytes]) -> None:
    assert list(members) == [row[0] for row in tables()["Members"]]


@pytest.mark.parametrize("name", ["manifest.json", "params.json"])
def test_json_keys_and_types(members: dict[str, bytes], name: str) -> None:
    content = json.loads(members[name])
    assert {key: type(value) for key, value in content.items()} == {key: TYPES[kind] for key, kind, _ in tables()[name]}
    assert members[name] == (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def test_manifest_values(members: dict[str, bytes]) -> None:
    manifest = json.loads(members["manifest.json"])
    values = {key: value for key, _, value in tables()["manifest.json"]}
    assert manifest["format"] == FORMAT == values["format"]
    assert values["format_version"].startswith(f"{FORMAT_VERSION} where there are several experiments, else 1;")
    assert manifest["format_version"] == 1
    assert f"format version {FORMAT_VERSION}\n" in SPEC.read_text()
    assert re.findall(r"`?(\w+)`?, `(\w+)`:", values["models"]) == [tuple(manifest["models"])]
    assert tuple(manifest["models"]) == MODEL_NAMES
    assert manifest["sha256"] == {
        name: hashlib.sha256(content).hexdigest() for name, content in members.items() if name != "manifest.json"
    }


def test_data_sets(members: dict[str, bytes], archive: ModelArchive) -> None:
    rows = {name: (kind, shape) for name, kind, shape, _ in tables()["weights.h5"]}
    assert rows.pop("weights/<name>") == ("number", "any")
    sizes = {"M": MODES, "N": N}
    expected = {
        name: (kind, tuple(sizes[letter] for letter in re.findall(r"[MN]", shape)))
        for name, (kind, shape) in rows.items()
    }
    found = {}
    with h5py.File(io.BytesIO(members["weights.h5"])) as file:
        file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        weights = {name.removeprefix("weights/") for name in found if name.startswith("weights/")}
        physics = {
            name: (str(item.dtype), item.shape) for name, item in found.items() if not name.startswith("weights/")
        }
    assert weights == set(archive.weights)
    assert physics == expected


def test_further_experiments_have_the_data_sets_of_the_first(archive: ModelArchive, tmp_path: Path) -> None:
    other = ArchivedExperiment(
        probe=np.zeros((1, N, N), np.complex64),
        log_intensity_scale=1.5,
        intensity_scale_nominal=3.0,
        input_scale=0.125,
        mask=np.zeros((N, N), bool),
    )
    with zipfile.ZipFile(save_archive(tmp_path, replace(archive, others=(other, other)))) as file:
        assert json.loads(file.read("manifest.json"))["format_version"] == FORMAT_VERSION
        content = h5py.File(io.BytesIO(file.read("weights.h5")))
    assert set(content["experiments"]) == {"1", "2"}
    assert set(content["experiments/1"]) == set(content["physics"]) - {"probe_mask"}
    assert content["experiments/2/input_scale"][()] == 0.125


def test_pickled_members_hold_built_in_types_only(members: dict[str, bytes]) -> None:
    for name in ("manifest.dill", "params.dill"):
        operations = {operation.name for operation, _, _ in pickletools.genops(members[name])}
        assert not operations & {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ", "PERSID"}
        assert next(argument for operation, argument, _ in pickletools.genops(members[name])) == 4


def test_errors_exist() -> None:
    for _, name in tables()["What a reader refuses"]:
        assert issubclass(getattr(errors, name), errors.PtychoError)


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_bytes_have_not_changed(members: dict[str, bytes], name: str) -> None:
    """A change here is a change of the format: readers in the field see other bytes."""
    found = re.sub(r'"sha256": \{[^}]*\}', '"sha256": {}', members[name].decode())
    assert found == GOLDEN[name]
