"""Hostile files: each ends in success or in one line of the library's own error, soon, and in little memory."""

import errno
import hashlib
import json
import os
import resource
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.cli.batch import Job, Row, jobs_of, row_of
from ptycho.cli.resuming import read_asked
from ptycho.config.files import load_config_file
from ptycho.core.archive import load_archive
from ptycho.core.files.damage import (
    FREE_BYTES,
    LARGEST_RATIO,
    check_declared,
    check_regular,
    one_line,
    readable,
)
from ptycho.core.files.written import written_before
from ptycho.core.formats import registry
from ptycho.core.formats.opening import load_scan
from ptycho.core.formats.position_table import positions_at
from ptycho.core.formats.reconstruction_npz import read_npz
from ptycho.core.formats.sources import array_in
from ptycho.core.quality.patch_stats import read_statistics
from ptycho.core.quality.resolution import read_resolution
from ptycho.core.training.checkpoint_npz import read_checkpoint
from ptycho.errors import ArchiveError, ConfigError, DataError, MissingFileError, OutputError, PtychoError

GOLDEN = Path(__file__).parents[2] / "fixtures" / "formats"
SEEDS = sorted((Path(__file__).parents[2] / "fixtures" / "damaged").iterdir())
LITTLE = 200 << 20
_PACKED = zlib.compress(bytes(1 << 22), 9)


