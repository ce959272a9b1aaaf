"""Probes from the optics in front of the sample, in metres: zone plate, aperture, Gaussian focus, crossed mirrors.

Optics are written as a word and lengths, `fzp:diameter=160um,outer=70nm,stop=60um,defocus=0.6mm`; `parse_optics` reads
that and nothing else does. A positive defocus is a sample behind the focus, further down the beam.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.diffraction import propagate_back
from ptycho.core.physics.optics import fresnel_propagate
from ptycho.errors import ConfigError, DataError

__all__ = [
    "OPTICS",
    "Aperture",
    "GaussianFocus",
    "Mirrors",
    "Optics",
    "Window",
    "ZonePlate",
    "is_optics",
    "optics_forms",
    "parse_optics",
]

Array = NDArray[Any]

_UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "μm": 1e-6, "nm": 1e-9, "pm": 1e-12}
_LENGTH = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-zµμ]+)")


class Window(NamedTuple):
    """What a probe is made for: N x N object pixels, and the wavelength."""

    N: int
    pixel_m: float
    wavelength_m: float

    @property
    def width_m(self) -> float:
        """Side of the window."""
        return self.N * self.pixel_m

    @property
    def frequency(self) -> Array:
        """Spatial frequency of the detector's columns, (N,), 1/m, zero at N/2."""
        return (np.arange(self.N) - self.N // 2) / self.width_m

    @property
    def offset_m(self) -> Array:
        """Distance of columns from the middle of the window, (N,)."""
        return (np.arange(self.N) - self.N // 2) * self.pixel_m


class Optics(Protocol):
    """What makes a beam."""

    def wave(self, window: Window) -> Array:
        """The beam at the sample, complex (N, N), its middle at index N/2, of any energy.

        Raises:
            DataError: a beam that does not fit the window.
        """

    def __str__(self) -> str: ...


@dataclass(frozen=True)
class ZonePlate:
    """First order of a Fresnel zone plate, the others blocked; focal length `diameter outer / wavelength`.

    The pupil is a ring of even light, from the central stop to the edge; its far field on the detector has the radius
    `diameter / (2 focal)` in angle, the wavelength over twice the outermost zone's width.
    """

    word: ClassVar[str] = "fzp"
    diameter_m: float
    outer_m: float
    """Width of the outermost zone."""
    stop_m: float = 0.0
    """Diameter of the central stop."""
    defocus_m: float = 0.0

    def wave(self, window: Window) -> Array:
        """The beam at the sample."""
        if self.stop_m >= self.diameter_m:
            raise ConfigError(f"{self}: expected a stop smaller than the zone plate; correct it")
        focal = self.diameter_m * self.outer_m / window.wavelength_m
        radius = np.hypot(window.frequency[:, None], window.frequency) * window.wavelength_m * focal
        pixel = window.wavelength_m * focal / window.width_m
        pupil = _inside(radius, self.diameter_m / 2, pixel) - _inside(radius, self.stop_m / 2, pixel)
        return _focused(pupil, self.diameter_m / focal, self.defocus_m, window, str(self))

    def __str__(self) -> str:
        stop = f", stop {_told(self.stop_m)}" if self.stop_m else ""
        return f"zone plate of {_told(self.diameter_m)}, outermost zone {_told(self.outer_m)}{stop}" + _place(self)


@dataclass(frozen=True)
class Mirrors:
    """Focus of crossed (Kirkpatrick-Baez) mirrors: a rectangular pupil, both mirrors with one focal distance."""

    word: ClassVar[str] = "kb"
    width_m: float
    height_m: float
    """Of the beam that the mirrors accept."""
    focal_m: float
    """From the mirrors to the focus."""
    defocus_m: float = 0.0

    def wave(self, window: Window) -> Array:
        """The beam at the sample."""
        at_mirrors = np.abs(window.frequency) * window.wavelength_m * self.focal_m
        pixel = window.wavelength_m * self.focal_m / window.width_m
        rows, cols = (_inside(at_mirrors, size / 2, pixel) for size in (self.height_m, self.width_m))
        cone = max(self.width_m, self.height_m) / self.focal_m
        return _focused(rows[:, None] * cols, cone, self.defocus_m, window, str(self))

    def __str__(self) -> str:
        size = f"{_told(self.width_m)} by {_told(self.height_m)}"
        return f"mirrors of {size}, {_told(self.focal_m)} from the focus" + _place(self)


@dataclass(frozen=True)
class GaussianFocus:
    """Gaussian beam whose intensity at the waist falls to one half at `fwhm / 2` from the middle."""

    word: ClassVar[str] = "gaussian"
    fwhm_m: float
    defocus_m: float = 0.0
    """From the waist to the sample."""

    def wave(self, window: Window) -> Array:
        """The beam at the sample."""
        line = np.exp(-2 * np.log(2) * (window.offset_m / self.fwhm_m) ** 2)
        return _propagated(line[:, None] * line, self.fwhm_m, self.defocus_m, window, str(self))

    def __str__(self) -> str:
        return f"Gaussian focus of {_told(self.fwhm_m)} full width" + _place(self)


@dataclass(frozen=True)
class Aperture:
    """Round hole in an even beam, some distance before the sample."""

    word: ClassVar[str] = "aperture"
    size_m: float
    """Diameter."""
    distance_m: float = 0.0
    """From the hole to the sample."""

    def wave(self, window: Window) -> Array:
        """The beam at the sample."""
        radius = np.hypot(window.offset_m[:, None], window.offset_m)
        hole = _inside(radius, self.size_m / 2, window.pixel_m)
        return _propagated(hole, self.size_m, self.distance_m, window, str(self))

    def __str__(self) -> str:
        place = f", {_told(self.distance_m)} before the sample" if self.distance_m else ""
        return f"aperture of {_told(self.size_m)}{place}"


OPTICS: dict[str, type[Any]] = {kind.word: kind for kind in (ZonePlate, Aperture, GaussianFocus, Mirrors)}
"""Every kind of optics by the word that it is written with."""


def is_optics(text: str) -> bool:
    """Whether a text begins like optics, `word:`; a file of such a name would have to be given with its folder."""
    return text.partition(":")[0].strip().lower() in OPTICS and ":" in text


def optics_forms() -> str:
    """How optics are written, for a help or an error."""
    return ", ".join(f"{word}:{','.join(f'{_key(f.name)}=' for f in fields(kind))}" for word, kind in OPTICS.items())


def parse_optics(text: str) -> Optics:
    """Read optics from their text form.

    Args:
        text: a word of `OPTICS`, a colon, and lengths with their units, separated by commas.

    Raises:
        ConfigError: one line with what was expected and found.

    >>> parse_optics("aperture:size=2mm,distance=1.5m")
    Aperture(size_m=0.002, distance_m=1.5)
    """
    word, _, rest = text.partition(":")
    kind = OPTICS.get(word.strip().lower())
    if kind is None:
        raise ConfigError(f"probe {text!r}: expected one of {optics_forms()}, found {word!r}; correct it")
    known = {_key(f.name): f for f in fields(kind)}
    given: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in known or not equals or known[key].name in given:
            allowed = ", ".join(f"{name}=" for name in known)
            raise ConfigError(f"probe {text!r}: expected each of {allowed} at most once, found {part!r}; correct it")
        metres = given[known[key].name] = _length(text, key, value)
        if (metres <= 0 and known[key].default is MISSING) or (metres < 0 and key != "defocus"):
            raise ConfigError(f"probe {text!r}: {key}: expected a length above 0, found {value}; correct it")
    missing = [_key(f.name) for f in fields(kind) if f.default is MISSING and f.name not in given]
    if missing:
        raise ConfigError(f"probe {text!r}: expected {' and '.join(missing)} as well, found none; add {missing[0]}=...")
    made: Optics = kind(**given)
    return made


def _key(field_name: str) -> str:
    return field_name.removesuffix("_m")


def _length(text: str, key: str, value: str) -> float:
    """A length in metres."""
    found = _LENGTH.fullmatch(value)
    if found is None or found[2] not in _UNITS:
        units = ", ".join(unit for unit in _UNITS if unit.isascii())
        fact = f"{key}: expected a length with its unit ({units}), found {value!r}"
        raise ConfigError(f"probe {text!r}: {fact}; write for example {key}=70nm")
    return float(found[1]) * _UNITS[found[2]]


def _inside(distance: Array, edge: float, pixel: float) -> Array:
    """1 inside an edge, 0 outside, the share of a pixel on it; 0 everywhere for an edge at 0."""
    return np.clip((edge - distance) / pixel + 0.5, 0, 1) if edge > 0 else np.zeros_like(distance)


def _focused(pupil: Array, cone: float, defocus: float, window: Window, what: str) -> Array:
    """The beam `defocus` behind its focus: `F^-1 [pupil exp(-i pi wavelength defocus f^2)]`.

    Args:
        pupil: (N, N) over the detector.
        cone: full opening angle of the beam, radians.
    """
    if np.count_nonzero(pupil) < 4:
        raise DataError(f"{what}: its cone is narrower than two detector pixels; check energy, distance and lengths")
    _fits(abs(defocus) * cone, window, what)
    squared = window.frequency[:, None] ** 2 + window.frequency**2
    phase = np.exp(-1j * np.pi * window.wavelength_m * defocus * squared)
    return np.fft.fftshift(propagate_back(pupil * phase), axes=(-2, -1))


def _propagated(wave: Array, size: float, distance: float, window: Window, what: str) -> Array:
    """A wave that was `size` wide, a distance further on."""
    if size < window.pixel_m:
        fact = f"it is smaller than an object pixel ({_told(window.pixel_m)})"
        raise DataError(f"{what}: {fact}; check energy, distance and lengths")
    _fits(max(size, abs(distance) * window.wavelength_m / size), window, what)
    return fresnel_propagate(wave.astype(np.complex128), window.wavelength_m * distance / window.pixel_m**2)


def _fits(width: float, window: Window, what: str) -> None:
    if width > window.width_m:
        fact = f"the beam would be {_told(width)} wide at the sample, the window of the detector is "
        raise DataError(f"{what}: {fact}{_told(window.width_m)}; check lengths, energy, distance and pixel size")


def _place(optics: Any) -> str:
    if not optics.defocus_m:
        return ", sample in the focus"
    return f", sample {_told(abs(optics.defocus_m))} {'behind' if optics.defocus_m > 0 else 'before'} the focus"


def _told(metres: float) -> str:
    """A length in the unit that suits it."""
    unit, factor = next(((u, f) for u, f in (("m", 1.0), ("mm", 1e-3), ("um", 1e-6)) if metres >= f), ("nm", 1e-9))
    return f"{metres / factor:.3g} {unit}"
