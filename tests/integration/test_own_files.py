"""What is written here is faultless to the doctor, in every format that holds a scan, and counts stay whole."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.doctor.preflight import preflight
from ptycho.core.formats import registry
from ptycho.core.formats.catalogue import FORMATS
from ptycho.core.formats.merging import merged
from ptycho.core.formats.opening import open_record, open_scan
from ptycho.core.formats.record import ScanRecord, completed
from ptycho.core.scan.npz_file import write_scan
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import ScanStream, write_stream
from ptycho.core.scan_edit.detector import bin_detector, crop_detector, mask_pixels, recentre
from ptycho.core.scan_edit.points import change_dtype, subsample
from ptycho.core.simulation.plan import make_scan

GEOMETRY = {"energy_eV": 8000.0, "distance_m": 2.0, "detector_pixel_m": 75e-6}
HALVES = {"ptychodus-diffraction": "ptychodus-product", "ptyd": "ptychodus-product"}
"""Formats without a probe, or without positions, and one that has the rest."""


@pytest.fixture(scope="module", params=["counts", "amplitude"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_scan("lines", 110, 48, 8, 1, 1e5, 3)
    patterns = np.rint(np.square(made.diffraction)).astype(np.uint16)
    if request.param == "amplitude":
        patterns = np.sqrt(patterns).astype(np.float32)
    path = tmp_path_factory.mktemp(request.param) / "scan.npz"
    fields = ScanFile(patterns, made.xcoords, made.ycoords, made.probe, objectGuess=made.object, units=request.param)
    write_scan(path, fields)
    return path


def assert_faultless(stream: ScanStream) -> None:
    found = preflight(stream)
    assert found.healthy, str(found)
    assert stream.fields.units is None or found.named("units").numbers["declared"] == stream.fields.units
    values = stream.frames.read(np.arange(len(stream.frames)))
    counts = values if stream.fields.units == "counts" else np.square(values, dtype=np.float64)
    assert np.abs(counts - np.rint(counts)).max() < 1e-3 and counts.max() > 20
    if stream.fields.units == "counts":
        assert (values == np.rint(values)).all()


@pytest.mark.parametrize("entry", [entry for entry in FORMATS if entry.writes], ids=lambda entry: entry.name)
def test_every_format(entry, written: Path, tmp_path: Path) -> None:
    record = completed(replace(registry.read(written), **GEOMETRY))
    path = tmp_path / f"out{entry.suffixes[0]}"
    registry.write(path, record, entry.name)
    if not path.exists():
        pytest.skip("pictures of an object")
    back: ScanRecord = registry.read(path)
    if back.patterns is None:
        pytest.skip("no patterns in this format")
    if entry.name in HALVES:
        other = tmp_path / "other.h5"
        registry.write(other, record, HALVES[entry.name])
        back = merged(back, registry.read(other))
    assert_faultless(open_record(back, path))


@pytest.mark.parametrize(
    "edit",
    [
        lambda stream: subsample(stream, len(stream.frames) - 2),
        lambda stream: crop_detector(stream, 40),
        lambda stream: recentre(stream, 1, -1),
        lambda stream: mask_pixels(stream, np.eye(48, dtype=bool)),
        lambda stream: bin_detector(stream, 1, stream.fields.units),
        lambda stream: change_dtype(stream, np.float32),
    ],
    ids=["subsample", "crop", "recentre", "mask", "bin", "dtype"],
)
def test_every_edit(edit, written: Path, tmp_path: Path) -> None:
    write_stream(tmp_path / "made.npz", edit(open_scan(written)))
    assert_faultless(open_scan(tmp_path / "made.npz"))