def refused(read: Callable[..., object], *arguments: object) -> str:
    """The line that reading ends with."""
    with pytest.raises(PtychoError) as caught:
        read(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def little_memory() -> None:
    """What is read in a test may not add more than this to the memory of the process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < LITTLE >> 10


# ---------------------------------------------------------------- the boundary


@pytest.mark.parametrize("error", [ValueError, RecursionError, MemoryError, zipfile.BadZipFile, KeyError, EOFError])
def test_what_a_damaged_file_raises_is_one_line(error: type[Exception]) -> None:
    line = r"^a\.h5: expected a whole file, found: .*; ask again$"
    boundary = readable(Path("a.h5"), "a whole file", ArchiveError, "ask again")
    with pytest.raises(ArchiveError, match=line), boundary:
        raise error("line 1\nline 2\x1b[31m")
    with pytest.raises(DataError, match=r"found: KeyError 'patterns'; copy"), readable(Path("a"), "a file"):
        {}["patterns"]


def test_a_file_without_the_right_to_read_it_is_not_called_damaged() -> None:
    with (
        pytest.raises(DataError, match=r"^a: expected a file, found: Permission denied; ask its owner for the right"),
        readable(Path("a"), "a file"),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", "a")


def test_an_error_of_the_library_passes_with_the_file_in_front() -> None:
    for given, expected in ((DataError("a.h5: no\nprobe"), "a.h5: no probe"), (DataError("no"), "a.h5: no")):
        with pytest.raises(DataError, match=f"^{expected}$"), readable(Path("a.h5"), "a file"):
            raise given
    with pytest.raises(OutputError, match=r"^full$"), readable(Path("a.h5"), "a file"):
        raise OutputError("full")
    with pytest.raises(KeyboardInterrupt), readable(Path("a.h5"), "a file"):
        raise KeyboardInterrupt
    assert len(one_line("x" * 10**6)) < 2000


def test_what_may_be_declared() -> None:
    check_declared(FREE_BYTES, 0, "a")
    check_declared(LARGEST_RATIO << 20, 1 << 20, "a", in_memory=False)
    with pytest.raises(DataError, match=r"a: expected what 1 MiB in the file can hold, found 501 MiB declared"):
        check_declared(LARGEST_RATIO + 1 << 20, 1 << 20, "a")
    with pytest.raises(DataError, match=r"a: expected what fits into the memory of this machine .*, found 1e\+03 TiB"):
        check_declared(1000 << 40, 1000 << 40, "a")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_and_a_device_are_not_opened(tmp_path: Path) -> None:
    for suffix in (".npz", ".h5", ".tif", ".csv", ".mat"):
        pipe = tmp_path / f"a{suffix}"
        os.mkfifo(pipe)
        assert "found a pipe; name a file" in refused(load_scan, pipe)
        assert "found a pipe; name a file" in refused(registry.read, pipe)
        assert "found a pipe; name a file" in refused(array_in, pipe, None)
        assert "nothing" in refused(positions_at, str(pipe))
        for read in (read_npz, load_archive, load_config_file):
            assert str(pipe) in refused(read, pipe)
    assert "found a device" in refused(check_regular, Path("/dev/zero"))
    assert "found a folder" in refused(check_regular, tmp_path)
    with pytest.raises(MissingFileError, match="nothing there"):
        check_regular(tmp_path / "gone")


# ---------------------------------------------------------------- finds


@pytest.mark.parametrize("seed", SEEDS, ids=[path.name for path in SEEDS])
def test_files_that_broke_a_reader(seed: Path) -> None:
    """Of scripts/fuzz.py, and others; small, made of the golden files."""
    if seed.suffix == ".ckpt":
        refused(read_checkpoint, seed, [(2, 3), ()])
    elif seed.suffix == ".zip":
        refused(load_archive, seed)
    elif seed.suffix in (".yaml", ".toml", ".json"):
        refused(load_config_file, seed)
    else:
        refused(load_scan, seed)


@pytest.mark.parametrize(
    "content",
    [b"[" * 2000, b"\xff\xfe", b"null", b'[{"phase": []}]', b'{"arguments": {"a\\n": 1}, "n": {}}', b"9" * 5000],
)
def test_what_a_run_says_of_itself(content: bytes, tmp_path: Path) -> None:
    for path in (tmp_path / "batch.json", tmp_path / "scans.txt"):
        path.write_bytes(content)
    for read in (read_asked, read_resolution, read_statistics):
        assert refused(read, tmp_path / "batch.json").startswith(str(tmp_path / "batch.json: expected "))
    refused(written_before, tmp_path / "batch.json", [Path("a.png")])
    refused(row_of, Job("a.npz", (), tmp_path))
    if b"\xff" in content:
        assert "a list of scans" in refused(jobs_of, [str(tmp_path / "scans.txt")], "", tmp_path)


def test_a_row_of_a_batch_has_numbers_for_numbers(tmp_path: Path) -> None:
    row = asdict(Row("a.npz", "a", "done", height=7))
    for name, wrong in (("scan", 1), ("fourier_error", "0.1"), ("seconds", [])):
        (tmp_path / "batch.json").write_text(json.dumps({**row, name: wrong}))
        assert f"found: {name} {wrong!r}; remove it" in refused(row_of, Job("a.npz", (), tmp_path))


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    for name in ("scan.cxi", "scan.ptyd", "legacy.npz"):
        whole = (GOLDEN / name).read_bytes()
        for length in range(0, len(whole) - 1, len(whole) // 7):
            (tmp_path / name).write_bytes(whole[:length])
            assert refused(load_scan, tmp_path / name).startswith(str(tmp_path / name))


# ---------------------------------------------------------------- more is declared than is there


def copied(tmp_path: Path, name: str = "scan.cxi") -> Path:
    (tmp_path / name).write_bytes((GOLDEN / name).read_bytes())
    return tmp_path / name


@pytest.mark.parametrize(
    ("place", "shape", "chunks"),
    [
        ("entry_1/instrument_1/detector_1/data", (10**12, 8, 8), (1, 8, 8)),
        ("entry_1/instrument_1/detector_1/data", (4, 1 << 20, 1 << 20), (1, 1024, 1024)),
        ("entry_1/instrument_1/detector_1/mask", (1 << 15, 1 << 15), (1024, 1024)),
        ("entry_1/sample_1/geometry_1/translation", (10**7, 3), (1, 3)),
    ],
)
def test_values_that_are_not_there(
    place: str, shape: tuple[int, ...], chunks: tuple[int, ...], tmp_path: Path, little_memory: None
) -> None:
    path = copied(tmp_path)
    with h5py.File(path, "r+") as file:
        del file[place]
        file.create_dataset(place, shape, "u4", chunks=chunks, fillvalue=7)
    assert f"/{place}" in refused(load_scan, path)


def test_values_that_are_packed_too_well(tmp_path: Path, little_memory: None) -> None:
    path = copied(tmp_path)
    place = "entry_1/instrument_1/detector_1/data"
    with h5py.File(path, "r+") as file:
        del file[place]
        made = file.create_dataset(place, (300, 1024, 1024), "u4", chunks=(1, 1024, 1024), compression="gzip")
        for number in range(300):
            made.id.write_direct_chunk((number, 0, 0), _PACKED)
    assert "1.17 GiB declared" in refused(load_scan, path)


@pytest.mark.parametrize("kind", ["scan", "product", "reconstruction", "checkpoint", "archive"])
def test_an_archive_that_is_a_bomb(kind: str, tmp_path: Path, little_memory: None) -> None:
    """A ZIP member of 70 MiB of zeros, wherever it stands; of 2 GB it would be no more than a file of 2 MB."""
    path = tmp_path / ("a.zip" if kind == "archive" else "a.npz")
    names = {
        "scan": ["diff3d", "xcoords", "ycoords"],
        "product": ["probe_position_x_m", "object", "probe", "object_pixel_width_m"],
        "reconstruction": ["object", "probe", "frame", "method"],
        "checkpoint": ["0"],
        "archive": [],
    }[kind]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ([f"{name}.npy" for name in names]) or ["manifest.json"]:
            count = 70 if name in ("object.npy", "diff3d.npy", "0.npy", "manifest.json") else 1
            with file.open(name, "w") as member:
                if names:
                    np.lib.format.write_array_header_1_0(
                        member, {"descr": "|u1", "fortran_order": False, "shape": (count, 1 << 20, 1)}
                    )
                for _ in range(count):
                    member.write(bytes(1 << 20))
    reads: dict[str, Callable[[Path], object]] = {
        "archive": load_archive,
        "checkpoint": lambda given: read_checkpoint(given, [(1,)]),
        "reconstruction": read_npz,
        "product": registry.read,
    }
    assert "MiB declared" in refused(reads.get(kind, load_scan), path)


def test_an_array_that_is_longer_or_shorter_than_it_says(tmp_path: Path) -> None:
    with np.load(GOLDEN / "legacy.npz") as file:
        arrays = dict(file)
    for key, shape in (("xcoords", (10**12,)), ("xcoords", (3,)), ("diffraction", (8, 8, 10**9))):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            for name, values in arrays.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array_header_1_0(
                        member,
                        {
                            "descr": values.dtype.str,
                            "fortran_order": False,
                            "shape": shape if name == key else values.shape,
                        },
                    )
                    member.write(values.tobytes())
        assert f"{key}: expected" in refused(load_scan, tmp_path / "a.npz")


# ---------------------------------------------------------------- what leads in circles


def test_groups_that_hold_each_other(tmp_path: Path) -> None:
    """A hundred names of one group in itself: 100^6 ways through it."""
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        for number in range(100):
            file[f"loop{number}"] = file["/"]
        file.attrs["default"] = "/"
    assert "found an HDF5 file with loop0" in refused(registry.read, tmp_path / "a.nxs")
    for default in (".", "/", "loop0/loop1", "../.."):
        with h5py.File(tmp_path / "a.nxs", "r+") as file:
            file.attrs["default"] = default
        refused(registry.read, tmp_path / "a.nxs")


def test_links_that_multiply(tmp_path: Path) -> None:
    """Each of a row of links leads a hundred times through the one before."""
    path = copied(tmp_path, "diffraction.h5")
    with h5py.File(path, "r+") as file:
        del file["indexes"]
        file["l0"] = h5py.SoftLink(".")
        for number in range(15):
            file[f"l{number + 1}"] = h5py.SoftLink("/".join([f"l{number}"] * 100))
        file["indexes"] = h5py.SoftLink("l15/x")
    assert "circles" in refused(load_scan, path)


def test_settings_of_aliases_of_aliases(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    rows = ["a0: &a0 [1, 2]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
    path.write_text("\n".join(rows))
    assert "aliases that stand for more" in refused(load_config_file, path)
    rows = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
    path.write_text("\n".join(rows))
    assert "aliases that stand for more" in refused(load_config_file, path)
    path.write_text("a: &a [*a]")
    assert "aliases that stand for more" in refused(load_config_file, path)
    path.write_text("a: &a {x: 1}\nb: *a\nc:\n  <<: *a\n")
    assert load_config_file(path) == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1}}
    for text in ("[" * 5000, "a: 0x" + "f" * 5000, "a: 2001-99-99"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"a\.yaml: "):
            load_config_file(path)
    for suffix, text in ((".json", "[" * 100_000), (".toml", "a = " + "[" * 5000), (".toml", "a = 0x" + "f" * 5000)):
        (tmp_path / f"a{suffix}").write_text(text)
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config_file(tmp_path / f"a{suffix}")


# ---------------------------------------------------------------- other files are not read


def test_values_in_the_working_directory_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 looks for values outside of it where the process works; here it is the folder of the file."""
    home, folder = tmp_path / "home", tmp_path / "folder"
    for place, value in ((home, 7), (folder, 1)):
        place.mkdir()
        (place / "secret").write_bytes(bytes([value, 0] * 4 * 64))
    path = copied(folder)
    with h5py.File(path, "r+") as file:
        del file["entry_1/instrument_1/detector_1/data"]
        file.create_dataset("entry_1/instrument_1/detector_1/data", (4, 8, 8), "<u2", external=[("secret", 0, 512)])
    monkeypatch.chdir(home)
    frames = registry.read(path).patterns
    assert frames is not None
    assert (frames.whole() == 1).all()


def test_weights_of_an_archive_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["physics/probe"] = np.ones((1, 4, 4), np.complex64)
    for make in (
        lambda file: file.create_dataset("weights/w", (64,), "u1", external=[(str(tmp_path / "secret"), 0, 64)]),
        lambda file: file.__setitem__("weights/w", h5py.ExternalLink(str(tmp_path / "other.h5"), "/physics/probe")),
        lambda file: file.__setitem__("weights/w", h5py.SoftLink("/weights")),
    ):
        with h5py.File(tmp_path / "weights.h5", "w") as file:
            file.create_group("weights")
            make(file)
            file["physics/probe"] = np.ones((1, 4, 4), np.complex64)
            for name in ("log_intensity_scale", "intensity_scale_nominal", "input_scale"):
                file[f"physics/{name}"] = 1.0
        folder = tmp_path / "unpacked"
        folder.mkdir(exist_ok=True)
        (tmp_path / "weights.h5").replace(folder / "weights.h5")
        (folder / "params.json").write_text(json.dumps({"params": {}, "configs": {}}))
        digests = {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("params.json", "weights.h5")
        }
        manifest = {"format": "ptychopinn-model", "format_version": 1, "backend": "pytorch", "versions": {}}
        (folder / "manifest.json").write_text(json.dumps({**manifest, "sha256": digests}))
        assert "in the file itself, found a" in refused(load_archive, folder)
