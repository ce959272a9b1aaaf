"""Scan maps: what is in them, how long they count, what is refused, and that nothing else is ever removed."""

import json
import logging
import os
import re
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ptycho.core.formats import registry
from ptycho.core.formats.opening import open_scan
from ptycho.core.scan.map_manifest import FORMAT, MANIFEST, Manifest, is_map
from ptycho.core.scan.map_read import FIELDS, STACKS, map_beside, open_map
from ptycho.core.scan.npz_file import ScanFile, read_scan, write_scan
from ptycho.core.scan.stream import Frames, ScanStream, stand_in, write_stream
from ptycho.core.scan_edit import map_write
from ptycho.core.scan_edit.map_write import make_map, remove_map
from ptycho.errors import DataError, MissingFileError, OutputError

n, N = 5, 64


@pytest.fixture
def scan(rng: np.random.Generator) -> ScanFile:
    """A scan with everything a file can have; the mask is one per pattern."""
    return ScanFile(
        diff3d=rng.poisson(9, (n, N, N)).astype(np.uint16),
        xcoords=np.arange(n) + 40.5,
        ycoords=40.0 - np.arange(n),
        probeGuess=rng.normal(size=(2, N, N)) + 1j,
        xcoords_start=np.arange(n) + 41.0,
        ycoords_start=39.0 - np.arange(n),
        scan_index=np.arange(n) % 2,
        objectGuess=rng.normal(size=(90, 101)) + 0j,
        Y=(rng.standard_normal((n, N, N)) + 1j).astype(np.complex64),
        mask=rng.random((n, N, N)) > 0.1,
        metadata={"nphotons": 9.0 * N * N, "who": "me"},
        units="counts",
    )


@pytest.fixture
def source(scan: ScanFile, tmp_path: Path) -> Path:
    write_scan(tmp_path / "scan.npz", scan)
    return tmp_path / "scan.npz"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def changed(source: Path) -> None:
    """Other content of the same size, at another time."""
    content = bytearray(source.read_bytes())
    content[-700] ^= 1
    source.write_bytes(content)
    os.utime(source, ns=(1, 1))


def refused(call: Callable[..., Any], *arguments: Any, kind: type[Exception] = DataError, **options: Any) -> str:
    with pytest.raises(kind) as error:
        call(*arguments, **options)
    message = str(error.value)
    assert "\n" not in message
    assert re.search("expected .* found", message), message
    return message


# ------------------------------------------------------------------ made and opened


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_map_holds_the_scan(scan: ScanFile, source: Path, elsewhere: bool, tmp_path: Path) -> None:
    folder = tmp_path / "here" / "map" if elsewhere else None
    (tmp_path / "here").mkdir()
    made = make_map(source, folder)
    assert made == (folder or tmp_path / "scan.npz.map")
    assert names(made) == sorted([MANIFEST, FIELDS, "diffraction.npy", "Y.npy", "mask.npy"])
    found = open_map(made)
    for key, value in vars(scan).items():
        np.testing.assert_equal(getattr(found, key), value, err_msg=key)
        assert isinstance(getattr(found, key), np.memmap) == (key in STACKS.values()), key
    assert map_beside(source) == (None if elsewhere else made)
    assert open_map(made, units="amplitude").units == "amplitude"


def test_what_a_scan_leaves_out_a_map_leaves_out(scan: ScanFile, tmp_path: Path) -> None:
    mask = scan.mask[0]  # one for all patterns: a field
    write_scan(tmp_path / "a.npz", ScanFile(scan.diff3d, scan.xcoords, scan.ycoords, scan.probeGuess, mask=mask))
    made = make_map(tmp_path / "a.npz")
    assert names(made) == ["diffraction.npy", FIELDS, MANIFEST]
    found = open_map(made)
    np.testing.assert_array_equal(found.mask, mask)
    assert type(found.mask) is np.ndarray
    assert (found.units, found.metadata, found.Y, found.scan_index) == (None, None, None, None)


