"""A scan as every format knows it: patterns, positions, probe, object and the geometry of the set-up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptycho.core.geometry import object_frame, pixel_positions
from ptycho.core.physics.near_field import NearField, fresnel_number
from ptycho.core.scaling import Units, to_amplitude
from ptycho.core.scan.scan import check_paired, check_probe_shape
from ptycho.core.scan.stream import Frames
from ptycho.core.unit_decision import decide_units
from ptycho.core.units import Particle, object_pixel_size_m, same_wavelength_eV, wavelength_m
from ptycho.errors import DataError

__all__ = [
    "FLAGS",
    "ScanRecord",
    "as_photons",
    "check_record",
    "completed",
    "in_counts",
    "in_metres",
    "in_pixels",
    "moved",
    "required",
    "resolved_units",
]

Array = NDArray[Any]

FLAGS = {
    "energy_eV": ("the energy of the beam", "--energy-keV"),
    "distance_m": ("the distance from sample to detector", "--distance-m"),
    "detector_pixel_m": ("the size of a detector pixel", "--detector-pixel-um"),
    "object_pixel_m": ("the size of an object pixel", "--object-pixel-nm"),
    "units": ("the units of the patterns", "--units"),
}
"""Fields that the command line can give: what they are, and the flag."""

_PARTS = {
    "patterns": "diffraction patterns",
    "xcoords": "scan positions",
    "probe": "a probe",
    "object": "an object",
}
_TOLERANCE = 0.01
_SAMPLE_FRAMES = 32
_LARGEST = 200_000
"""Object pixels that no scan spans."""


_WHOLE = 1e-6
"""Relative distance from a whole number, as of a square of a root in float32."""


@dataclass(frozen=True)
class ScanRecord:
    """What one or several files say of a scan; what they leave out is None.

    n is the number of scan points, of patterns as of positions where `check_record` passes; N is the longer side of a
    pattern. Images are indexed [y, x], x and y grow with columns and rows. Position x, y is the centre of its patch, as
    everywhere here: its first pixel is x - N/2.

    Raises:
        DataError: parts that do not fit together.
    """

    patterns: Frames | None = None
    """(n, N, N), zero frequency at [N/2, N/2]; of a detector that is not square (n, H, W), at [H/2, W/2]."""
    units: Units | None = None
    """Of the patterns; None where nobody said."""
    xcoords: NDArray[np.float64] | None = None
    ycoords: NDArray[np.float64] | None = None
    position_unit: Literal["px", "m"] = "px"
    """Pixels of `object`, or metres; also of `xcoords_start` and `ycoords_start`."""
    indexes: NDArray[np.int64] | None = None
    """(n,) what patterns and positions of different files are paired by; None is 0 .. n-1."""
    probe: Array | None = None
    """(M, N, N) complex, centred at index N/2."""
    object: Array | None = None
    """(H, W) complex."""
    origin_px: tuple[float, float] | None = None
    """(x, y) of the first corner of `object` in metres over pixel size: x_m = (x_px + origin) pixel; None is 0."""
    mask: NDArray[np.bool_] | None = None
    """(rows, columns) or (n, rows, columns), True where the detector pixel is valid."""
    energy_eV: float | None = None
    """Of a photon, or the kinetic energy of an electron."""
    particle: Particle | None = None
    """What the beam is made of; None where nobody said, which is photons."""
    distance_m: float | None = None
    detector_pixel_m: float | None = None
    object_pixel_m: float | None = None
    near_field: bool = False
    """Whether the patterns are of the near field (`ptycho.core.physics.near_field`)."""
    magnification: float | None = None
    """Of the shadow that the sample throws in near field, where that is not known from the pixels; 1 without a cone."""
    xcoords_start: NDArray[np.float64] | None = None
    ycoords_start: NDArray[np.float64] | None = None
    scan_index: Array | None = None
    true_patches: Frames | None = None
    """(n, N, N) complex; `Y` of a scan NPZ."""
    losses: tuple[float, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    """Plain JSON values, among them `name`, `comments` and `nphotons`."""

    def __post_init__(self) -> None:
        n, N = self.count, self.side
        frames = n if self.patterns is None else len(self.patterns)
        for name in ("xcoords", "ycoords", "xcoords_start", "ycoords_start", "scan_index", "indexes"):
            array = getattr(self, name)
            if array is not None and array.shape not in ((n,), (frames if name == "indexes" else n,)):
                raise DataError(f"{name}: expected one number per pattern or position, ({n},), found {array.shape}")
        if self.true_patches is not None and self.true_patches.shape != (frames, N, N):
            raise DataError(f"Y: expected shape ({frames}, {N}, {N}), found {self.true_patches.shape}")
        if self.probe is not None and (self.probe.ndim != 3 or self.probe.shape[1] != self.probe.shape[2]):
            raise DataError(f"probe: expected shape (modes, {N}, {N}), found {self.probe.shape}; crop or pad it")
        if self.object is not None and self.object.ndim != 2:
            raise DataError(f"object: expected one image (H, W), found shape {self.object.shape}")
        height, width = (N, N) if self.patterns is None else self.patterns.shape[1:]
        if (
            self.mask is not None
            and N is not None
            and self.mask.shape not in ((height, width), (frames, height, width))
        ):
            expected = f"({height}, {width}) or ({frames}, {height}, {width})"
            raise DataError(f"mask: expected shape {expected}, found {self.mask.shape}; correct it")

    @property
    def count(self) -> int | None:
        """Number of scan points n, None where there are neither positions nor patterns."""
        if self.xcoords is not None:
            return int(self.xcoords.size)
        return None if self.patterns is None else len(self.patterns)

    @property
    def side(self) -> int | None:
        """Side N of a pattern, the longer one, or of the probe; None where there is neither.

        What belongs to object pixels (positions, probe, object) belongs to a detector of N x N pixels.
        """
        if self.patterns is not None:
            return max(self.patterns.shape[1:])
        return None if self.probe is None else int(self.probe.shape[-1])


def check_record(record: ScanRecord, name: str | None = None) -> ScanRecord:
    """The record, which has as many patterns as positions, and a probe of their size; `name` is that of its file.

    Raises:
        DataError: other numbers, or another size.
    """
    if record.patterns is not None and record.count is not None:
        check_paired(len(record.patterns), record.count, name)
    if record.probe is not None and record.side is not None:
        check_probe_shape(record.probe, record.side, record.side, name)
    return record


def required(record: ScanRecord, title: str, *names: str) -> ScanRecord:
    """Return `record`, completed, or raise a DataError that names what the format `title` needs and lacks."""
    record = completed(record)
    for name in names:
        if getattr(record, name) is not None:
            continue
        if name in FLAGS:
            what, flag = FLAGS[name]
            raise DataError(f"a {title} file needs {what}, expected {name}, found none in the input; give {flag}")
        raise DataError(
            f"a {title} file needs {_PARTS[name]}, found none in the input; name a further input file that has it"
        )
    return record


def completed(record: ScanRecord) -> ScanRecord:
    """Fill in the fourth of energy, distance, detector pixel and object pixel where three are known (far field).

    In near field the object pixel is that of the detector over the magnification, and `metadata` says how waves go.

    Raises:
        DataError: all four are known and disagree by more than 1 %, or patterns of the near field without a geometry.
    """
    if record.near_field:
        return _completed_near(record)
    energy, distance, N = record.energy_eV, record.distance_m, record.side
    if energy is None or distance is None or N is None:
        return record
    detector, pixel, particle = record.detector_pixel_m, record.object_pixel_m, record.particle or "photon"
    if detector is None and pixel is None:
        return record
    if detector is None:
        assert pixel is not None
        return replace(record, detector_pixel_m=object_pixel_size_m(energy, distance, pixel, N, particle))
    expected = object_pixel_size_m(energy, distance, detector, N, particle)
    if pixel is None:
        return replace(record, object_pixel_m=expected)
    if abs(pixel / expected - 1) > _TOLERANCE:
        raise DataError(
            f"object pixel: expected {expected:.6g} m from {energy:g} eV, {distance:g} m and {detector:g} m detector "
            f"pixels with N = {N}, found {pixel:.6g} m; say which is right with --object-pixel-nm or "
            "--detector-pixel-um"
        )
    return record


def _completed_near(record: ScanRecord) -> ScanRecord:
    """Positions, and what else is in object pixels, on those of the near field; as it is where it is on them already.

    What belongs to other object pixels, an object and a probe, is left out.
    """
    if NearField.of(record.metadata) is not None:
        return record
    detector, former = record.detector_pixel_m or record.object_pixel_m, record.object_pixel_m
    for name, value in (
        ("energy_eV", record.energy_eV),
        ("distance_m", record.distance_m),
        ("detector_pixel_m", detector),
    ):
        if value is None:
            what, flag = FLAGS[name]
            raise DataError(f"near field: expected {what}, found none in the input; give {flag}")
    assert record.energy_eV is not None and record.distance_m is not None and detector is not None
    magnification = record.magnification or (1.0 if former is None else detector / former)
    length = wavelength_m(record.energy_eV, record.particle or "photon")
    number = fresnel_number(length, record.distance_m, detector, magnification)
    pixel = detector / magnification
    near = NearField(number, length / pixel)
    if former is not None and abs(former / pixel - 1) <= _TOLERANCE:
        return replace(record, object_pixel_m=former, metadata=record.metadata | near.noted())
    if record.position_unit == "px" and former is not None and record.xcoords is not None:
        x0, y0 = record.origin_px or (0.0, 0.0)
        record = moved(record, "m", lambda x: (x + x0) * former, lambda y: (y + y0) * former)
    gone = {"object": None, "probe": None, "origin_px": None, "true_patches": None}
    return replace(record, **gone, object_pixel_m=pixel, metadata=record.metadata | near.noted())  # type: ignore[arg-type]


def as_photons(record: ScanRecord) -> ScanRecord:
    """For formats that know photons only: electrons as photons of the same wavelength, so that lengths stay right."""
    if record.particle != "electron" or record.energy_eV is None:
        return record
    return replace(record, energy_eV=same_wavelength_eV(record.energy_eV), particle=None)


def in_metres(record: ScanRecord, title: str) -> ScanRecord:
    """Positions in metres: `x_m = (x_px + origin) pixel`."""
    record = required(record, title, "xcoords", "object_pixel_m")  # which may bring positions in metres
    pixel, (x0, y0) = record.object_pixel_m, record.origin_px or (0.0, 0.0)
    assert pixel is not None
    if record.position_unit == "m":
        return record
    return moved(record, "m", lambda x: (x + x0) * pixel, lambda y: (y + y0) * pixel)


def in_pixels(record: ScanRecord, title: str) -> ScanRecord:
    """Positions in pixels of the object, by `ptycho.core.geometry.pixel_positions`.

    Without an object its frame is the smallest that holds every patch; `origin_px` then says where that is.
    """
    record = required(record, title, "xcoords")
    if record.position_unit == "px":
        return record
    record = required(record, title, "object_pixel_m")
    pixel, x, y = record.object_pixel_m, record.xcoords, record.ycoords
    assert pixel is not None and x is not None and y is not None
    _check_span(x, y, pixel)
    if record.object is None:
        if record.side is None:
            raise DataError("positions in metres: expected patterns or a probe beside them, found none; add a file")
        frame = object_frame(x / pixel, y / pixel, record.side)
        origin, (height, width) = (float(frame.x0), float(frame.y0)), frame.shape
    else:
        origin, (height, width) = record.origin_px or (0.0, 0.0), record.object.shape

    def columns(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return pixel_positions(values, (origin[0] + width / 2) * pixel, pixel, width)

    def rows(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return pixel_positions(values, (origin[1] + height / 2) * pixel, pixel, height)

    return replace(moved(record, "px", columns, rows), origin_px=origin)


def _check_span(x: NDArray[np.float64], y: NDArray[np.float64], pixel_m: float) -> None:
    """Raise where positions cannot be metres, before anything is made of their size."""
    spans = [float(np.ptp(values)) if values.size else 0.0 for values in (x, y)]
    if max(spans) > _LARGEST * pixel_m:
        raise DataError(
            f"positions span {spans[0]:.3g} x {spans[1]:.3g}, taken for m: {max(spans) / pixel_m:.3g} object pixels of "
            f"{pixel_m:.3g} m; which unit is it? give them as --scan-positions FILE:PATH --unit um (or mm, nm, px)"
        )


def moved(record: ScanRecord, unit: Literal["px", "m"], columns: Any, rows: Any) -> ScanRecord:
    """The record with its positions in another unit, x and y each through a function."""
    changes: dict[str, Any] = {"position_unit": unit}
    for name, function in (
        ("xcoords", columns),
        ("ycoords", rows),
        ("xcoords_start", columns),
        ("ycoords_start", rows),
    ):
        values = getattr(record, name)
        changes[name] = None if values is None else function(values)
    return replace(record, **changes)


def resolved_units(record: ScanRecord) -> Units:
    """What the patterns hold: as declared, else by the rules of `ptycho.core.unit_decision.decide_units`.

    Raises:
        DataError: no rule decides; it names --units.
    """
    if record.units is not None:
        return record.units
    assert record.patterns is not None
    if record.patterns.dtype.kind in "iu":
        return "counts"
    mask = record.mask if record.mask is not None and record.mask.ndim == 2 else None
    some = np.unique(np.linspace(0, len(record.patterns) - 1, _SAMPLE_FRAMES).round().astype(np.intp))
    return decide_units(record.patterns.read(some), record.probe, None, "error", mask).units


def in_counts(record: ScanRecord) -> Frames:
    """The patterns as counts: themselves, or the squares of amplitudes (float32), whole where rounding alone is off."""
    assert record.patterns is not None
    if resolved_units(record) == "counts":
        return record.patterns
    return record.patterns.map(_squares, None, np.float32)


def _squares(amplitudes: Array) -> Array:
    """Squares of amplitudes, without what rounding of a root in float32 leaves of a whole number."""
    squares = to_amplitude(amplitudes, "amplitude") ** 2
    whole = np.rint(squares)
    return np.where(np.abs(squares - whole) <= _WHOLE * np.maximum(squares, 1), whole, squares)
