"""What a result tells about itself."""

import hashlib
import json
import shlex
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

import ptycho
from ptycho.core import provenance as module
from ptycho.core.provenance import file_sha256, known_metadata, provenance, scan_source, with_geometry_of
from ptycho.core.scan.identity import ScanIdentity


def test_three_lengths_give_the_fourth() -> None:
    """12398.4198 eV are 1 Angstrom: 1e-10 m x 2 m / (200 x 50 um) = 20 nm."""
    told = {"energy_eV": 12398.4198, "distance_m": 2.0, "detector_pixel_m": 50e-6, "nphotons": 7.0, "sample": "x"}
    found = known_metadata(told, 200, "scan7")
    assert found.pop("object_pixel_m") == pytest.approx(2e-8, rel=1e-8)
    assert found == {"name": "scan7", **{key: value for key, value in told.items() if key != "sample"}}
    assert known_metadata({**told, "object_pixel_m": 3e-8, "name": "star"}, 200, "scan7")["object_pixel_m"] == 3e-8
    assert known_metadata({"energy_eV": 1e4, "name": "star"}, 64, "scan7") == {"name": "star", "energy_eV": 1e4}
    assert known_metadata(None, 64, "scan7") == {"name": "scan7"}


def test_electrons_have_their_own_wavelength() -> None:
    told = {"energy_eV": 3e5, "particle": "electron", "distance_m": 1.0, "detector_pixel_m": 1e-5}
    assert known_metadata(told, 100, "s")["object_pixel_m"] == pytest.approx(1.9687e-12 / 1e-3, rel=1e-3)


def test_the_set_up_of_the_training_counts_where_the_scan_tells_nothing() -> None:
    trained = {"name": "a", "energy_eV": 8e3, "distance_m": 1.5, "nphotons": 9.0}
    assert with_geometry_of({"name": "b"}, trained) == {"name": "b", "energy_eV": 8e3, "distance_m": 1.5}
    assert with_geometry_of({"object_pixel_m": 1e-8}, trained) == {"object_pixel_m": 1e-8}
    assert with_geometry_of({"name": "b"}, {}) == {"name": "b"}


def test_a_scan_is_known_by_its_file_and_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"12345")
    expected = hashlib.sha256(b"12345").hexdigest()
    identity = ScanIdentity("a.npz", "ab")
    assert scan_source(path, identity) == {"name": "a.npz", "sha256": expected, "content_sha256": "ab"}
    assert scan_source(None, identity)["sha256"] is None
    assert file_sha256(tmp_path) is None
    assert file_sha256(tmp_path / "gone") is None
    monkeypatch.setattr(module, "_HASHED_BYTES", 4)
    assert file_sha256(path) is None


def test_the_block_is_plain_json() -> None:
    settings = {"path": Path("a/b"), "noise": float("inf"), "start": np.ones((2, 3)), "steps": (1, np.float32(2))}
    found = provenance(scan={"name": "s"}, settings=settings, seeds={"seed": np.int64(3)}, device="cpu")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["settings"] == {"path": "a/b", "noise": "inf", "start": "ndarray of shape (2, 3)", "steps": [1, 2.0]}
    assert (found["seeds"], found["model"], found["device"]) == ({"seed": 3}, None, "cpu")
    assert found["version"] == ptycho.__version__
    assert found["libraries"]["numpy"] == np.__version__
    assert found["command"] == shlex.join(sys.argv)
    date = datetime.fromisoformat(found["date"])
    assert abs(date - datetime.now(timezone.utc)) < timedelta(minutes=1)
