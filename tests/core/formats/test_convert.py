"""`ptycho convert`, and what it says of files that it does not know."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.cli.commands import convert
from ptycho.core.formats import registry
from ptycho.core.formats.catalogue import FORMATS
from ptycho.core.formats.reconstruction_npz import write_npz
from ptycho.core.formats.record import completed
from ptycho.core.geometry import ObjectFrame
from ptycho.core.reconstruction import Reconstruction
from ptycho.errors import ConfigError, DataError, MissingFileError
from ptycho.raw_data import RawData

Command = Callable[..., int]
GEOMETRY = ("--energy-keV", 8, "--distance-m", 1.5, "--detector-pixel-um", 75)


def test_a_scan_for_training_goes_out_and_comes_back(fixture_file: Path, tmp_path: Path, command: Command) -> None:
    """Into ptychodus' two files, and from these into a scan that trains as the first one does."""
    assert command(fixture_file, tmp_path / "d.h5", "--to", "ptychodus-diffraction", *GEOMETRY) == 0
    assert command(fixture_file, tmp_path / "p.h5", "--to", "ptychodus-product", *GEOMETRY) == 0
    assert command(tmp_path / "d.h5", tmp_path / "p.h5", tmp_path / "back.npz") == 0
    first, back = RawData.from_file(fixture_file), RawData.from_file(tmp_path / "back.npz")
    np.testing.assert_array_equal(back.diff3d, first.diff3d)
    np.testing.assert_allclose(back.xcoords, first.xcoords, atol=1e-12)
    np.testing.assert_allclose(back.ycoords, first.ycoords, atol=1e-12)
    np.testing.assert_array_equal(back.probeGuess, first.probeGuess)
    np.testing.assert_array_equal(back.objectGuess, first.objectGuess)
    assert back.units == "counts"
    assert back.metadata is not None
    assert back.metadata["energy_eV"] == 8000
    # 1.5498026e-10 m * 1.5 m / (64 * 75e-6 m)
    assert back.metadata["object_pixel_m"] == pytest.approx(4.8431328e-8, rel=1e-7)


def test_raw_patterns_with_the_probe_of_a_product(golden: Path, tmp_path: Path, command: Command) -> None:
    assert command(golden / "product.h5", golden / "scan.ptyd", tmp_path / "scan.npz") == 0
    with np.load(tmp_path / "scan.npz", allow_pickle=False) as file:
        assert file["probeGuess"].shape == (2, 8, 8)
        # the later file has the positions, in metres; the object's frame makes them pixels
        np.testing.assert_allclose(file["xcoords"], [4.0, 10.5, 4.25, 11.0], atol=1e-8)
        assert str(file["units"]) == "counts"


def test_a_reconstruction_becomes_a_product_where_it_lies(tmp_path: Path, command: Command) -> None:
    result = Reconstruction(
        object=np.full((9, 11), 2j, np.complex64),
        coverage=np.ones((9, 11), np.float32),
        probe=np.ones((1, 4, 4), np.complex64),
        xcoords=np.array([2.0, 8.5]),
        ycoords=np.array([3.0, 6.0]),
        frame=ObjectFrame(height=9, width=11, x0=-3, y0=20),
        backend="pytorch",
        method="network",
        subpixel="bilinear",
        network_object=None,
        error_history=(),
        timings={},
        synchronised=False,
        agreement=(0.0, 0.0),
    )
    write_npz(result, tmp_path / "reconstruction.npz")
    flags = ("--to", "ptychodus-product", "--object-pixel-nm", 10, "--energy-keV", 8, "--distance-m", 1)
    assert command(tmp_path / "reconstruction.npz", tmp_path / "product.h5", *flags) == 0
    with h5py.File(tmp_path / "product.h5") as file:
        np.testing.assert_allclose(file["probe_position_x_m"][()], [-1e-8, 5.5e-8], rtol=1e-12)
        np.testing.assert_allclose(file["probe_position_y_m"][()], [2.3e-7, 2.6e-7], rtol=1e-12)
        assert file["object"].attrs["center_x_m"] == pytest.approx(2.5e-8)
        assert file.attrs["comments"] == "network by the pytorch backend, sub-pixel shifts bilinear."


def test_flags_win_over_the_file(golden: Path, tmp_path: Path, command: Command) -> None:
    """Twice the distance makes the object pixel of the file's detector twice as large."""
    command(golden / "scan.cxi", golden / "product.h5", tmp_path / "a.npz", "--distance-m", 1.6)
    assert registry.read(tmp_path / "a.npz").distance_m == 1.6
    command(golden / "scan.ptyd", tmp_path / "a.cxi", "--distance-m", 1.6)
    assert completed(registry.read(tmp_path / "a.cxi")).object_pixel_m == pytest.approx(2e-7, rel=1e-9)
    command(golden / "scan.ptyd", tmp_path / "b.cxi", "--object-pixel-nm", 50)
    assert registry.read(tmp_path / "b.cxi").detector_pixel_m == pytest.approx(2e-4, rel=1e-9)


