"""A scan as arrays, and what makes it one: shapes that fit together, numbers that a detector can give."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.scaling import frame_blocks
from ptycho.core.scan.subtracted import subtracted_background
from ptycho.errors import DataError

__all__ = [
    "MARK",
    "ScanFile",
    "check_paired",
    "check_probe_shape",
    "check_shapes",
    "check_square",
    "check_values",
    "is_fast_side",
    "marked_values",
    "next_fast_side",
    "no_probe",
    "own_sides",
]

_LARGEST_FACTOR = 13
"""Largest prime factor of a length that FFTs take without a detour: FFTW and cuFFT have code of their own up to it."""
_NAMED = 50
"""Points that are named at most."""

Array = NDArray[Any]

MARK = (1 << 32) - 1
"""What a pixel of an Eiger holds that is dead, hot or in a gap; never a count."""


@dataclass(frozen=True)
class ScanFile:
    """A scan as arrays, in the layout of today's file; what the file left out is None.

    n is the number of patterns, N their side, M the number of probe modes; positions are pixels. Patterns of a file may
    be (n, H, W): positions, probe, object and `Y` then belong to the detector of `own_sides`, until
    `ptycho.core.scan_edit.fit_detector` makes them square.
    """

    diff3d: Array
    """(n, N, N) amplitude or photon counts, in the type of the file."""
    xcoords: Array
    """(n,) float64 column of each patch centre."""
    ycoords: Array
    """(n,) float64 row of each patch centre."""
    probeGuess: Array | None
    """(N, N) or (M, N, N) complex."""
    xcoords_start: Array | None = None
    """(n,) positions at the start of each exposure, where they differ from xcoords and ycoords."""
    ycoords_start: Array | None = None
    scan_index: Array | None = None
    """(n,) integers."""
    objectGuess: Array | None = None
    """(H, W) complex."""
    Y: Array | None = None
    """(n, N, N) complex ground-truth patches."""
    mask: Array | None = None
    """(N, N) or (n, N, N) bool, True where the pixel is valid."""
    metadata: dict[str, Any] | None = None
    """Plain JSON values; `nphotons` is the mean number of photons per pattern."""
    units: str | None = None
    """'amplitude', 'counts', or None where nobody said."""

    @property
    def probe(self) -> Array:
        """`probeGuess` of a scan that has one, (N, N) or (M, N, N).

        Raises:
            DataError: the scan has none.
        """
        if self.probeGuess is None:
            raise no_probe()
        return self.probeGuess


def no_probe(name: str = "SCAN") -> DataError:
    """What to raise where a probe is needed and the scan of this name has none."""
    return DataError(
        "the scan has no probe: expected probeGuess, found none; find one in its patterns (ptycho probe "
        f"{name} -o probe.npz) or give one with --probe"
    )


def check_paired(patterns: int, positions: int, name: str | None = None) -> None:
    """Raise DataError where there are not as many patterns as positions: which are left over, and what leaves them out.

    Args:
        patterns, positions: how many there are.
        name: of the file, where both are in one.
    """
    if patterns == positions:
        return
    first, last = min(patterns, positions), max(patterns, positions) - 1
    what, other = ("pattern", "position") if patterns > positions else ("position", "pattern")
    extra = f"{what} {first}" if first == last else f"{what}s {first} to {last}"
    files = "with the same files and flags" if name is None else shlex.quote(name)
    raise DataError(
        f"expected as many patterns as positions, found {patterns} and {positions}: {extra} (counted from 0) without a "
        f"{other}; leave out the last (ptycho dataset move {files} -o paired.npz) or the first (the same with --frames "
        f"{positions - patterns}), or name the frame of each position (--scan-positions FILE:X,Y,FRAME)"
    )


def check_shapes(scan: ScanFile, fitting: bool = True, name: str | None = None) -> None:
    """Raise DataError where the arrays of a scan do not fit together; looks at shapes and types only.

    Args:
        scan: the scan.
        fitting: whether there have to be as many positions as patterns, and a probe of their size.
        name: of its file.
    """
    patterns, n = scan.diff3d, scan.xcoords.size
    if patterns.dtype.kind not in "iuf":
        raise DataError(f"diffraction: expected integers or real numbers, found dtype {patterns.dtype}; convert it")
    if patterns.ndim != 3 or 0 in patterns.shape[1:]:
        raise DataError(
            f"diffraction: expected patterns (n, N, N) with n = {n} (the length of xcoords), "
            f"found shape {patterns.shape}; crop or transpose them"
        )
    if len(patterns) == 0 or n == 0:
        raise DataError(f"expected at least one pattern, found {len(patterns)} and {n} positions; check the export")
    height, width = patterns.shape[1:]
    vectors = {
        key: getattr(scan, key) for key in ("xcoords", "ycoords", "xcoords_start", "ycoords_start", "scan_index")
    }
    if scan.xcoords.shape == scan.ycoords.shape == (n,) and height == width:
        points = n
        if fitting:
            check_paired(len(patterns), n, name)
    else:
        points = len(patterns)
    wrong = {key: array.shape for key, array in vectors.items() if array is not None and array.shape != (points,)}
    if wrong:
        found = ", ".join(f"{key} {shape}" for key, shape in wrong.items())
        raise DataError(f"expected one entry per pattern, shape ({points},), found {found}; drop the extra ones")
    if fitting and scan.probeGuess is not None and (height == width or not _is_square(scan.probeGuess)):
        check_probe_shape(scan.probeGuess, height, width, name)
    _expect_shape(scan.mask, "mask", [(height, width), (len(patterns), height, width)])
    _expect_shape(scan.Y, "Y", [(len(patterns), *own_sides(scan))])
    if scan.objectGuess is not None and (scan.objectGuess.ndim != 2 or scan.objectGuess.size == 0):
        raise DataError(f"objectGuess: expected one image (H, W), found shape {scan.objectGuess.shape}; take one layer")


def _is_square(probe: Array) -> bool:
    return probe.ndim in (2, 3) and probe.size > 0 and probe.shape[-1] == probe.shape[-2]


def check_probe_shape(probe: Array, height: int, width: int, name: str | None = None) -> None:
    """Raise DataError where a probe is not (height, width) or (M, height, width), as the patterns are.

    `name` is that of the file which it is in, and can be fitted to them with.
    """
    if probe.ndim not in (2, 3) or probe.shape[-2:] != (height, width) or probe.size == 0:
        command = f": ptycho convert {shlex.quote(name)} fitted.npz" if name and _is_square(probe) else ""
        raise DataError(
            f"probeGuess: expected ({height}, {width}) or (modes, {height}, {width}) to fit the patterns, "
            f"found {probe.shape}; crop or pad it{command}"
        )


def check_square(scan: ScanFile) -> None:
    """Raise DataError where patterns are not square, or the probe is not of their size."""
    _, height, width = scan.diff3d.shape
    if height != width or own_sides(scan) != (height, width):
        raise DataError(
            f"diffraction: expected square patterns (n, N, N), found shape {scan.diff3d.shape}; "
            "let ptycho.core.scan_edit.fit_detector.fitted, as ptycho.load_scan does, make them square"
        )


def own_sides(scan: ScanFile) -> tuple[int, int]:
    """(rows, columns) of the detector, in its pixels, that positions, object and probe of a scan belong to.

    An object pixel is the wavelength times the distance over this extent. They are the sides of the probe, without
    one the longer side of the patterns.
    """
    if scan.probeGuess is None:
        return max(scan.diff3d.shape[1:]), max(scan.diff3d.shape[1:])
    rows, columns = scan.probeGuess.shape[-2:]
    return int(rows), int(columns)


def marked_values(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where values are MARK; nowhere in a type that cannot hold it."""
    if values.dtype.kind == "f" and float(np.finfo(values.dtype).max) < MARK:
        return np.zeros(values.shape, bool)
    return np.asarray(values == MARK)


