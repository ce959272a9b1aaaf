"""A scan put together of its parts is the scan that it was taken apart from."""

import logging
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.core.formats import registry
from ptycho.core.formats.assembled import ScanParts, assembled
from ptycho.core.formats.position_table import positions_at
from ptycho.core.formats.record import ScanRecord, completed, in_metres, in_pixels
from ptycho.core.physics.resample import resampled_probe
from ptycho.core.scan.stream import Frames
from ptycho.errors import ConfigError, DataError

SET_UP = {"energy_eV": 12398.419843320026, "distance_m": 0.8, "detector_pixel_m": 1e-4}
"""An object pixel of 1e-7 m for 8 pixels a side."""


@pytest.fixture
def parts(full: ScanRecord, tmp_path: Path) -> ScanParts:
    """Frames as NPY, positions in um as text, mask and probe as NPY."""
    assert full.patterns is not None
    assert full.probe is not None
    metres = in_metres(full, "test")
    np.save(tmp_path / "frames.npy", full.patterns.whole())
    np.save(tmp_path / "mask.npy", full.mask)
    np.save(tmp_path / "probe.npy", full.probe)
    table = np.c_[metres.ycoords, metres.xcoords] * 1e6  # type: ignore[index]
    np.savetxt(tmp_path / "pos.csv", table, delimiter=",", header="y,x", comments="", fmt="%.12g")
    return ScanParts(
        patterns=str(tmp_path / "frames.npy"),
        positions=str(tmp_path / "pos.csv"),
        position_unit="um",
        mask=str(tmp_path / "mask.npy"),
        probe=str(tmp_path / "probe.npy"),
        **SET_UP,  # type: ignore[arg-type]
    )


def test_the_parts_are_the_scan(parts: ScanParts, full: ScanRecord) -> None:
    found = completed(assembled(parts))
    assert found.patterns is not None
    np.testing.assert_array_equal(found.patterns.whole(), full.patterns.whole())  # type: ignore[union-attr]
    np.testing.assert_array_equal(found.mask, full.mask)
    np.testing.assert_array_equal(found.probe, full.probe)
    assert found.units == "counts"
    assert found.object_pixel_m == pytest.approx(1e-7)
    there = in_metres(full, "test")
    np.testing.assert_allclose(found.xcoords, there.xcoords, rtol=1e-11)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.ycoords, there.ycoords, rtol=1e-11)  # type: ignore[arg-type]


@pytest.mark.parametrize(("unit", "factor"), [("m", 1e6), ("mm", 1e3), ("nm", 1e-3)])
def test_units(unit: str, factor: float, parts: ScanParts) -> None:
    other = assembled(replace(parts, position_unit=unit))  # type: ignore[arg-type]
    np.testing.assert_allclose(other.xcoords, factor * assembled(parts).xcoords)  # type: ignore[operator,arg-type]


def test_pixels_and_no_unit(parts: ScanParts) -> None:
    found = assembled(replace(parts, position_unit="px"))
    assert found.position_unit == "px"
    assert found.xcoords is not None
    assert found.xcoords[1] == pytest.approx((13.5 + 30.5) * 0.1)
    with pytest.raises(
        DataError, match=r"pos\.csv: expected .* a unit, found x 3\.45 to 4\.4 and y .* say which: --unit"
    ):
        assembled(replace(parts, position_unit=None))


def test_positions_that_cannot_be_metres_are_asked_for(parts: ScanParts) -> None:
    """Before anything of their size is made."""
    with pytest.raises(
        DataError, match=r"positions span 0\.95 x 1\.3, taken for m: 1\.3e\+07 object pixels of 1e-07 m"
    ):
        in_pixels(assembled(replace(parts, position_unit="m")), "test")