def test_compressed_and_older_layouts_become_plain(scan: ScanFile, tmp_path: Path) -> None:
    fields = {key: getattr(scan, key) for key in ("xcoords", "ycoords", "probeGuess")}
    np.savez_compressed(tmp_path / "packed.npz", diff3d=scan.diff3d, bad_pixels=~scan.mask, **fields)
    np.savez(tmp_path / "old.npz", diffraction=np.moveaxis(scan.diff3d, 0, -1), energy=3, **fields)
    for name in ("packed.npz", "old.npz"):
        found = open_map(make_map(tmp_path / name)).diff3d
        np.testing.assert_array_equal(found, scan.diff3d)
        assert found.flags.c_contiguous
        assert found.flags.aligned
    np.testing.assert_array_equal(open_map(tmp_path / "packed.npz.map").mask, scan.mask)


def test_the_geometry_of_an_older_file_is_kept(scan: ScanFile, tmp_path: Path) -> None:
    fields = {key: getattr(scan, key) for key in ("diff3d", "xcoords", "ycoords", "probeGuess")}
    np.savez(
        tmp_path / "old.npz", photon_energy_eV=8e3, _metadata='{"name": "star", "detector_distance_m": 2}', **fields
    )
    record = registry.read(make_map(tmp_path / "old.npz"))
    assert (record.energy_eV, record.distance_m, record.metadata) == (8e3, 2.0, {"name": "star"})


@pytest.mark.parametrize("name", ["a.h5", "a.npz"])
def test_frames_of_another_byte_order_become_native(name: str, tmp_path: Path) -> None:
    counts, x = np.arange(n * N * N, dtype=">u4").reshape(n, N, N), np.arange(n) + 40.0
    if name == "a.h5":
        with h5py.File(tmp_path / name, "w") as file:
            file["patterns"], file["bad_pixels"] = counts, np.zeros((N, N), bool)
            file["probe"], file["object"] = np.ones((N, N), complex), np.ones((90, 90), complex)
            file["probe_position_x_px"] = file["probe_position_y_px"] = x - 0.5
    else:
        np.savez(tmp_path / name, diff3d=counts, xcoords=x, ycoords=x, probeGuess=np.ones((N, N), complex))
    found = open_map(make_map(tmp_path / name))
    assert found.diff3d.dtype == np.uint32
    assert found.diff3d.dtype.isnative
    np.testing.assert_array_equal(found.diff3d, counts)
    np.testing.assert_array_equal(found.xcoords, x)
    assert found.units == ("counts" if name == "a.h5" else None)


def test_a_map_stands_for_its_scan(scan: ScanFile, source: Path) -> None:
    made = make_map(source)
    stream = open_scan(made)
    np.testing.assert_array_equal(stream.frames.read(np.array([4, 1])), scan.diff3d[[4, 1]])
    assert registry.recognise(made).title == "scan map"
    with pytest.raises(DataError, match="expected a scan file to make a map of, found a map"):
        make_map(made)


