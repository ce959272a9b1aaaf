"""The scan file comes back as it was written, whichever way it was spelt."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho.core.files.npz import NpzArchive
from ptycho.core.groups.grouped_data import GROUPED_KEYS
from ptycho.core.scan.npz_file import SCAN_KEYS, ScanFile, read_scan, write_scan
from ptycho.core.scan.npz_mapped import mapped_scan
from ptycho.errors import DataError, OutputError

Arrays = dict[str, Any]


@pytest.fixture
def arrays(rng: np.random.Generator) -> Arrays:
    """The smallest scan: 3 patterns of 64 x 64."""
    return {
        "diff3d": rng.poisson(2, (3, 64, 64)).astype(np.uint16),
        "xcoords": np.array([32.0, 40.5, 36.25]),
        "ycoords": np.array([33.0, 34.0, 50.75]),
        "probeGuess": rng.random((64, 64)) + 1j * rng.random((64, 64)),
    }


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Arrays], Path]:
    def write(content: Arrays) -> Path:
        np.savez(tmp_path / "scan.npz", **content)
        return tmp_path / "scan.npz"

    return write


def test_a_raster_is_read_line_by_line(
    arrays: Arrays, save: Callable[[Arrays], Path], rng: np.random.Generator
) -> None:
    """2 lines of 3 patterns, 64 x 60 pixels each; positions as (2, 3) or (6,)."""
    patterns, mask = rng.poisson(2, (2, 3, 64, 60)), rng.random((2, 3, 64, 60)) > 0.1
    x, y = rng.random((2, 2, 3))
    for shape in ((2, 3), (6,)):
        content = {**arrays, "diff3d": patterns, "xcoords": x.reshape(shape), "ycoords": y.reshape(shape), "mask": mask}
        scan = read_scan(save(content))
        np.testing.assert_array_equal(scan.diff3d[4], patterns[1, 1])
        assert scan.xcoords[4] == x[1, 1]
        assert scan.ycoords.shape == (6,)
        assert scan.mask is not None
        np.testing.assert_array_equal(scan.mask[5], mask[1, 2])
        np.testing.assert_array_equal(mapped_scan(save(content)).diff3d, scan.diff3d)
    with pytest.raises(DataError, match=r"expected patterns .*n = 5 .*, found shape \(2, 3, 64, 60\)"):
        read_scan(save({**arrays, "diff3d": patterns, "xcoords": np.zeros(5), "ycoords": np.zeros(5)}))


def test_everything_comes_back_as_it_was_written(arrays: Arrays, tmp_path: Path, rng: np.random.Generator) -> None:
    scan = ScanFile(
        **arrays,
        xcoords_start=arrays["xcoords"] + 0.5,
        ycoords_start=arrays["ycoords"] - 0.5,
        scan_index=np.array([0, 0, 4]),
        objectGuess=rng.random((90, 80)) * 1j,
        Y=rng.random((3, 64, 64)).astype(np.complex64),
        mask=rng.random((64, 64)) > 0.1,
        metadata={"nphotons": 1e4, "sample": "µ-chip", "steps": [1, 2]},
        units="counts",
    )
    write_scan(tmp_path / "scan.npz", scan)
    again = read_scan(tmp_path / "scan.npz")
    for key, value in vars(scan).items():
        found = getattr(again, key)
        if isinstance(value, np.ndarray):
            assert found.dtype == value.dtype, key
            np.testing.assert_array_equal(found, value, err_msg=key)
        else:
            assert found == value, key
    with np.load(tmp_path / "scan.npz", allow_pickle=False) as file:
        assert set(file.files) <= set(SCAN_KEYS)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.npz"]


def test_what_the_file_leaves_out_is_none(arrays: Arrays, save: Callable[[Arrays], Path]) -> None:
    scan = read_scan(save(arrays))
    assert [key for key, value in vars(scan).items() if value is None] == [
        *("xcoords_start", "ycoords_start", "scan_index", "objectGuess", "Y", "mask", "metadata", "units")
    ]
    assert scan.diff3d.dtype == np.uint16


def test_a_failed_write_leaves_the_old_file_and_nothing_else(arrays: Arrays, save: Callable[[Arrays], Path]) -> None:
    path = save(arrays)
    before = path.read_bytes()
    with pytest.raises(DataError, match="metadata: expected plain JSON"):
        write_scan(path, ScanFile(**arrays, metadata={"when": object()}))
    with pytest.raises(DataError, match="xcoords_start"):
        write_scan(path, ScanFile(**arrays, xcoords_start=np.zeros(2)))
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == ["scan.npz"]
    with pytest.raises(OutputError, match="no_such_folder"):
        write_scan(path.parent / "no_such_folder" / "scan.npz", ScanFile(**arrays))


@pytest.mark.parametrize("layout", ["(n,H,W)", "(H,W,n)", "(n,H,W,1)", "diffraction", "both"])
def test_layouts_of_the_patterns(layout: str, arrays: Arrays, save: Callable[[Arrays], Path]) -> None:
    patterns = arrays.pop("diff3d")
    spelling = {
        "(n,H,W)": {"diff3d": patterns},
        "(H,W,n)": {"diffraction": np.moveaxis(patterns, 0, -1)},
        "(n,H,W,1)": {"diff3d": patterns[..., None]},
        "diffraction": {"diffraction": patterns},
        "both": {"diffraction": np.zeros(7), "diff3d": patterns},
    }[layout]
    found = read_scan(save(arrays | spelling)).diff3d
    np.testing.assert_array_equal(found, patterns)
    assert found.flags.c_contiguous


def test_a_probe_may_be_missing(arrays: Arrays, save: Callable[[Arrays], Path]) -> None:
    del arrays["probeGuess"]
    scan = read_scan(save(arrays))
    assert scan.probeGuess is None
    with pytest.raises(DataError, match=r"the scan has no probe: .*--probe"):
        scan.probe  # noqa: B018


@pytest.mark.parametrize("M", [1, 3])
def test_a_probe_may_have_modes(M: int, arrays: Arrays, save: Callable[[Arrays], Path]) -> None:
    arrays["probeGuess"] = np.ones((M, 64, 64), np.complex64)
    assert read_scan(save(arrays)).probeGuess.shape == (M, 64, 64)


def test_mask_and_bad_pixels_are_combined(arrays: Arrays, save: Callable[[Arrays], Path]) -> None:
    mask, bad, bad_in_frame = np.ones((64, 64), bool), np.zeros((64, 64), bool), np.zeros((3, 64, 64), bool)
    mask[1, 2], bad[3, 4], bad_in_frame[2, 5, 6] = False, True, True

    def invalid(**extra: Any) -> list[list[int]]:
        found = read_scan(save(arrays | extra)).mask
        assert found is not None
        assert found.dtype == bool
        return np.argwhere(~found).tolist()

    assert invalid(mask=mask) == [[1, 2]]
    assert invalid(bad_pixels=bad.astype(np.uint8)) == [[3, 4]]
    assert invalid(mask=mask, bad_pixels=bad) == [[1, 2], [3, 4]]
    both = invalid(mask=mask, bad_pixels=bad_in_frame)
    assert both == [[0, 1, 2], [1, 1, 2], [2, 1, 2], [2, 5, 6]]


@pytest.mark.parametrize("text", [np.array, lambda value: np.array(value.encode()), lambda value: np.array([value])])
def test_metadata_and_units(text: Callable[[str], Any], arrays: Arrays, save: Callable[[Arrays], Path]) -> None:
    scan = read_scan(save(arrays | {"_metadata": text(json.dumps({"nphotons": 5})), "units": text("amplitude")}))
    assert scan.metadata == {"nphotons": 5}
    assert scan.units == "amplitude"


def test_the_caller_knows_the_units_better_than_the_file(arrays: Arrays, save: Callable[[Arrays], Path]) -> None:
    assert read_scan(save(arrays | {"units": np.array("amplitude")}), units="counts").units == "counts"


def test_a_bare_nphotons_stands_in_for_metadata(arrays: Arrays, save: Callable[[Arrays], Path]) -> None:
    assert read_scan(save(arrays | {"nphotons": np.float64(7e3)})).metadata == {"nphotons": 7e3}
    told = {"_metadata": np.array('{"nphotons": 5, "a": 1}'), "nphotons": np.float64(7e3)}
    assert read_scan(save(arrays | told)).metadata == {"nphotons": 5, "a": 1}


def test_other_arrays_are_left_alone_even_pickled_ones(arrays: Arrays, save: Callable[[Arrays], Path]) -> None:
    scan = read_scan(save(arrays | {"reference_object": np.ones(3), "notes": np.array({"a": 1}, dtype=object)}))
    assert len(scan.diff3d) == 3


def test_masked_pixels_may_hold_anything(arrays: Arrays, save: Callable[[Arrays], Path]) -> None:
    patterns, bad = np.sqrt(arrays["diff3d"]), np.zeros((64, 64), bool)
    bad[:2, :2] = True
    patterns[:, 0, 0], patterns[:, 0, 1], patterns[:, 1, 1] = np.nan, np.inf, -5
    scan = read_scan(save(arrays | {"diff3d": patterns, "bad_pixels": bad}))
    np.testing.assert_array_equal(scan.diff3d, patterns)


def test_real_scans_are_read(scan_dir: Path) -> None:
    star = read_scan(scan_dir / "siemens_star_128.npz")
    assert star.diff3d.shape == (516, 128, 128)
    assert star.diff3d.dtype == np.uint16
    assert star.mask is None
    tungsten = read_scan(scan_dir / "tungsten_64.npz")
    assert tungsten.diff3d.shape == (20, 64, 64)
    assert tungsten.mask is not None
    assert tungsten.mask.shape == (64, 64)
    assert np.count_nonzero(~tungsten.mask) == 27


def keys_of_table(heading: str) -> list[str]:
    """First column of the first table below a heading of the specification."""
    text = (Path(__file__).parents[3] / "specs" / "data_contracts.md").read_text(encoding="utf-8")
    section = text.split(heading, maxsplit=1)[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)


def test_the_specification_lists_the_keys_that_are_read_and_made() -> None:
    assert sorted(keys_of_table("## 1. Scan file")) == sorted(SCAN_KEYS)
    assert keys_of_table("## 2. Grouped data set") == [*GROUPED_KEYS, "sample_indices"]


def test_every_key_of_the_specification_is_asked_for(
    arrays: Arrays, save: Callable[[Arrays], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[str] = set()
    contains = NpzArchive.__contains__
    monkeypatch.setattr(NpzArchive, "__contains__", lambda self, key: asked.add(key) or contains(self, key))
    patterns = arrays.pop("diff3d")
    read_scan(save(arrays | {"diffraction": patterns}))
    assert asked == set(SCAN_KEYS)