def test_numbers_that_differ_are_named_and_joined_by_frame(
    parts: ScanParts, full: ScanRecord, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """7 positions, of which 2 have no frame, and frame 3 has no position."""
    rows = "".join(f"{frame},{frame}.5,{-frame}\n" for frame in (9, 4, 0, 1, 2, 8))
    (tmp_path / "pos.csv").write_text(f"frame,x,y\n{rows}")
    with pytest.raises(
        DataError,
        match=r"found 5 and 6: position 5 \(counted from 0\) without a pattern; leave out .* or name the frame",
    ):
        assembled(parts)
    with caplog.at_level(logging.WARNING):
        found = assembled(replace(parts, positions=f"{tmp_path / 'pos.csv'}:x,y,frame"))
    assert found.patterns is not None
    assert found.indexes is not None
    assert found.indexes.tolist() == [0, 1, 2, 4]
    np.testing.assert_array_equal(found.patterns.whole(), full.patterns.whole()[[0, 1, 2, 4]])  # type: ignore[union-attr]
    np.testing.assert_allclose(found.xcoords, 1e-6 * np.array([0.5, 1.5, 2.5, 4.5]))  # type: ignore[arg-type]
    assert "patterns without a position are left out: 3" in caplog.text
    assert "positions without a pattern are left out: 8, 9" in caplog.text


def test_parts_win_over_a_file(golden: Path, parts: ScanParts, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "four.txt", [[1, 5], [2, 6], [3, 7], [4, 8]])
    there = registry.read(golden / "scan.cxi")
    found = assembled(ScanParts(files=(golden / "scan.cxi",), positions=str(tmp_path / "four.txt"), position_unit="um"))
    assert found.energy_eV == there.energy_eV
    np.testing.assert_allclose(found.xcoords, [1e-6, 2e-6, 3e-6, 4e-6])  # type: ignore[arg-type]
    probe = assembled(ScanParts(files=(golden / "scan.ptyd",), probe=str(golden / "product.h5"))).probe
    np.testing.assert_array_equal(probe, registry.read(golden / "product.h5").probe)
    lent = assembled(
        ScanParts(patterns=str(golden / "scan.cxi"), positions=str(tmp_path / "four.txt"), position_unit="px")
    )
    assert lent.distance_m == there.distance_m
    assert lent.position_unit == "px"


def test_signs_and_turns(parts: ScanParts) -> None:
    plain = assembled(parts)
    assert plain.xcoords is not None
    assert plain.ycoords is not None
    found = assembled(replace(parts, flip="y", rotation_deg=90))
    # x to -x; then x towards y: (x, y) to (-y, x)
    np.testing.assert_allclose(found.xcoords, plain.ycoords, atol=1e-20)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.ycoords, plain.xcoords, atol=1e-20)  # type: ignore[arg-type]
    turned = assembled(replace(parts, position_unit="px", rotation_deg=30))
    assert turned.xcoords is not None
    assert turned.ycoords is not None
    assert turned.xcoords.min() >= 4  # in a frame that holds every patch
    angle = np.arctan2(np.diff(turned.ycoords), np.diff(turned.xcoords))
    before = np.arctan2(np.diff(plain.ycoords), np.diff(plain.xcoords))
    np.testing.assert_allclose(np.mod(angle - before, 2 * np.pi), np.pi / 6, atol=1e-6)


def test_electrons(parts: ScanParts) -> None:
    """1.9687 pm at 300 keV: an object pixel of 1.9687e-12 * 0.1 / (8 * 1e-4) m."""
    found = completed(assembled(replace(parts, energy_eV=300e3, distance_m=0.1, particle="electron")))
    assert found.object_pixel_m == pytest.approx(1.9687489e-12 * 0.1 / (8 * 1e-4), rel=1e-7)


@pytest.mark.parametrize("name", ["scan.npz", "scan.cxi", "scan.nxs", "scan.ptyd"])
def test_electrons_keep_their_wavelength_in_every_format(name: str, parts: ScanParts, tmp_path: Path) -> None:
    record = completed(assembled(replace(parts, energy_eV=300e3, distance_m=0.1, particle="electron")))
    registry.write(tmp_path / name, record)
    back = registry.read(tmp_path / name)
    assert completed(replace(back, object_pixel_m=None)).object_pixel_m == pytest.approx(record.object_pixel_m)
    assert back.particle == (None if name == "scan.ptyd" else "electron")


def test_masks(parts: ScanParts, full: ScanRecord, tmp_path: Path) -> None:
    """Of two values the usual one is valid; of more 0 is; all alike is no mask."""
    assert full.mask is not None
    flags = np.where(full.mask, 0, 4).astype(np.uint32)
    more = flags.copy()
    more[0, 0] = 1
    for stored, bad in ((~full.mask, 1), (full.mask.astype(float), 1), (flags, 1), (more, 2), (np.ones((8, 8)), 0)):
        np.save(tmp_path / "mask.npy", stored)
        found = assembled(parts).mask
        assert (0 if found is None else (~found).sum()) == bad
    with h5py.File(tmp_path / "mask.h5", "w") as file:
        file["entry/pixel_mask"] = flags
    np.testing.assert_array_equal(assembled(replace(parts, mask=str(tmp_path / "mask.h5"))).mask, full.mask)


