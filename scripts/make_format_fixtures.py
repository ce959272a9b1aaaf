"""Make the small files that the tests of the formats read, with h5py and NumPy alone, as other programs lay them out.

    python scripts/make_format_fixtures.py [FOLDER]

Writes tests/fixtures/formats: one scan of 4 patterns of 8 x 8 pixels with numbers that can be worked out by hand. The
wavelength is 1e-10 m to nine digits and an object pixel 1e-7 m: 1e-10 m * 0.8 m / (8 * 1e-4 m).
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

FOLDER = Path(__file__).parents[1] / "tests" / "fixtures" / "formats"

N, HEIGHT, WIDTH, PIXEL_M = 8, 12, 15, 1e-7
ENERGY_EV, DISTANCE_M, DETECTOR_PIXEL_M = 12398.4198433, 0.8, 1e-4
ENERGY_J = ENERGY_EV * 1.602176634e-19
X_PX, Y_PX = np.array([4.0, 10.5, 4.25, 11.0]), np.array([4.0, 4.0, 8.0, 7.5])
CENTER_M = (2e-6, -1e-6)
X_M, Y_M = CENTER_M[0] + (X_PX - WIDTH / 2) * PIXEL_M, CENTER_M[1] + (Y_PX - HEIGHT / 2) * PIXEL_M

PATTERNS = (100 * np.arange(4)[:, None, None] + np.arange(N * N).reshape(N, N)).astype(np.uint16)
BAD = np.zeros((N, N), bool)
BAD[2, 5] = True
PROBE = ((1 + np.arange(2 * N * N)) * np.exp(0.1j)).reshape(2, N, N).astype(np.complex64)
OBJECT = (np.linspace(0.5, 1, HEIGHT)[:, None] * np.exp(1j * np.linspace(-1, 1, WIDTH))).astype(np.complex64)

Content = Mapping[str, Any]


def main(folder: Path = FOLDER) -> int:
    """Write every file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content, attributes in (product(), old_product(), diffraction(), training(), cxi(), nexus(), ptyd()):
        write_hdf5(folder / name, content, attributes)
    write_hdf5(folder / "raster.nxs", *raster())
    geometry = {"object_pixel_width_m": PIXEL_M, "object_pixel_height_m": PIXEL_M}
    centre = {"object_center_x_m": CENTER_M[0], "object_center_y_m": CENTER_M[1]}
    arrays = {"probe": PROBE[None], "object": OBJECT[None], "costs": [0.5, 0.25], **positions(), **geometry, **centre}
    np.savez(folder / "product.npz", detector_object_distance_m=DISTANCE_M, photon_energy_eV=ENERGY_EV, **arrays)
    legacy = {"diffraction": np.moveaxis(np.sqrt(PATTERNS), 0, -1), "probeGuess": PROBE[0], "objectGuess": OBJECT}
    np.savez_compressed(folder / "legacy.npz", xcoords=X_PX, ycoords=Y_PX, bad_pixels=BAD, **legacy)
    print(f"{folder}: {sum(path.stat().st_size for path in folder.iterdir())} bytes")
    return 0


def positions() -> dict[str, Any]:
    """Scan positions of a product."""
    return {"probe_position_indexes": np.arange(4), "probe_position_x_m": X_M, "probe_position_y_m": Y_M}


def product() -> tuple[str, Content, Content]:
    """A ptychodus product as version 1.7 writes it."""
    sides = {"pixel_width_m": PIXEL_M, "pixel_height_m": PIXEL_M}
    centre = {"center_x_m": CENTER_M[0], "center_y_m": CENTER_M[1]}
    content = positions() | {
        "probe": (PROBE[None], sides),
        "object": (OBJECT[None], sides | centre),
        "object_layer_spacing_m": np.empty(0),
        "loss_epochs": np.arange(2),
        "loss_values": np.array([0.5, 0.25]),
    }
    attributes = {"name": "star", "comments": "by hand", "exposure_time_s": 0.1, "far_field": True}
    return (
        "product.h5",
        content,
        attributes | {"detector_object_distance_m": DISTANCE_M, "photon_energy_eV": ENERGY_EV},
    )


def old_product() -> tuple[str, Content, Content]:
    """The same in the spelling of version 1.2: another name of the energy, the probe without weights."""
    _, content, attributes = product()
    probe = (PROBE, content["probe"][1])
    attributes = {key: value for key, value in attributes.items() if key != "photon_energy_eV"}
    return "product_1_2.h5", {**content, "probe": probe}, {**attributes, "probe_energy_eV": ENERGY_EV}


def diffraction() -> tuple[str, Content, Content]:
    """A ptychodus diffraction file whose third slot is empty; the index of the last pattern is 3."""
    sides = {"detector_pixel_width_m": DETECTOR_PIXEL_M, "detector_pixel_height_m": DETECTOR_PIXEL_M}
    indexes = np.array([0, 1, -1, 3])
    return "diffraction.h5", {"patterns": (PATTERNS, sides), "indexes": indexes, "bad_pixels": BAD}, {}


def training() -> tuple[str, Content, Content]:
    """Ptychodus training data, positions counted as it counts them: half a pixel less."""
    content = {
        "patterns": PATTERNS,
        "bad_pixels": BAD,
        "probe": PROBE,
        "object": OBJECT,
        "probe_position_x_px": X_PX - 0.5,
        "probe_position_y_px": Y_PX - 0.5,
        "object_pixel_width_m": PIXEL_M,
        "object_pixel_height_m": PIXEL_M,
        "detector_object_distance_m": DISTANCE_M,
        "photon_energy_eV": ENERGY_EV,
    }
    return "training.h5", content, {}


