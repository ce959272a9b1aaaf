"""What an HDF5 file refers to in other files is read beside it, and nowhere else; what is gone is named."""

import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.core.formats import registry
from ptycho.core.formats.hdf5 import h5_frames
from ptycho.core.formats.hdf5_access import dataset, has, member
from ptycho.errors import DataError, MissingFileError

FRAMES = np.arange(3 * 2 * 4, dtype=np.uint16).reshape(3, 2, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with frames.h5, and beside it other/frames.h5."""
    for place in (tmp_path / "here", tmp_path / "other"):
        place.mkdir()
        with h5py.File(place / "frames.h5", "w") as file:
            file["entry/data"] = FRAMES
    return tmp_path / "here"


def linked(folder: Path, target: str, path: str = "/entry/data") -> Path:
    with h5py.File(folder / "master.h5", "w") as file:
        file["link"] = h5py.ExternalLink(target, path)
        file["soft"] = h5py.SoftLink("/link")
    return folder / "master.h5"


def virtual(folder: Path, target: str) -> Path:
    layout = h5py.VirtualLayout((3, 2, 4), np.uint16)
    layout[:] = h5py.VirtualSource(target, "entry/data", (3, 2, 4))
    with h5py.File(folder / "master.h5", "w") as file:
        file.create_virtual_dataset("link", layout)
    return folder / "master.h5"


@pytest.mark.parametrize("make", [linked, virtual])
def test_data_of_files_beside_are_read(make: object, folder: Path) -> None:
    frames = h5_frames(make(folder, "frames.h5"), ["link"])  # type: ignore[operator]
    np.testing.assert_array_equal(frames.whole(), FRAMES)
    np.testing.assert_array_equal(frames.read(np.array([2])), FRAMES[2:])


@pytest.mark.parametrize("make", [linked, virtual])
def test_data_of_other_folders_are_not(make: object, folder: Path) -> None:
    for target in ("../other/frames.h5", str(folder.parent / "other" / "frames.h5"), "a/../../other/frames.h5"):
        path = make(folder, target)  # type: ignore[operator]
        with pytest.raises(DataError, match=r"master\.h5: expected data in its own folder, found a link to .*frames"):
            h5_frames(path, ["link"])
    with pytest.raises(MissingFileError, match=r"master\.h5: expected gone\.h5 in its folder"):
        h5_frames(make(folder, "gone.h5"), ["link"])  # type: ignore[operator]


def half_written(path: Path, swmr: bool) -> Path:
    """A file with two frames, as it is on disk while another program still has it open."""
    with h5py.File(path.with_suffix(".open"), "w", libver="latest") as file:
        data = file.create_dataset("entry/data", (0, 2, 4), "u2", maxshape=(None, 2, 4), chunks=(1, 2, 4))
        if swmr:
            file.swmr_mode = True
        data.resize(2, 0)
        data[:] = FRAMES[:2]
        file.flush()
        shutil.copy(path.with_suffix(".open"), path)
    return path


def test_a_file_that_is_being_written_in_swmr_mode_is_read_as_far_as_it_is_there(folder: Path) -> None:
    frames = h5_frames(half_written(folder / "growing.h5", swmr=True), ["entry/data"])
    np.testing.assert_array_equal(frames.whole(), FRAMES[:2])


@pytest.mark.parametrize("make", [linked, virtual])
def test_a_file_beside_that_is_being_written_is_named(make: object, folder: Path) -> None:
    half_written(folder / "frames.h5", swmr=True)
    with pytest.raises(DataError, match=r"expected frames\.h5, to which it links, closed, found it being written"):
        h5_frames(make(folder, "frames.h5"), ["link"])  # type: ignore[operator]


def test_a_file_that_is_being_written_without_swmr_is_named_for_what_it_is(folder: Path) -> None:
    path = half_written(folder / "growing.h5", swmr=False)
    with pytest.raises(DataError, match=r"growing\.h5: expected a file that is closed, .* h5clear --status FILE"):
        registry.read(path)
    fcntl = pytest.importorskip("fcntl")
    with (folder / "frames.h5").open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"frames\.h5: .* another program is writing; wait until it has closed it"):
            registry.read(folder / "frames.h5")


def test_a_file_beside_leads_no_further(folder: Path) -> None:
    """A link to a link that leaves the folder, and to one that comes back."""
    with h5py.File(folder / "second.h5", "w") as file:
        file["out"] = h5py.ExternalLink("../other/frames.h5", "/entry/data")
        file["back"] = h5py.ExternalLink("master.h5", "/link")
        file["nothing"] = h5py.SoftLink("/nothing")
    for name, words in (
        ("/out", "own folder"),
        ("/back", "circles"),
        ("/nothing", "circles"),
        ("/x", "expected /x in"),
    ):
        path = linked(folder, "second.h5", name)
        with h5py.File(path) as file, pytest.raises(DataError, match=words):
            member(file, "soft")


def test_what_is_in_the_file_itself(folder: Path) -> None:
    with h5py.File(linked(folder, "frames.h5")) as file:
        assert has(file, "link", "soft", "/soft", "./link")
        assert not has(file, "soft", "none/of/this")
        assert dataset(file, "soft").shape == (3, 2, 4)
        with pytest.raises(DataError, match="none: expected a data set, found none"):
            dataset(file, "none")
        with pytest.raises(DataError, match="/: expected a data set, found a group"):
            dataset(file, "/")


def test_values_in_a_file_that_is_not_hdf5(folder: Path) -> None:
    (folder.parent / "secret.bin").write_bytes(bytes(48))
    for name in ("../secret.bin", str(folder.parent / "secret.bin")):
        with h5py.File(folder / "a.h5", "w") as file:
            file.create_dataset("data", (3, 2, 4), np.uint16, external=[(name, 0, 48)])
        with pytest.raises(DataError, match="own folder"):
            h5_frames(folder / "a.h5", ["data"])


def test_a_filter_that_h5py_has_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bitshuffle with LZ4, as detectors write, is read with hdf5plugin, and without it the plugin is named."""
    hdf5plugin = pytest.importorskip("hdf5plugin")
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("data", data=FRAMES, chunks=(1, 2, 4), **hdf5plugin.Bitshuffle())
    np.testing.assert_array_equal(h5_frames(folder / "a.h5", ["data"]).whole(), FRAMES)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(
        DataError, match=r"a\.h5: /data is compressed .*: expected hdf5plugin, .*pip install hdf5plugin"
    ):
        h5_frames(folder / "a.h5", ["data"])


@pytest.mark.parametrize("size", [512, 2048])
def test_a_file_with_a_userblock(size: int, folder: Path, golden: Path) -> None:
    """It is known by its signature behind the block, and its frames are mapped where they lie."""
    with h5py.File(golden / "scan.cxi") as source, h5py.File(folder / "a.cxi", "w", userblock_size=size) as file:
        for name in source:
            source.copy(name, file)
        del file["entry_1/instrument_1/detector_1/data"]
        file["entry_1/instrument_1/detector_1/data"] = source["entry_1/instrument_1/detector_1/data"][()]
    with (folder / "a.cxi").open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file")
    assert registry.recognise(folder / "a.cxi").name == "cxi"
    found, plain = registry.read(folder / "a.cxi"), registry.read(golden / "scan.cxi")
    assert found.patterns is not None
    assert plain.patterns is not None
    assert found.patterns.array is not None
    np.testing.assert_array_equal(found.patterns.whole(), plain.patterns.whole())


def test_an_error_of_what_a_file_links_to_names_the_file(folder: Path, golden: Path) -> None:
    shutil.copy(golden / "scan.cxi", folder / "scan.cxi")
    with h5py.File(folder / "scan.cxi", "r+") as file:
        del file["entry_1/instrument_1/detector_1/data"]
        file["entry_1/instrument_1/detector_1/data"] = h5py.ExternalLink("gone.h5", "/data")
    with pytest.raises(MissingFileError, match=r"scan\.cxi: expected gone\.h5 in its folder"):
        registry.read(folder / "scan.cxi")
