"""TIFF files open in another program with the right numbers and lengths."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from ptycho.core.formats import registry
from ptycho.core.formats.record import ScanRecord
from ptycho.core.formats.tiff import tiff_paths
from ptycho.errors import DataError


def test_amplitude_and_phase_with_the_size_of_a_pixel(full: ScanRecord, tmp_path: Path) -> None:
    registry.write(tmp_path / "star.tif", full)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["star_amplitude.tif", "star_phase.tif"]
    assert full.object is not None
    expected = (np.abs(full.object), np.angle(full.object))
    for path, image, name in zip(tiff_paths(tmp_path / "star.tif"), expected, ("amplitude", "phase"), strict=True):
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            np.testing.assert_array_equal(page.asarray(), image)
            numerator, denominator = page.tags["XResolution"].value
            # 1e-7 m is 1e-5 cm
            assert numerator / denominator == pytest.approx(1e5, rel=1e-12)
            assert page.tags["YResolution"].value == (numerator, denominator)
            assert page.tags["ResolutionUnit"].value == 3
            assert file.is_ome
            told = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
            assert told["PhysicalSizeX"] == pytest.approx(100)
            assert told["PhysicalSizeYUnit"] == "nm"
            assert told["Channel"]["Name"] == name


def test_odd_pixel_sizes_are_kept_to_nine_digits(full: ScanRecord, tmp_path: Path) -> None:
    for pixel in (4.843132751e-8, 1.25e-10, 3e-3):
        record = replace(full, object_pixel_m=pixel, energy_eV=None)
        registry.write(tmp_path / "a.tiff", record)
        with tifffile.TiffFile(tmp_path / "a_phase.tiff") as file:
            numerator, denominator = file.pages[0].tags["XResolution"].value
        assert 0.01 * denominator / numerator == pytest.approx(pixel, rel=1e-6)


def test_without_a_pixel_size_the_flag_is_named(full: ScanRecord, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"TIFF file needs the size of an object pixel.*--object-pixel-nm"):
        registry.write(tmp_path / "a.tif", replace(full, object_pixel_m=None, energy_eV=None))
    assert list(tmp_path.iterdir()) == []


def test_name_and_provenance_travel(full: ScanRecord, tmp_path: Path) -> None:
    told = {"name": 'grün "a" <&>', "comments": "iterated", "provenance": {"version": "1", "scan": {"sha256": "ab"}}}
    registry.write(tmp_path / "a.tif", replace(full, metadata=told))
    for path in tiff_paths(tmp_path / "a.tif"):
        with tifffile.TiffFile(path) as file:
            assert file.ome_metadata is not None
            file.ome_metadata.encode("ascii")
            image = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        assert image["Name"] == told["name"]
        assert json.loads(image["Description"]) == {key: told[key] for key in ("comments", "provenance")}
