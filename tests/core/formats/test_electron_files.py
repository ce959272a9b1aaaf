"""Files of electron microscopes: Merlin frames, and what rosettasciio itself writes."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.core.formats import registry
from ptycho.core.formats.electron_files import _object_pixel
from ptycho.core.units import wavelength_m
from ptycho.errors import DataError

STACK = np.arange(2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


@pytest.fixture
def rsciio() -> None:
    pytest.importorskip("rsciio")


def write_mib(path: Path, stack: np.ndarray) -> None:
    """Frames of a single Medipix chip, 16 bits, each behind its header of 384 bytes."""
    _, rows, columns = stack.shape
    with path.open("wb") as stream:
        for number, frame in enumerate(stack.astype(">u2"), 1):
            fields = (
                f"MQ1,{number:06d},00384,01,{columns:04d},{rows:04d},U16,   1x1,01,2026-01-01 00:00:00.0,0.001,0,0,"
            )
            fields += "2026-01-01T00:00:00.000000Z,1000000ns,12,"
            stream.write(fields.ljust(384, " ").encode())
            stream.write(frame.tobytes())


def test_merlin_frames(rsciio: None, tmp_path: Path) -> None:
    write_mib(tmp_path / "scan.mib", STACK.reshape(6, 8, 8))
    assert registry.recognise(tmp_path / "scan.mib").name == "electron"
    record = registry.read(tmp_path / "scan.mib")
    assert record.patterns is not None
    assert record.patterns.dtype.isnative
    assert (record.particle, record.units, record.xcoords) == ("electron", "counts", None)
    # each frame once, rows perhaps from the other end, as the library turns this detector
    found = record.patterns.whole()
    assert found.shape == (6, 8, 8)
    np.testing.assert_array_equal(np.sort(found.reshape(6, -1)), np.sort(STACK.reshape(6, -1)))


def axes(scan_units: str, detector_units: str) -> list[dict[str, object]]:
    """A raster of 2 x 3 steps of 0.5 and 0.25, and a detector of 8 x 8 pixels of 2."""
    steps = {"y": (2, 0.5, scan_units), "x": (3, 0.25, scan_units), "ky": (8, 2.0, detector_units)}
    steps["kx"] = steps["ky"]
    return [
        {"name": name, "size": size, "scale": scale, "offset": 0.0, "units": units, "navigate": number < 2}
        | {"index_in_array": number, "_type": "UniformDataAxis"}
        for number, (name, (size, scale, units)) in enumerate(steps.items())
    ]


def test_emd_with_its_axes(rsciio: None, tmp_path: Path) -> None:
    from rsciio.emd import file_writer

    metadata: dict[str, object] = {"General": {"title": "scan"}, "Signal": {}, "Sample": {}}
    signal = {"data": STACK.astype(np.uint16), "axes": axes("nm", "1/nm"), "metadata": metadata}
    file_writer(tmp_path / "scan.emd", {**signal, "original_metadata": {}, "attributes": {}})
    assert registry.recognise(tmp_path / "scan.emd").name == "emd"
    record = registry.read(tmp_path / "scan.emd")
    assert record.patterns is not None
    np.testing.assert_array_equal(record.patterns.whole(), STACK.reshape(6, 8, 8))
    np.testing.assert_allclose(record.xcoords, 1e-9 * np.array([0, 0.25, 0.5] * 2))  # type: ignore[arg-type]
    np.testing.assert_allclose(record.ycoords, 1e-9 * np.array([0, 0, 0, 0.5, 0.5, 0.5]))  # type: ignore[arg-type]
    assert record.object_pixel_m == pytest.approx(1e-9 / (8 * 2))


@pytest.mark.parametrize("version", [3, 4])
def test_digital_micrograph(rsciio: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "scripts"))
    from fuzz_electron import micrograph

    path = tmp_path / f"scan.dm{version}"
    path.write_bytes(micrograph(STACK.astype(np.uint8), version))
    record = registry.read(path)
    assert record.patterns is not None
    np.testing.assert_array_equal(record.patterns.whole(), STACK.astype(np.uint8).reshape(6, 8, 8))
    np.testing.assert_allclose(record.xcoords, 5e-10 * np.array([0, 1, 2] * 2))  # type: ignore[arg-type]
    assert record.energy_eV == pytest.approx(3e5)
    assert record.object_pixel_m == pytest.approx(1e-9 / (8 * 0.5))


def test_emd_of_other_sizes_or_files(rsciio: None, tmp_path: Path) -> None:
    """A data set of 10^7 chunks, none of which is there, would take the library an hour."""
    path = tmp_path / "scan.emd"
    with h5py.File(path, "w") as file:
        file.attrs["version_major"] = 0
        file.create_dataset("data/scan/dim1", 10**7, "u2", chunks=(1,))
    with pytest.raises(DataError, match=r"scan\.emd: .*dim1: expected its chunks in the file"):
        registry.read(path)
    for link in (h5py.ExternalLink("other.h5", "/a"), None):
        with h5py.File(path, "r+") as file:
            del file["data"]
            if link is None:
                file.create_dataset("data/scan/dim1", 3, "u2", external=[("other", 0, 6)])
            else:
                file["data/scan/dim1"] = link
        with pytest.raises(DataError, match=r"scan\.emd: dim1: expected it in the file itself"):
            registry.read(path)


def test_emd_of_types_that_are_not_read(rsciio: None, tmp_path: Path) -> None:
    """The library reads them as they are; HDF5 falls over some."""
    path = tmp_path / "scan.emd"
    with h5py.File(path, "w") as file:
        file.attrs["version_major"] = 0
        made = file.create_dataset("data/scan/dim1", 3, "u2")
        kind = h5py.h5t.py_create(h5py.vlen_dtype("f8"), logical=True)
        h5py.h5a.create(made.id, b"steps", kind, h5py.h5s.create(h5py.h5s.SCALAR))
    with pytest.raises(DataError, match=r"scan\.emd: .*dim1: attribute steps: expected numbers or text, found a seq"):
        registry.read(path)
    with h5py.File(path, "r+") as file:
        del file["data/scan/dim1"]
        file["data/scan/dim1"] = np.zeros(2, "V3")
    with pytest.raises(DataError, match=r"scan\.emd: .*dim1: expected numbers or text, found opaque bytes"):
        registry.read(path)


def test_object_pixels_of_a_calibrated_detector() -> None:
    for units, expected in (
        ("mrad", wavelength_m(300e3, "electron") / 16e-3),
        ("1/nm", 1e-9 / 16),
        ("nm^-1", 1e-9 / 16),
    ):
        assert _object_pixel(axes("nm", units)[2:], 300e3) == pytest.approx(expected)  # type: ignore[arg-type]
    for units in ("", "px", "nm"):
        assert _object_pixel(axes("nm", units)[2:], 300e3) is None  # type: ignore[arg-type]
    assert _object_pixel(axes("nm", "mrad")[2:], None) is None  # type: ignore[arg-type]


def test_the_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mib(tmp_path / "scan.mib", STACK.reshape(6, 8, 8))
    monkeypatch.setitem(sys.modules, "rsciio.quantumdetector", None)
    with pytest.raises(DataError, match=r"scan\.mib .*expected rosettasciio, .* pip install rosettasciio"):
        registry.read(tmp_path / "scan.mib")