def is_fast_side(N: int) -> bool:
    """Whether N is even and has no prime factor above 13: the sides of a pattern that FFTs take without a detour.

    >>> [N for N in range(90, 110) if is_fast_side(N)]
    [90, 96, 98, 100, 104, 108]
    """
    rest = N if N > 0 and N % 2 == 0 else 0
    for factor in range(2, _LARGEST_FACTOR + 1):
        while rest > 1 and rest % factor == 0:
            rest //= factor
    return rest == 1


def next_fast_side(N: int) -> int:
    """The smallest fast side (`is_fast_side`) of at least N pixels.

    >>> [next_fast_side(N) for N in (60, 61, 515, 1030)]
    [60, 64, 520, 1040]
    """
    side = max(2, N + N % 2)
    while not is_fast_side(side):
        side += 2
    return side


def _expect_shape(array: Array | None, name: str, shapes: list[tuple[int, ...]]) -> None:
    if array is not None and array.shape not in shapes:
        allowed = " or ".join(str(shape) for shape in shapes)
        raise DataError(f"{name}: expected shape {allowed} to fit the patterns, found {array.shape}; correct it")


def _left_out(positions: Array) -> str:
    """The command that leaves out the points without a position."""
    where = np.flatnonzero(~np.isfinite(positions))
    if len(where) > _NAMED:
        return f"the first at pattern {where[0]}; repair them"
    return f"leave them out: ptycho dataset subsample SCAN -o OUT --drop {','.join(map(str, where))}"