def test_units_and_signs_can_be_told(golden: Path, tmp_path: Path, command: Command) -> None:
    geometry = ("--energy-keV", 10, "--distance-m", 1, "--detector-pixel-um", 100)
    command(golden / "legacy.npz", tmp_path / "a.cxi", "--units", "counts", *geometry)
    written = registry.read(tmp_path / "a.cxi").patterns
    kept = registry.read(golden / "legacy.npz").patterns
    assert written is not None
    assert kept is not None
    np.testing.assert_array_equal(written.read(np.arange(4)), kept.read(np.arange(4)))
    command(golden / "scan.ptyd", tmp_path / "a.ptyd", "--flip", "xy")
    turned, before = registry.read(tmp_path / "a.ptyd"), registry.read(golden / "scan.ptyd")
    np.testing.assert_array_equal(turned.xcoords, -before.xcoords)  # type: ignore[operator,arg-type]
    np.testing.assert_array_equal(turned.ycoords, -before.ycoords)  # type: ignore[operator,arg-type]


def test_older_scans_with_their_geometry_and_start_positions_only(tmp_path: Path, command: Command) -> None:
    """Positions within a thousandth are metres."""
    np.savez(
        tmp_path / "old.npz",
        diffraction=np.ones((8, 8, 3), np.int32),
        xcoords_start=np.array([0.0, 1e-6, 2e-6]),
        ycoords_start=np.array([0.0, 0.0, 3e-6]),
        probeGuess=np.ones((8, 8), complex),
        photon_energy_eV=12398.4198433,
        detector_distance_m=0.8,
        detector_pixel_size_m=1e-4,
    )
    assert command(tmp_path / "old.npz", tmp_path / "new.npz") == 0
    found = registry.read(tmp_path / "new.npz")
    np.testing.assert_allclose(found.xcoords, [4, 14, 24], atol=1e-6)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.ycoords, [4, 4, 34], atol=1e-6)  # type: ignore[arg-type]


def test_unknown_files_are_told_with_what_is_in_them(tmp_path: Path, command: Command) -> None:
    known = "scan NPZ, reconstruction NPZ, ptychodus product NPZ, ptychodus product, .*ptypy data, .*CXI"
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["measurement/images"] = np.ones(3)
        file["speed"] = 4
    with pytest.raises(DataError, match=f"a.h5: expected one of {known}.* HDF5 file with measurement/images, speed"):
        command(tmp_path / "a.h5", tmp_path / "out.npz")
    np.savez(tmp_path / "b.npz", images=np.ones(3), places=np.ones(3))
    with pytest.raises(DataError, match=f"b.npz: expected one of {known}.* NPZ archive with images, places"):
        command(tmp_path / "b.npz", tmp_path / "out.npz")
    for content, found in (
        (b"", "an empty file"),
        (b"hello", "begins with b'hell'"),
        (b"II*\0", "c: expected a whole TIFF file"),
    ):
        (tmp_path / "c").write_bytes(content)
        with pytest.raises(DataError, match=found):
            command(tmp_path / "c", tmp_path / "out.npz")
    with pytest.raises(MissingFileError, match=r"gone\.h5: expected a file to read"):
        command(tmp_path / "gone.h5", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("name", ["product.h5", "legacy.npz", "scan.cxi"])
def test_a_truncated_file_is_named(name: str, golden: Path, tmp_path: Path, command: Command) -> None:
    whole = (golden / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"{re.escape(name)}: expected a whole"):
        command(tmp_path / name, tmp_path / "out.npz")


def test_errors_are_one_line_and_name_the_file(golden: Path, tmp_path: Path, command: Command) -> None:
    path = tmp_path / "scan.cxi"
    path.write_bytes((golden / "scan.cxi").read_bytes())
    with h5py.File(path, "r+") as file:
        file["entry_1/instrument_1/detector_1/y_pixel_size"][()] = 2e-4
    with pytest.raises(DataError, match=r"scan\.cxi: detector: expected square pixels") as error:
        command(path, tmp_path / "out.npz")
    assert "\n" not in str(error.value)
    with h5py.File(path, "r+") as file:
        file["entry_1/instrument_1/detector_1/y_pixel_size"][()] = 1e-4
        file["entry_1/instrument_1/source_1/energy"][()] = 8000.0
    with pytest.raises(DataError, match="without one; give --energy-keV"):
        command(path, tmp_path / "out.npz")


@pytest.mark.parametrize(
    ("output", "flags", "message"),
    [
        ("a.h5", (), "expected --to with .h5.*ptychodus-product, ptychodus-training, ptychodus-diffraction"),
        ("a.xyz", (), r"expected a suffix of a known format \(.cxi, .h5.*found '.xyz'; or say --to FORMAT"),
        ("a.npz", ("--to", "matlab"), "--to: expected one of scan, .*found 'matlab'"),
        ("a.npz", ("--to", "nxdata"), "--to: expected one of scan, .*found 'nxdata'"),
    ],
)
def test_the_format_to_write(output: str, flags: tuple[str, ...], message: str, golden: Path, command: Command) -> None:
    with pytest.raises(ConfigError, match=message):
        command(golden / "scan.cxi", output, *flags)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "x"])
def test_a_geometry_is_positive(value: str, command: Command) -> None:
    with pytest.raises(argparse.ArgumentError, match="expected a number above 0"):
        command("a", "b", "--energy-keV", value)


def test_the_specification_lists_every_format_and_flag() -> None:
    text = (Path(__file__).parents[3] / "specs" / "formats.md").read_text(encoding="utf-8")
    section = text.split("## 1.")[1].split("| flag |")[0]
    rows = re.findall(r"^\| `([\w-]+)` \|", section, flags=re.MULTILINE)
    assert rows == [entry.name for entry in FORMATS]
    parser = argparse.ArgumentParser(add_help=False)
    convert.add_arguments(parser)
    for flag in (flag for action in parser._actions for flag in action.option_strings):
        assert f"`{flag}`" in text, flag