def test_nothing_to_read(parts: ScanParts) -> None:
    with pytest.raises(ConfigError, match="expected a scan, found no file; name one, or --patterns"):
        assembled(replace(parts, patterns=None))
    np.save(str(parts.probe), np.ones((5, 8), complex))
    with pytest.raises(DataError, match=r"probe: expected shape \(modes, 8, 8\), found \(1, 5, 8\)"):
        assembled(parts)


@pytest.mark.parametrize("side", [6, 11])
def test_a_probe_of_another_size_is_brought_to_the_patterns(
    side: int, parts: ScanParts, full: ScanRecord, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In one file with the positions it is in their pixels, cropped or padded; else it is taken for the same window."""
    own = np.zeros((side, side), np.complex64)
    own[side // 2 - 1 : side // 2 + 2, side // 2] = [1, 3j, 2]
    right = np.zeros((8, 8), np.complex64)
    right[3:6, 4] = [1, 3j, 2]
    registry.write(tmp_path / "scan.npz", in_pixels(full, "test"))
    arrays = {**np.load(tmp_path / "scan.npz"), "probeGuess": own}
    np.savez(tmp_path / "scan.npz", **arrays)
    with pytest.raises(DataError, match=r"found \(1, (6, 6|11, 11)\); .*: ptycho convert .*scan\.npz fitted\.npz"):
        registry.read(tmp_path / "scan.npz")
    found = assembled(ScanParts(files=(tmp_path / "scan.npz",))).probe
    np.testing.assert_allclose(found, right[None], atol=1e-6)  # type: ignore[arg-type]
    assert f"probe: {side} to 8 pixels a side, of the same pixels" in caplog.text
    np.save(tmp_path / "own.npy", own)
    made = assembled(replace(parts, probe=str(tmp_path / "own.npy"))).probe
    np.testing.assert_allclose(made, resampled_probe(own, side / 8, 8)[None])  # type: ignore[arg-type]


def test_one_file_with_more_patterns_than_positions_takes_a_table(
    parts: ScanParts, full: ScanRecord, tmp_path: Path
) -> None:
    registry.write(tmp_path / "scan.npz", in_pixels(full, "test"))
    arrays = dict(np.load(tmp_path / "scan.npz"))
    np.savez(tmp_path / "scan.npz", **{**arrays, "xcoords": np.zeros(1), "ycoords": np.zeros(1)})
    scan = ScanParts((tmp_path / "scan.npz",), positions=parts.positions, position_unit="um")
    assert assembled(scan).count == full.count


def test_the_set_up_of_another_scan_without_its_points(parts: ScanParts, full: ScanRecord, tmp_path: Path) -> None:
    """Fewer points, an object: neither is taken; what is said beside it wins."""
    other = assembled(parts)
    assert other.xcoords is not None and other.ycoords is not None and other.patterns is not None
    few = replace(
        other, patterns=other.patterns.take(np.arange(3)), xcoords=other.xcoords[:3], ycoords=other.ycoords[:3]
    )
    few = replace(few, object=np.ones((40, 40), np.complex64), metadata={"name": "of Monday"})
    registry.write(tmp_path / "like.npz", in_pixels(replace(few, object=None), "test"))
    assert parts.patterns is not None and isinstance(parts.patterns, str)
    bare = ScanParts(patterns=parts.patterns, positions=parts.positions, position_unit="um", like=tmp_path / "like.npz")
    found = assembled(bare)
    np.testing.assert_array_equal(found.probe, full.probe)
    np.testing.assert_array_equal(found.mask, full.mask)
    assert found.energy_eV == other.energy_eV and found.object is None and found.metadata["name"] == "of Monday"
    np.testing.assert_array_equal(found.xcoords, other.xcoords)
    given = assembled(replace(bare, distance_m=1.6))
    assert completed(given).object_pixel_m == pytest.approx(2e-7)


def test_patterns_and_positions_themselves(parts: ScanParts) -> None:
    expected = assembled(parts)
    assert expected.patterns is not None and isinstance(parts.positions, str)
    held = replace(parts, patterns=Frames.of(expected.patterns.whole()), positions=positions_at(parts.positions))
    found = assembled(held)
    assert found.patterns is not None
    np.testing.assert_array_equal(found.patterns.whole(), expected.patterns.whole())
    np.testing.assert_array_equal(found.xcoords, expected.xcoords)
