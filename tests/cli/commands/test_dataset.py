"""`ptycho dataset`: each operation from one command, and what it refuses."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from ptycho.cli.command import main
from ptycho.core.scan.npz_file import read_scan
from ptycho.errors import DataError


def run(operation: str, scan: Path, out: Path, *flags: str) -> int:
    return main(["dataset", operation, str(scan), "-o", str(out), "--quiet", *flags])


def test_subsample_by_number_step_and_list(fixture_file: Path, tmp_path: Path) -> None:
    whole, out = read_scan(fixture_file), tmp_path / "o.npz"
    expected = {
        ("--every", "16"): [0, 16, 32, 48],
        ("--keep", "3,10-12"): [3, 10, 11, 12],
        ("--drop", "2-63"): [0, 1],
    }
    for flags, kept in expected.items():
        assert run("subsample", fixture_file, out, *flags) == 0
        made = read_scan(out)
        np.testing.assert_array_equal(made.xcoords, whole.xcoords[kept])
        np.testing.assert_array_equal(made.diff3d, whole.diff3d[kept])
        assert made.units == "counts"
        assert made.metadata == whole.metadata
    assert run("subsample", fixture_file, out, "--n", "7", "--seed", "1") == 0
    assert len(read_scan(out).diff3d) == 7


def test_split_writes_two_scans(fixture_file: Path, tmp_path: Path) -> None:
    train, test = tmp_path / "train.npz", tmp_path / "test.npz"
    files = ["--train", str(train), "--test", str(test)]
    assert main(["dataset", "split", str(fixture_file), *files, "--fraction", "0.25", "--axis", "x", "--quiet"]) == 0
    assert len(read_scan(train).xcoords) == 48
    assert read_scan(train).xcoords.max() <= read_scan(test).xcoords.min()


def test_mask_finds_hot_dead_and_bright_pixels(fixture_file: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(fixture_file))
    arrays["diff3d"][:, 10, 50] = 500
    arrays["diff3d"][:, 32, 20] = 0
    arrays["diff3d"][5, 40, 40] = 1000
    np.savez(tmp_path / "spoilt.npz", **arrays)
    np.save(tmp_path / "bad.npy", np.eye(64, dtype=bool))
    expected = {
        ("--hot",): [[10, 50]],
        ("--dead",): [[32, 20]],
        ("--above", "900"): [[40, 40]],
        ("--pixels", "1,2;3,4"): [[1, 2], [3, 4]],
        ("--bad", str(tmp_path / "bad.npy")): [[i, i] for i in range(64)],
    }
    for flags, places in expected.items():
        assert run("mask", tmp_path / "spoilt.npz", tmp_path / "o.npz", *flags) == 0
        mask = read_scan(tmp_path / "o.npz").mask
        assert mask is not None
        assert np.argwhere(~mask).tolist() == places


def test_mask_makes_a_scan_with_nan_readable(fixture_file: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(fixture_file))
    arrays["diff3d"] = arrays["diff3d"].astype(np.float32)
    arrays["diff3d"][3, 5, 7], arrays["diff3d"][4, 9, 2], arrays["diff3d"][5, 11, 13] = np.nan, np.inf, -3
    np.savez(tmp_path / "spoilt.npz", **arrays)
    with pytest.raises(DataError, match=r"found 2 NaN or infinite .* ptycho dataset mask SCAN -o OUT --invalid"):
        read_scan(tmp_path / "spoilt.npz")
    assert run("mask", tmp_path / "spoilt.npz", tmp_path / "mended.npz", "--invalid") == 0
    mask = read_scan(tmp_path / "mended.npz").mask
    assert mask is not None
    assert np.argwhere(~mask).tolist() == [[5, 7], [9, 2], [11, 13]]


def test_positions_are_scaled_and_moved_along_the_patterns(fixture_file: Path, tmp_path: Path) -> None:
    """A scan may be mended in its place: it is read until the new one is whole."""
    whole, file = read_scan(fixture_file), tmp_path / "o.npz"
    assert run("move", fixture_file, file, "--scale", "1.25") == 0
    np.testing.assert_allclose(read_scan(file).xcoords, 1.25 * whole.xcoords)
    assert read_scan(file).objectGuess is None
    assert run("move", file, file, "--frames=-2") == 0
    made = read_scan(file)
    np.testing.assert_allclose(made.ycoords, 1.25 * whole.ycoords[:-2])
    np.testing.assert_array_equal(made.diff3d, whole.diff3d[2:])
    assert run("move", fixture_file, file, "--frames", "1", "--first", "5", "--last", "9") == 0
    np.testing.assert_array_equal(read_scan(file).xcoords, whole.xcoords[[*range(5), *range(6, 11), *range(10, 64)]])
    assert run("move", fixture_file, file, "--frames", "1", "--first", "9", "--last", "5") == 2
    assert run("move", fixture_file, file, "--scale", "0") == 2
    assert run("move", fixture_file, file, "--frames", "64") == 2


def test_patterns_or_positions_that_are_left_over_are_named_with_what_leaves_them_out(
    fixture_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, file, made = dict(np.load(fixture_file)), tmp_path / "a scan.npz", tmp_path / "paired.npz"
    fewer = {key: whole[key][:61] for key in ("xcoords", "ycoords", "scan_index") if key in whole}
    for changes, extra, frames in (
        (fewer, "patterns 61 to 63", -3),
        ({"diff3d": whole["diff3d"][:61]}, "positions 61 to 63", 3),
    ):
        np.savez(file, **{**whole, **changes})
        assert main(["doctor", str(file), "--no-trials"]) == 2
        said = capsys.readouterr().err
        assert f"{extra} (counted from 0)" in said and f"with --frames {frames}" in said
        words = shlex.split(said.split("the last (")[1].split(")")[0])
        assert words[-2:] == ["-o", "paired.npz"] and main([*words[1:-1], str(made)]) == 0
        np.testing.assert_array_equal(read_scan(made).diff3d, whole["diff3d"][:61])
        np.testing.assert_array_equal(read_scan(made).xcoords, whole["xcoords"][:61])
        assert run("move", file, made, "--frames", str(frames)) == 0
        first = slice(3, None) if frames < 0 else slice(0, 61)
        np.testing.assert_array_equal(read_scan(made).diff3d, whole["diff3d"][first])


def test_recentre_finds_the_shift(fixture_file: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(fixture_file))
    centred = arrays["diff3d"]
    for shift, valid in (((5, -3), 59 * 61), ((32, 32), 64 * 64)):
        np.savez(tmp_path / "off.npz", **{**arrays, "diff3d": np.roll(centred, shift, (1, 2))})
        assert run("recentre", tmp_path / "off.npz", tmp_path / "o.npz") == 0
        made = read_scan(tmp_path / "o.npz")
        mask = np.ones((64, 64), bool) if made.mask is None else made.mask
        assert mask.sum() == valid
        np.testing.assert_array_equal(made.diff3d[:, mask], centred[:, mask])


def test_turn_crop_bin_dtype_and_merge(fixture_file: Path, tmp_path: Path) -> None:
    whole, out = read_scan(fixture_file), tmp_path / "o.npz"
    assert run("turn", fixture_file, out, "--transpose") == 0
    np.testing.assert_array_equal(read_scan(out).diff3d, np.swapaxes(whole.diff3d, 1, 2))
    assert run("dtype", fixture_file, out, "--to", "float32", "--compress") == 0
    assert read_scan(out).diff3d.dtype == np.float32
    assert out.stat().st_size < 64**3
    assert main(["dataset", "merge", str(fixture_file), str(out), "-o", str(tmp_path / "m.npz"), "--quiet"]) == 0
    merged = read_scan(tmp_path / "m.npz")
    assert merged.diff3d.shape == (128, 64, 64)
    assert merged.scan_index is not None
    assert merged.scan_index.tolist() == [0] * 64 + [1] * 64
    for operation, flags in (("crop", ("--size", "32")), ("bin", ("--factor", "2"))):
        assert run(operation, fixture_file, out, *flags) == 0
        with np.load(out) as made:
            assert made["diff3d"].shape == (64, 32, 32)
            assert made["probeGuess"].shape == (32, 32)


@pytest.mark.parametrize(
    ("operation", "flags", "words"),
    [
        ("subsample", (), "expected one of --n, --every, --keep and --drop, found none"),
        ("subsample", ("--n", "3", "--every", "2"), "found ['n', 'every']"),
        ("subsample", ("--keep", "64"), "expected numbers below 64"),
        ("subsample", ("--keep", "a-b"), "numbers and ranges"),
        ("crop", ("--size", "65"), "expected an even size from 2 to 64, found 65"),
        ("bin", ("--factor", "5"), "found 5"),
        ("mask", (), "give --bad, --pixels"),
        ("mask", ("--pixels", "70,1"), "below 64, found 70,1"),
        ("dtype", ("--to", "foo"), "--to foo"),
        ("recentre", ("--shift", "1"), "two whole numbers"),
        ("merge", (), "expected two scans or more"),
    ],
)
def test_mistakes_are_told_in_a_line_and_nothing_is_written(
    fixture_file: Path,
    tmp_path: Path,
    operation: str,
    flags: tuple[str, ...],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(operation, fixture_file, tmp_path / "o.npz", *flags) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ scan maps


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_map_is_made_kept_renewed_and_removed(
    fixture_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = Path(shutil.copy(fixture_file, tmp_path / "scan.npz"))
    assert main(["dataset", "map", str(scan)]) == 0
    assert "scan.npz.map: 64 patterns of 64 x 64" in capsys.readouterr().err
    manifest = tmp_path / "scan.npz.map" / "manifest.json"
    before = manifest.stat().st_mtime_ns
    assert main(["dataset", "map", str(scan)]) == 0
    assert "already there and fresh" in capsys.readouterr().err
    assert manifest.stat().st_mtime_ns == before
    np.savez(scan, **dict(np.load(fixture_file)))
    assert main(["dataset", "map", str(scan), "--quiet"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"renew it (ptycho dataset map {scan} --renew)" in err
    assert main(["dataset", "map", str(scan), "--renew", "--quiet"]) == 0
    assert manifest.stat().st_mtime_ns > before
    assert main(["dataset", "unmap", str(scan)]) == 0
    assert "scan.npz.map: removed" in capsys.readouterr().err
    assert names(tmp_path) == ["scan.npz"]


def test_a_map_lies_where_it_is_told_and_stands_for_the_scan(fixture_file: Path, tmp_path: Path) -> None:
    made, whole = tmp_path / "m", read_scan(fixture_file)
    assert run("map", fixture_file, made) == 0
    assert run("subsample", made, tmp_path / "o.npz", "--keep", "3,5") == 0
    np.testing.assert_array_equal(read_scan(tmp_path / "o.npz").diff3d, whole.diff3d[[3, 5]])
    assert main(["show", str(made), "--output", str(tmp_path / "m.png"), "--quiet"]) == 0
    assert main(["convert", str(made), str(tmp_path / "c.npz"), "--quiet"]) == 0
    np.testing.assert_array_equal(read_scan(tmp_path / "c.npz").diff3d, whole.diff3d)
    assert main(["dataset", "unmap", str(made), "--quiet"]) == 0
    assert names(tmp_path) == ["c.npz", "m.png", "o.npz"]


@pytest.mark.parametrize(
    ("operation", "name", "words"),
    [
        ("map", "gone.npz", "expected a scan file, found none there"),
        ("map", "mine", "expected a scan file, found none there"),
        ("map", "mine/notes.npz", "found a file that begins with b'notes'"),
        ("unmap", "mine", "expected a scan map, a folder with manifest.json, found none; nothing was removed"),
        ("unmap", "gone.npz", "nothing was removed"),
        ("unmap", "mine/notes.npz", "expected its map notes.npz.map beside it, found none"),
    ],
)
def test_what_is_no_scan_and_no_map_stays_as_it_is(
    operation: str, name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.npz").write_text("notes")
    assert main(["dataset", operation, str(tmp_path / name), "--quiet"]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert names(tmp_path) == ["mine"]
    assert names(tmp_path / "mine") == ["notes.npz"]
