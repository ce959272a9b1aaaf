"""A scan of any format in memory or on disk: the same numbers, the same refusals, and which file is mapped."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ptycho.core.formats import opening, registry
from ptycho.core.formats.hdf5 import h5_frames
from ptycho.core.formats.opening import MemoryMap, load_scan, open_scan
from ptycho.core.formats.record import ScanRecord
from ptycho.core.scan.npz_mapped import pattern_member
from ptycho.core.scan.stream import Frames
from ptycho.core.scan_edit.map_write import make_map
from ptycho.errors import ConfigError, DataError, MissingFileError

n, N = 7, 64

Save = Callable[..., Path]


@pytest.fixture
def counts(rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(3, (n, N, N)).astype(np.uint16)


@pytest.fixture
def save(tmp_path: Path, counts: np.ndarray) -> Save:
    """Write the scan, with changes to its arrays, as `kind` says and return the file."""

    def write(kind: str, **changes: Any) -> Path:
        arrays = {
            "diff3d": counts,
            "xcoords": np.arange(n) + 34.5,
            "ycoords": 40.25 - np.arange(n),
            "probeGuess": np.ones((N, N), np.complex64),
            "objectGuess": np.ones((90, 80), np.complex64),
        } | changes
        path = tmp_path / f"{kind}.{'npz' if kind in NPZ else 'h5'}"
        if kind in NPZ:
            stack = arrays.pop("diff3d")
            layout = {"hwn": np.moveaxis(stack, 0, -1), "nhw1": stack[..., None], "fortran": np.asfortranarray(stack)}
            (np.savez_compressed if kind == "packed" else np.savez)(path, diff3d=layout.get(kind, stack), **arrays)
        elif kind == "cxi":
            record = ScanRecord(
                patterns=Frames.of(arrays["diff3d"]),
                units="counts",
                xcoords=arrays["xcoords"],
                ycoords=arrays["ycoords"],
                probe=arrays["probeGuess"][None],
                object=arrays["objectGuess"],
                energy_eV=8e3,
                distance_m=1.5,
                detector_pixel_m=75e-6,
            )
            registry.write(path, record, "cxi")
        else:
            training_file(path, arrays, **HDF5[kind])
        return path

    return write


NPZ = ("plain", "packed", "hwn", "nhw1", "fortran")
HDF5: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunked": {"chunks": (2, 16, 64)},
    "gzip": {"compression": "gzip"},
    "swapped": {"dtype": ">u2"},
}
MAPPED = {"plain", "hwn", "nhw1", "fortran", "contiguous"}
"""Kinds that are mapped where they lie."""


def training_file(path: Path, arrays: dict[str, Any], **options: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("patterns", data=arrays["diff3d"], **options)
        file["bad_pixels"] = ~arrays.get("mask", np.ones((N, N), bool))
        file["probe"], file["object"] = arrays["probeGuess"], arrays["objectGuess"]
        file["probe_position_x_px"], file["probe_position_y_px"] = arrays["xcoords"] - 0.5, arrays["ycoords"] - 0.5


def refused(path: Path, memory_map: MemoryMap, units: str | None = None) -> str:
    with pytest.raises(DataError) as error:
        load_scan(path, units, memory_map)
    message = str(error.value)
    assert message.startswith(str(path))
    assert message.count(f"{path}:") == 1
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", [*NPZ, *HDF5, "cxi"])
def test_on_disk_and_in_memory_are_the_same(
    kind: str, save: Save, counts: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(kind)
    held, mapped = load_scan(path, None, "never"), load_scan(path, None, "always")
    for key, value in vars(held).items():
        np.testing.assert_equal(getattr(mapped, key), value, err_msg=key)
    np.testing.assert_array_equal(mapped.diff3d, counts)
    assert mapped.diff3d.shape == (n, N, N)
    assert isinstance(mapped.diff3d, np.memmap)
    assert not isinstance(held.diff3d, np.memmap)
    assert held.diff3d.flags.c_contiguous
    own = getattr(mapped.diff3d, "filename", None)
    assert (Path(str(own)) == path) == (kind in MAPPED)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    advised = kind not in MAPPED or kind in ("hwn", "fortran")
    assert [f"`ptycho dataset map {path}`" in text for text in caplog.messages] == [True] * advised
    assert held.units == (None if kind in NPZ else "counts")
    assert load_scan(path, "amplitude", "always").units == "amplitude"


def test_auto_leaves_large_scans_on_disk(save: Save, counts: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [save(kind) for kind in ("plain", "packed", "contiguous", "chunked")]
    paths.append(make_map(save("hwn")))
    for limit, kind in ((opening.MEMORY_MAP_BYTES, np.ndarray), (counts.nbytes - 1, np.memmap)):
        monkeypatch.setattr(opening, "MEMORY_MAP_BYTES", limit)
        assert [type(load_scan(path).diff3d) for path in paths] == [kind] * 5
        assert type(load_scan(paths[0], None, "always").diff3d) is np.memmap
        assert type(load_scan(paths[0], None, "never").diff3d) is np.ndarray


@pytest.mark.parametrize("kind", ["plain", "packed", "contiguous", "gzip"])
def test_a_map_beside_the_scan_is_used(
    kind: str, save: Save, counts: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(kind)
    made = make_map(path)
    for source in (path, made):
        found = load_scan(source, None, "always")
        assert Path(str(found.diff3d.filename)) == made / "diffraction.npy"
        np.testing.assert_array_equal(found.diff3d, counts)
        assert type(load_scan(source).diff3d) is np.ndarray
    assert not [text for text in caplog.messages if "ptycho dataset map" in text]
    save(kind, diff3d=counts + 1)
    for memory_map in ("always", "auto"):
        with pytest.raises(DataError, match=r"\.map: expected a map of .* as it is .* renew it .* or remove it"):
            load_scan(path, None, memory_map)
    np.testing.assert_array_equal(load_scan(path, None, "never").diff3d, counts + 1)
    path.unlink()
    with pytest.raises(MissingFileError):
        load_scan(path)
    np.testing.assert_array_equal(load_scan(made, None, "never").diff3d, counts)


def at(value: float) -> np.ndarray:
    stack = np.ones((n, N, N), np.float32)
    stack[2, 3, 4:6] = value
    return stack


FAULTS = {
    "NaN": ({"diff3d": at(np.nan)}, "diffraction: .* 2 NaN or infinite in valid pixels"),
    "negative": ({"diff3d": np.full((n, N, N), -1.0)}, f"found {n * N * N} negative"),
    "dark": ({"diff3d": np.zeros((n, N, N))}, "only zeros in all 7 patterns"),
    "oblong probe": ({"probeGuess": np.ones((N, 2 * N)) + 0j}, r"probeGuess: expected \(64, 64\)"),
    "complex": ({"diff3d": at(1) * 1j}, "diffraction: .* complex"),
    "positions": ({"xcoords": np.full(n, 1e4)}, "7 of 7 patches wholly outside"),
    "lengths": ({"ycoords": np.ones(n + 1)}, r"ycoords"),
    "dark probe": ({"probeGuess": np.zeros((N, N), complex)}, "probeGuess: expected an illumination"),
    "mask": ({"mask": np.zeros((N, N), bool)}, "mask: expected valid pixels"),
    "truth": ({"Y": np.full((n, N, N), np.inf + 0j)}, "Y: .* 28672 NaN"),
    "short truth": ({"Y": np.ones((3, N, N)) + 0j}, r"Y: expected shape \(7, 64, 64\)"),
    "pickled": ({"diff3d": np.array([None, 1], object)}, "diff3d: .* unpickled"),
    "no frames": ({"diff3d": np.ones((0, N, N))}, "found 0 and 7 positions"),
    "text": ({"diff3d": np.array(["a"])}, "diffraction: .* <U1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_mapped_scan_is_refused_in_the_same_words(fault: str, save: Save) -> None:
    changes, words = FAULTS[fault]
    for kind in ("plain", "packed"):
        path = save(kind, **changes)
        message = refused(path, "never")
        assert re.search(words, message)
        assert refused(path, "always") == message


@pytest.mark.parametrize("fault", ["NaN", "negative", "dark", "positions", "dark probe", "mask"])
def test_other_formats_and_maps_are_refused_in_these_words_too(fault: str, save: Save, tmp_path: Path) -> None:
    changes, words = FAULTS[fault]
    for kind in ("contiguous", "gzip"):
        path = save(kind, **changes)
        for memory_map in ("never", "always"):
            assert re.search(words, refused(path, memory_map))
        assert re.search(words, refused(make_map(path), "auto"))


@pytest.mark.parametrize("kind", ["plain", "packed"])
def test_damage_in_a_stored_array_is_found_on_disk_too(kind: str, save: Save) -> None:
    path = save(kind)
    whole = path.read_bytes()
    content = bytearray(whole)
    content[3000] ^= 0xFF
    path.write_bytes(content)
    assert "expected a whole NPZ archive, found: " in refused(path, "always")
    member = pattern_member(path)
    assert member is not None
    checksum = member.CRC.to_bytes(4, "little")
    path.write_bytes(whole.replace(checksum, bytes(4)))
    assert "Bad CRC-32 for file 'diff3d.npy'" in refused(path, "always")
    path.write_bytes(content[: len(content) // 2])
    assert refused(path, "always") == refused(path, "never")


def test_files_that_are_no_scan(tmp_path: Path, golden: Path, save: Save) -> None:
    path = tmp_path / "a.bin"
    for content, words in ((b"\x89HDF\r\n\x1a\n rest", "expected a whole HDF5 file, found: "), (b"hello", "b'hello'")):
        path.write_bytes(content)
        for memory_map in ("never", "auto", "always"):
            assert words in refused(path, memory_map)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["speed"] = 3
    assert "found an HDF5 file with speed" in refused(tmp_path / "a.h5", "auto")
    assert "positions, found no patterns; join it" in refused(golden / "product.h5", "always")
    assert "found no positions; join it" in refused(golden / "diffraction.h5", "never")
    assert "found 'photons'" in refused(save("contiguous"), "auto", "photons")
    with pytest.raises(ConfigError, match="memory_map='yes': expected one of auto, always, never"):
        load_scan(save("plain"), None, "yes")  # type: ignore[arg-type]


def test_the_geometry_comes_along(save: Save) -> None:
    found = load_scan(save("cxi"))
    assert found.metadata is not None
    assert found.metadata["photon_energy_eV"] == pytest.approx(8e3)
    assert found.metadata["detector_distance_m"] == 1.5
    np.testing.assert_allclose(found.xcoords, np.arange(n) + 34.5)


# ------------------------------------------------------------------ what can be mapped in an HDF5 file


def test_only_data_sets_that_lie_as_in_memory_are_mapped(tmp_path: Path, counts: np.ndarray) -> None:
    wide = h5py.h5t.NATIVE_UINT16.copy()
    wide.set_precision(12)  # of 16 bits, as some detectors write
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["there"] = counts
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["plain"], file["raster"] = counts, counts[:6].reshape(2, 3, N, N)
        file.create_dataset("chunked", data=counts, chunks=True)
        file.create_dataset("swapped", data=counts, dtype=">u2")
        file.create_dataset("never written", counts.shape, counts.dtype, fillvalue=3)
        file.create_dataset("outside", counts.shape, "u2", external=[(tmp_path / "raw.bin", 0, counts.nbytes)])
        file["outside"][...] = counts
        h5py.h5d.create(file.id, b"precise", wide, h5py.h5s.create_simple(counts.shape))
        file["precise"][...] = counts
        layout = h5py.VirtualLayout(counts.shape, counts.dtype)
        layout[...] = h5py.VirtualSource(tmp_path / "other.h5", "there", counts.shape)
        file.create_virtual_dataset("virtual", layout)
        file["linked"] = h5py.ExternalLink(tmp_path / "other.h5", "there")
    for name, mapped in {
        "plain": True,
        "raster": True,
        "linked": True,
        "chunked": False,
        "swapped": False,
        "outside": False,
        "precise": False,
        "virtual": False,
    }.items():
        frames = h5_frames(tmp_path / "a.h5", [name])
        assert (frames.array is not None) == mapped, name
        np.testing.assert_array_equal(frames.whole(), counts[: len(frames)], err_msg=name)
    assert (h5_frames(tmp_path / "a.h5", ["never written"]).whole() == 3).all()
    with h5py.File(tmp_path / "b.h5", "w", userblock_size=1024) as file:
        file["later"] = counts
    frames = h5_frames(tmp_path / "b.h5", ["later"])
    assert isinstance(frames.array, np.memmap)
    np.testing.assert_array_equal(frames.whole(), counts)
    assert h5_frames(tmp_path / "a.h5", ["plain", "chunked"]).array is None


def test_a_scan_is_open_for_reading_by_block(save: Save, counts: np.ndarray) -> None:
    for kind in ("packed", "contiguous", "gzip"):
        stream = open_scan(save(kind))
        np.testing.assert_array_equal(stream.frames.read(np.array([6, 2])), counts[[6, 2]])
        np.testing.assert_array_equal(stream.scan().diff3d, counts)


@pytest.mark.parametrize("name", ["bare.npz", "bare.cxi", "bare.map"])
def test_a_file_without_a_probe_is_a_scan(name: str, save: Save, tmp_path: Path) -> None:
    known = {"energy_eV": 8e3, "distance_m": 1.5, "detector_pixel_m": 75e-6, "units": "counts"}
    bare, path = tmp_path / "bare.npz", tmp_path / name
    registry.write(bare, replace(registry.read(save("plain")), probe=None, **known))
    if name.endswith("map"):
        make_map(bare, path)
    else:
        registry.write(path, registry.read(bare))
    assert load_scan(path).probeGuess is None
    assert open_scan(path).fields.probeGuess is None


def test_names_in_a_file_stay_on_one_line(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a\nb"], file["c" * 5000] = 1, 2
    said = refused(tmp_path / "a.h5", "auto")
    assert "found an HDF5 file with a b, ccc" in said
    assert len(said) < 2000