def check_values(scan: ScanFile) -> None:
    """Raise DataError for numbers that no measurement gives; reads everything once, in blocks."""
    for key in ("xcoords", "ycoords", "xcoords_start", "ycoords_start", "probeGuess", "objectGuess", "Y"):
        array = getattr(scan, key)
        bad = 0 if array is None else _count(array, lambda values: ~np.isfinite(values))
        if bad:
            mend = _left_out(array) if key in ("xcoords", "ycoords") else "repair them"
            raise DataError(f"{key}: expected finite numbers, found {bad} NaN or infinite of {array.size}; {mend}")
    if scan.probeGuess is not None and not scan.probeGuess.any():
        raise DataError("probeGuess: expected an illumination, found only zeros; give an estimate of the probe")
    if scan.mask is not None and not scan.mask.any():
        raise DataError(
            "mask: expected valid pixels (True), found none; mask is True where valid, bad_pixels where bad"
        )
    _check_patterns(scan)
    if scan.objectGuess is not None:
        _check_positions(scan)


def _check_patterns(scan: ScanFile) -> None:
    """Valid pixels are finite, not negative unless a background was subtracted, and some pattern holds something."""
    patterns, mask = scan.diff3d, scan.mask
    infinite, negative, dark, marked = 0, 0, 0, 0
    for block in frame_blocks(len(patterns), patterns[0].size):
        values = patterns[block]
        if mask is not None:
            values = np.where(mask[block] if mask.ndim == 3 else mask, values, 0)
        if values.dtype.kind == "f":
            infinite += int(np.count_nonzero(~np.isfinite(values)))
        negative += int(np.count_nonzero(values < 0))
        marked += int(np.count_nonzero(marked_values(values)))
        dark += int(np.count_nonzero(~values.any(axis=(1, 2))))
    if infinite:
        raise DataError(
            f"diffraction: expected finite numbers, found {infinite} NaN or infinite in valid pixels; "
            "repair or mask them: ptycho dataset mask SCAN -o OUT --invalid"
        )
    if marked:
        raise DataError(
            f"diffraction: expected amplitude or counts, found {marked} values {MARK} in valid pixels, marks of no "
            "count; mask them: ptycho dataset mask SCAN -o OUT --invalid"
        )
    if negative and subtracted_background(patterns, mask, scan.units) is None:
        raise DataError(
            f"diffraction: expected amplitude or counts of at least 0, found {negative} negative values; "
            "set them to 0 or mask them: ptycho dataset mask SCAN -o OUT --invalid"
        )
    if dark == len(patterns):
        raise DataError(
            f"diffraction: expected light, found only zeros in all {dark} patterns; check the detector data"
        )


def _check_positions(scan: ScanFile) -> None:
    """Every patch reaches into the object that the file claims to show."""
    assert scan.objectGuess is not None
    (height, width), half = scan.objectGuess.shape, max(own_sides(scan)) / 2
    outside = (np.abs(scan.xcoords - width / 2) > width / 2 + half) | (
        np.abs(scan.ycoords - height / 2) > height / 2 + half
    )
    if outside.any():
        raise DataError(
            f"xcoords, ycoords: expected pixels of objectGuess ({height} x {width}), found {outside.sum()} "
            f"of {outside.size} patches wholly outside of it, x {scan.xcoords.min():g} to "
            f"{scan.xcoords.max():g}, y {scan.ycoords.min():g} to {scan.ycoords.max():g}; "
            "correct the positions or drop objectGuess"
        )


def _count(array: Array, test: Callable[[Array], Array]) -> int:
    """How many entries pass a test, in blocks along the first axis."""
    rows = max(1, array[0].size) if array.ndim else 1
    return sum(int(np.count_nonzero(test(array[block]))) for block in frame_blocks(len(array), rows))