def cxi() -> tuple[str, Content, Content]:
    """A CXI file without a result, translations (3, n), and a detector whose rows run upwards."""
    detector = "entry_1/instrument_1/detector_1"
    content = {
        "cxi_version": 160,
        "entry_1/title": "star",
        "entry_1/instrument_1/source_1/energy": ENERGY_J,
        f"{detector}/data": PATTERNS,
        f"{detector}/distance": DISTANCE_M,
        f"{detector}/x_pixel_size": DETECTOR_PIXEL_M,
        f"{detector}/y_pixel_size": DETECTOR_PIXEL_M,
        f"{detector}/basis_vectors": np.array([[0, DETECTOR_PIXEL_M, 0], [-DETECTOR_PIXEL_M, 0, 0]]),
        f"{detector}/mask": np.where(BAD, 0x4, 0x1000).astype(np.uint32),
        "entry_1/sample_1/geometry_1/translation": np.stack([X_M, -Y_M, np.zeros(4)]),
        "entry_1/data_1/data": h5py.SoftLink(f"/{detector}/data"),
    }
    return "scan.cxi", content, {}


def nexus() -> tuple[str, Content, Content]:
    """NXcxi_ptycho: the energy of the machine in source_1, that of the photons in keV in beam_1, micrometres."""
    detector = "entry_1/instrument_1/detector_1"
    translation = (np.stack([X_M, Y_M, np.zeros(4)], axis=1) * 1e6, {"units": "um"})
    content = {
        "cxi_version": 160,
        "entry_1/definition": "NXcxi_ptycho",
        "entry_1/instrument_1/source_1/energy": (3.0, {"units": "GeV"}),
        "entry_1/instrument_1/beam_1/energy": (ENERGY_EV / 1e3, {"units": "keV"}),
        f"{detector}/data": PATTERNS,
        f"{detector}/distance": (DISTANCE_M * 1e3, {"units": "mm"}),
        f"{detector}/x_pixel_size": (DETECTOR_PIXEL_M * 1e6, {"units": "um"}),
        f"{detector}/y_pixel_size": (DETECTOR_PIXEL_M * 1e6, {"units": "um"}),
        f"{detector}/translation": translation,
        "entry_1/data_1/data": h5py.SoftLink(f"/{detector}/data"),
    }
    return "scan.nxs", content, {"default": "entry_1"}


def raster() -> tuple[Content, Content]:
    """A raw NXdata file of a raster of 2 x 2 points, positions along the axes in millimetres."""
    content = {
        "entry": {"NX_class": "NXentry", "default": "data"},
        "entry/instrument": {"NX_class": "NXinstrument"},
        "entry/instrument/detector": {"NX_class": "NXdetector"},
        "entry/instrument/detector/distance": (DISTANCE_M * 1e3, {"units": "mm"}),
        "entry/instrument/detector/x_pixel_size": (DETECTOR_PIXEL_M, {"units": "m"}),
        "entry/instrument/detector/y_pixel_size": (DETECTOR_PIXEL_M, {"units": "m"}),
        "entry/instrument/beam": {"NX_class": "NXbeam"},
        "entry/instrument/beam/incident_energy": (ENERGY_EV, {"units": "eV"}),
        "entry/data": {"NX_class": "NXdata", "signal": "frames", "axes": ["stage_y", "stage_x", ".", "."]},
        "entry/data/frames": PATTERNS.reshape(2, 2, N, N),
        "entry/data/stage_x": (np.array([1e-3, 2e-3]), {"units": "mm"}),
        "entry/data/stage_y": (np.array([5e-3, 7e-3]), {"units": "mm"}),
    }
    return content, {"NX_class": "NXroot", "default": "entry"}


def ptyd() -> tuple[str, Content, Content]:
    """Ptypy data in two chunks of unequal length, positions (y, x), the mask as a common weight."""
    content: dict[str, Any] = {
        "meta/energy": (ENERGY_EV / 1e3, {"type": "scalar"}),
        "meta/distance": (DISTANCE_M, {"type": "scalar"}),
        "meta/psize": (np.array([DETECTOR_PIXEL_M] * 2), {"type": "array"}),
        "meta/label": (np.zeros(1), {"type": "None"}),
        "meta/weight2d": ((~BAD).astype(float), {"type": "array"}),
        "info/dfile": ("scan.ptyd", {"type": "string"}),
    }
    for number, part in enumerate((slice(0, 3), slice(3, 4))):
        content |= {
            f"chunks/{number}/data": (PATTERNS[part].astype(np.float32), {"type": "array"}),
            f"chunks/{number}/indices": (np.arange(4)[part], {"type": "arraylist"}),
            f"chunks/{number}/positions": (np.stack([Y_M, X_M], axis=1)[part], {"type": "array"}),
            f"chunks/{number}/weights": (np.empty(0), {"type": "array"}),
        }
    return "scan.ptyd", content, {"h5rw_version": "0.1"}


def write_hdf5(path: Path, content: Content, attributes: Content) -> None:
    """Write data sets by path: a value, a value with its attributes, a link, or the attributes of a group."""
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        for name, value in content.items():
            if isinstance(value, Mapping):
                file.require_group(name).attrs.update(value)
            elif isinstance(value, h5py.SoftLink):
                file[name] = value
            else:
                data, told = value if isinstance(value, tuple) else (value, {})
                file.create_dataset(name, data=data, track_times=False).attrs.update(told)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