def test_memory_stays_bounded_and_progress_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    count = 12_000  # 98 MB
    frames = Frames((count, N, N), np.dtype(np.uint16), lambda i: np.full((len(i), N, N), 7, np.uint16))
    x = np.arange(count) * 1.0
    fields = ScanFile(stand_in(frames.shape, np.uint16), x, x, np.ones((N, N), complex))
    monkeypatch.setattr(map_write, "_TOLD_BYTES", frames.nbytes)
    tracemalloc.start()
    path = write_stream(tmp_path / "large.npz", ScanStream.joined(frames, None, fields))
    with caplog.at_level(logging.INFO, "ptycho"):
        made = make_map(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    assert open_map(made).diff3d.shape == (count, N, N)
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "large.npz.map: diffraction: 10 % of 0.1 GiB"
    assert sum("diffraction: " in line for line in told) == 10


# ------------------------------------------------------------------ fresh or stale


def test_a_fresh_map_is_not_written_again(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = make_map(source)
    before = {path: path.stat().st_mtime_ns for path in (made, *made.iterdir())}
    with caplog.at_level(logging.INFO, "ptycho"):
        assert make_map(source) == made
    assert {path: path.stat().st_mtime_ns for path in (made, *made.iterdir())} == before
    assert caplog.messages == [f"{made}: already there and fresh"]


@pytest.mark.parametrize("change", ["edited in place", "replaced"])
def test_a_stale_map_is_refused_until_it_is_renewed(
    change: str, scan: ScanFile, source: Path, rng: np.random.Generator
) -> None:
    made = make_map(source)
    if change == "edited in place":
        size = source.stat().st_size
        with np.load(source) as archive:
            arrays = dict(archive)
        arrays["diff3d"][2, 3, 4] += 1
        np.savez(source, **arrays)
        assert source.stat().st_size == size
    else:
        write_scan(source, ScanFile(scan.diff3d[:3], scan.xcoords[:3], scan.ycoords[:3], scan.probeGuess))
    for call in (lambda: open_map(made), lambda: make_map(source), lambda: open_map(made, source=source)):
        message = refused(call)
        assert message.startswith(f"{made}: expected a map of {source} as it is (")
        assert message.endswith(f"(ptycho dataset map {source} --renew) or remove it (ptycho dataset unmap {made})")
    make_map(source, renew=True)
    np.testing.assert_array_equal(open_map(made).diff3d, read_scan(source).diff3d)
    assert names(source.parent) == ["scan.npz", "scan.npz.map"]


def test_another_date_alone_makes_no_stale_map(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = make_map(source)
    os.utime(source, ns=(1, 1))
    with caplog.at_level(logging.INFO, "ptycho"):
        open_map(made)
    assert caplog.messages == [f"{source}: another date but the same content as when its map was made"]


def test_a_map_stands_alone_when_its_source_is_gone(
    scan: ScanFile, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = make_map(source)
    source.unlink()
    with caplog.at_level(logging.INFO, "ptycho"):
        np.testing.assert_array_equal(open_map(made).diff3d, scan.diff3d)
    assert caplog.messages == [f"{made}: its source {source} is gone; the map is complete and stands alone"]
    assert map_beside(source) is None


def test_a_map_that_moved_with_its_scan_looks_beside_it(source: Path, tmp_path: Path) -> None:
    make_map(source)
    there = tmp_path / "there"
    there.mkdir()
    shutil.copy2(source, there)
    shutil.move(tmp_path / "scan.npz.map", there)
    changed(source)
    open_map(there / "scan.npz.map")
    changed(there / "scan.npz")
    assert str(there / "scan.npz") in refused(open_map, there / "scan.npz.map")


def test_a_map_elsewhere_remembers_its_scan(source: Path, tmp_path: Path) -> None:
    made = make_map(source, tmp_path / "my map")
    changed(source)
    assert f"ptycho dataset map {source} -o '{made}' --renew" in refused(open_map, made)


def test_a_scan_that_changes_meanwhile_is_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = map_write.write_frames

    def slow(*arguments: Any) -> None:
        write(*arguments)
        changed(source)

    monkeypatch.setattr(map_write, "write_frames", slow)
    assert "changed meanwhile" in refused(make_map, source)
    assert names(source.parent) == ["scan.npz"]


# ------------------------------------------------------------------ damage


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 10)


def edited(**entries: Any) -> Callable[[Path], None]:
    def edit(manifest: Path) -> None:
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | entries))

    return edit


DAMAGE: list[tuple[str, Callable[[Path], Any], str]] = [
    ("diffraction.npy", cut, r"expected an array, shape \(5, 64, 64\) of <u2, found a damaged one"),
    ("Y.npy", lambda path: path.write_bytes(path.read_bytes() + b"more"), "and 4 bytes more"),
    ("mask.npy", lambda path: np.save(path, np.ones((4, N, N), bool)), r"found shape \(4, 64, 64\) of \|b1"),
    ("diffraction.npy", lambda path: np.save(path, np.ones((n, N, N), "f4")), r"found shape \(5, 64, 64\) of <f4"),
    ("diffraction.npy", lambda path: path.write_bytes(b"hello"), "found a damaged one"),
    ("diffraction.npy", Path.unlink, "expected this member of a scan map, .* found none"),
    (FIELDS, Path.unlink, "expected this member of a scan map, found none"),
    (FIELDS, cut, "expected a whole NPZ archive, found: "),
    (MANIFEST, edited(version=2), "expected a scan map of version 1, found version 2; update"),
    (MANIFEST, edited(format="zarr"), r"expected a scan map \(ptychopinn-scan-map\), found the format 'zarr'"),
    (MANIFEST, edited(members={}), "expected diffraction and at most .* found nothing"),
    (MANIFEST, edited(members={"diffraction": {}}), "expected a whole manifest.json, found: "),
    (MANIFEST, edited(source={"name": "a"}), "expected a whole manifest.json, found: "),
    (MANIFEST, edited(units="volts"), "units: expected 'amplitude' or 'counts', found 'volts'"),
    (MANIFEST, cut, "found one that cannot be read"),
    (MANIFEST, lambda path: path.write_text("[1]"), "found the format None"),
]


@pytest.mark.parametrize(("name", "spoil", "words"), DAMAGE)
def test_damage_is_told_in_a_line(name: str, spoil: Callable[[Path], Any], words: str, source: Path) -> None:
    made = make_map(source)
    spoil(made / name)
    assert re.search(words, refused(open_map, made))


def test_a_damaged_map_is_renewed(scan: ScanFile, source: Path) -> None:
    made = make_map(source)
    cut(made / "diffraction.npy")
    assert f"make the map again (ptycho dataset map {source} --renew)" in refused(make_map, source)
    make_map(source, renew=True)
    np.testing.assert_array_equal(open_map(made).diff3d, scan.diff3d)


# ------------------------------------------------------------------ whole or not at all, and nothing else removed


@pytest.mark.parametrize("name", ["diffraction", "Y", "mask"])
@pytest.mark.parametrize("renew", [False, True])
def test_an_interrupt_leaves_what_was_there(
    name: str, renew: bool, scan: ScanFile, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if renew:
        make_map(source)
    write, before = map_write.write_frames, names(source.parent)

    def interrupted(file: Any, frames: Frames) -> None:
        write(file, frames)
        if f"{name}." in file.name:
            raise KeyboardInterrupt

    monkeypatch.setattr(map_write, "write_frames", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_map(source, renew=renew)
    assert names(source.parent) == before
    if renew:
        np.testing.assert_array_equal(open_map(f"{source}.map").diff3d, scan.diff3d)


def test_an_interrupt_between_the_last_steps_brings_the_old_map_back(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, rename, once = make_map(source), Path.rename, iter([True])

    def interrupted(self: Path, target: Path) -> Path:
        if target == made and next(once, False):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_map(source, renew=True)
    assert names(source.parent) == ["scan.npz", "scan.npz.map"]
    open_map(made)


def test_no_room_is_said_before_anything_is_written(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
    assert "expected room for" in refused(make_map, source, kind=OutputError)
    assert names(source.parent) == ["scan.npz"]


def test_places_that_are_no_place_for_a_map(source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    for place in (tmp_path / "mine", source, tmp_path):
        for renew in (False, True):
            refused(make_map, source, place, renew, kind=OutputError)
    assert "writable folder" in refused(make_map, source, tmp_path / "no" / "map", kind=OutputError)
    for missing in (tmp_path / "gone.npz", tmp_path / "mine"):
        refused(make_map, missing, kind=MissingFileError)
    assert names(tmp_path) == ["mine", "scan.npz"]


def test_a_map_is_removed_and_nothing_else(source: Path, tmp_path: Path) -> None:
    remove_map(make_map(source))
    assert names(tmp_path) == ["scan.npz"]
    for other in (source, tmp_path, tmp_path / "gone"):
        assert "nothing was removed" in refused(remove_map, other)
    made = make_map(source)
    (made / "notes.txt").write_text("mine")
    for call in (lambda: remove_map(made), lambda: make_map(source, renew=True)):
        assert "found notes.txt as well; move that away" in refused(call)
    assert len(names(made)) == 6
    (made / "notes.txt").unlink()
    (tmp_path / "link").symlink_to(made)
    assert "found a link to one" in refused(remove_map, tmp_path / "link")
    (made / MANIFEST).write_text('{"format": "package"}')
    assert "found the format 'package'" in refused(remove_map, made)
    assert len(names(made)) == 5
    (made / MANIFEST).write_text(json.dumps({"format": FORMAT, "version": 99}))
    remove_map(made)
    assert names(tmp_path) == ["link", "scan.npz"]
    assert not is_map(tmp_path / "link")


def test_the_specification_is_what_is_written(source: Path) -> None:
    text = (Path(__file__).parents[3] / "specs" / "data_contracts.md").read_text(encoding="utf-8")
    section = text.split("## 5. Scan map", maxsplit=1)[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w.]+)` \|", section, flags=re.MULTILINE)
    made = make_map(source)
    manifest = json.loads((made / MANIFEST).read_text())
    nested = [f"source.{name}" for name in manifest["source"]]
    entries = [name for key in manifest for name in (nested if key == "source" else [key])]
    assert rows == [MANIFEST, *(f"{name}.npy" for name in STACKS), FIELDS, *entries]
    assert Manifest.read(made).members["Y"].dtype == "<c8"
