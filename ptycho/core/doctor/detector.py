"""Is the detector as it should be? Hot and dead pixels, mask, centre, edges."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ptycho.core.doctor.findings import Finding, Severity
from ptycho.core.doctor.statistics import ScanStatistics
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan_edit.centre import at_corner, find_centre

__all__ = [
    "check_centre",
    "check_dead_pixels",
    "check_edges",
    "check_hot_pixels",
    "check_mask",
    "dead_pixels",
    "direct_beam",
    "faulty_pixels",
    "hot_pixels",
]

Array = NDArray[Any]

_HOT_RATIO = 4.0
"""How far above its third-brightest neighbour a pixel can be in a pattern that is sampled finely enough."""
_HOT_SIGMAS = 8.0
_NEIGHBOURS = np.ones((5, 5), bool)
_NEIGHBOURS[2, 2] = False
_BEAM_RADIUS = 2.5
"""Pixels around the zero frequency where a single bright one is the direct beam."""
_UNLIKELY = 1e-9
"""Probability of an accident that is taken for none."""
_FEWEST = 8
"""Patterns without which a dark pixel tells nothing: it may be the zero of a speckle."""
_CENTRE_NOTE, _CENTRE_WARNING = 1.0, 2.5
"""Pixels off the centre; a tilt of the object's phase moves the mean pattern by about one."""


def check_mask(statistics: ScanStatistics) -> Finding:
    """Does the mask mark the right pixels?"""
    masked = 1 - float(statistics.valid.mean())
    numbers = {"masked_share": masked, "light_on_masked": statistics.masked_light}
    if statistics.masked_light > 0.5 and statistics.masked_light > masked:
        sentence = (
            f"{100 * statistics.masked_light:.0f} % of all light falls on pixels marked as not valid "
            f"({100 * masked:.0f} % of the detector): the mask is inverted. `mask` is True where a pixel is valid, "
            "`bad_pixels` where it is bad."
        )
        return Finding("mask", "fault", sentence, numbers)
    if masked == 0:
        return Finding("mask", "ok", "All detector pixels are marked as valid.", numbers)
    return Finding("mask", "ok", f"{100 * masked:.2g} % of the detector is masked.", numbers)


def hot_pixels(statistics: ScanStatistics) -> Array:
    """Valid pixels (N, N) that are far brighter than all around them, or stuck at one value."""
    counted = statistics.mean if statistics.subtracted is None else statistics.mean + statistics.subtracted
    mean = np.where(statistics.valid, counted, 0)
    around = ndimage.rank_filter(mean, -3, footprint=_NEIGHBOURS, mode="wrap")
    hot = mean > _HOT_RATIO * around
    if statistics.counts_per_intensity is not None:
        counts, expected = (x * statistics.counts_per_intensity * len(statistics.energies) for x in (mean, around))
        hot &= counts > expected + _HOT_SIGMAS * np.sqrt(expected + 1) + 30
    else:
        hot &= mean > 0.01 * mean.mean()
    constant = (statistics.lowest == statistics.highest) & (statistics.highest > 0)
    stuck = constant & (len(statistics.energies) >= 8) & (constant.mean() < 0.5)
    return np.asarray((hot | stuck) & statistics.valid)


def direct_beam(hot: Array, offset: tuple[float, float]) -> Array:
    """Those of the hot pixels (N, N) that lie at the zero frequency, which is (dy, dx) from [N/2, N/2], modulo N."""
    y, x = (
        (np.arange(side) - side // 2 - by + side / 2) % side - side / 2
        for side, by in zip(hot.shape, offset, strict=True)
    )
    return np.asarray(hot & (np.hypot(y[:, None], x) <= _BEAM_RADIUS))


def faulty_pixels(statistics: ScanStatistics, scan: ScanFile) -> Array:
    """The hot pixels (N, N) that are not the direct beam."""
    hot = hot_pixels(statistics)
    mean = np.where(statistics.valid & ~hot, statistics.mean, 0)
    return np.asarray(hot & ~direct_beam(hot, find_centre(mean, scan.probeGuess).offset))


def check_hot_pixels(statistics: ScanStatistics, hot: Array, offset: tuple[float, float] = (0.0, 0.0)) -> Finding:
    """Are there pixels that shine by themselves?

    One at the zero frequency is the direct beam, which optics let through to some degree, wherever the zero frequency
    is: in patterns that were not centred at the corner.

    Args:
        statistics: of the scan.
        hot: (N, N), of `hot_pixels`.
        offset: (dy, dx) of the zero frequency from [N/2, N/2], of `check_centre`.
    """
    beam = direct_beam(hot, offset)
    faulty = hot & ~beam
    numbers = {"count": int(hot.sum()), "pixels_y_x": _places(hot), "direct_beam_y_x": _places(beam)}
    if not hot.any():
        return Finding("hot pixels", "ok", "No pixel is far brighter than all its neighbours.", numbers)
    shown = faulty if faulty.any() else beam
    y, x = np.unravel_index(int(np.argmax(np.where(shown, statistics.mean, -1))), hot.shape)
    level = f"mean intensity {statistics.mean[y, x]:.3g}, median of the detector {np.median(statistics.mean):.3g}"
    if not faulty.any():
        sentence = (
            f"The direct beam shows in single pixels at the zero frequency, the brightest at [{y}, {x}] ({level}): "
            f"harmless, unless it does not come from the probe; then mask it: ptycho dataset mask --pixels {y},{x}."
        )
        return Finding("hot pixels", "note", sentence, numbers)
    many = int(faulty.sum())
    sentence = (
        f"{many} hot pixel{'s' * (many > 1)}, far above all neighbours in the mean pattern or stuck at one value, the "
        f"brightest at [{y}, {x}] ({level}); mask them: ptycho dataset mask --hot."
    )
    return Finding("hot pixels", "fault", sentence, numbers, ("mask --hot",))


def _places(pixels: Array) -> list[tuple[int, int]]:
    return [(int(y), int(x)) for y, x in np.argwhere(pixels)[:20]]


def dead_pixels(statistics: ScanStatistics) -> Array:
    """Valid pixels (N, N) that are 0 in every pattern although their surroundings are lit too often for chance."""
    if len(statistics.energies) < _FEWEST:
        return np.zeros(statistics.lit.shape, bool)
    silent, regions = ndimage.label((statistics.lit == 0) & statistics.valid, structure=np.ones((3, 3)))
    # a pixel lit in this share of the frames stays dark in all of them by accident once in 10^9
    needed = 1 - _UNLIKELY ** (1 / len(statistics.energies))
    dead = np.zeros(silent.shape, bool)
    for label, box in enumerate(ndimage.find_objects(silent, regions), 1):
        around = tuple(slice(max(0, along.start - 1), along.stop + 1) for along in box)
        region = silent[around] == label
        rim = ndimage.binary_dilation(region, np.ones((3, 3), bool)) & ~region & statistics.valid[around]
        if rim.any() and np.median(statistics.lit[around][rim]) > max(needed, 1e-12):
            dead[around] |= region
    return dead


def check_dead_pixels(statistics: ScanStatistics) -> Finding:
    """Are there valid pixels that never see light although all around them do?"""
    dead = dead_pixels(statistics)
    count = int(dead.sum())
    numbers = {"count": count, "pixels_y_x": _places(dead)}
    if count:
        sentence = (
            f"{count} valid pixel{'s are' if count > 1 else ' is'} 0 in every pattern although the pixels around are "
            f"lit, the first at {list(numbers['pixels_y_x'][0])}: dead pixels, a gap or a beam stop. Mask them: "  # type: ignore[index]
            "ptycho dataset mask --dead."
        )
        return Finding("dead pixels", "fault", sentence, numbers, ("mask --dead",))
    return Finding("dead pixels", "ok", "No dark pixel lies among lit ones.", numbers)


def check_centre(statistics: ScanStatistics, scan: ScanFile, hot: Array) -> Finding:
    """Is the zero frequency at [N/2, N/2]? Hot pixels (N, N) have no say."""
    N = statistics.mean.shape[0]
    mean = np.where(statistics.valid & ~hot, statistics.mean, 0)
    centre = find_centre(mean, scan.probeGuess)
    fits, (dy, dx) = centre.fits, centre.offset
    off = float(np.hypot(dy, dx))
    numbers: dict[str, Any] = {
        "dy": dy,
        "dx": dx,
        "shift_dy_dx": list(centre.shift((N, N))),
        "likeness": centre.likeness,
        "mass_dy_dx": list(centre.by_mass),
    }
    mend = "recentre --shift={},{}".format(*numbers["shift_dy_dx"])
    if at_corner((dy, dx), mean.shape):
        sentence = (
            f"The zero frequency is at the corner of the patterns, ({dy:.1f}, {dx:.1f}) pixels (y, x) from [N/2, N/2]: "
            f"they were not centred (fftshift). Mend it with ptycho dataset {mend}."
        )
        return Finding("centre", "fault", sentence, numbers | {"at_corner": True}, (mend,))
    where = f"The mean pattern lies ({dy:+.1f}, {dx:+.1f}) pixels (y, x) from where "
    where += "the probe's far field, centred at [N/2, N/2], would put it" if fits else "[N/2, N/2] is, by its mass"
    if off > (_CENTRE_WARNING if fits else N / 8):
        severity: Severity = "fault" if off > N / 8 else "warning"
        return Finding("centre", severity, f"{where}; mend it with ptycho dataset {mend}.", numbers, (mend,))
    if off > _CENTRE_NOTE:
        return Finding("centre", "note", f"{where}: the object will carry a phase ramp, which is harmless.", numbers)
    return Finding("centre", "ok", f"The zero frequency is at [N/2, N/2] within {max(off, 0.1):.1f} pixels.", numbers)


def check_edges(statistics: ScanStatistics, shift: tuple[int, int]) -> Finding:
    """Do the patterns, moved by (dy, dx) to their centre, fade out before the detector ends?"""
    mean, valid = (np.roll(image, shift, (0, 1)) for image in (statistics.mean, statistics.valid))
    rim = np.zeros(valid.shape, bool)
    rim[[0, -1]] = rim[:, [0, -1]] = True
    inside = float(mean[valid].mean()) if valid.any() else 0.0
    level = float(mean[rim & valid].mean()) / inside if (rim & valid).any() and inside > 0 else 0.0
    numbers = {"edge_over_mean": level}
    text = f"At the edge of the detector the mean intensity is {100 * level:.2g} % of that of a mean pixel"
    if level > 0.5:
        sentence = (
            f"{text}: light is lost beyond it, or there is a background. Use more of the detector, or find the "
            "background with the object: --background."
        )
        return Finding("detector edge", "warning", sentence, numbers, ("reconstruct --background",))
    return Finding("detector edge", "note" if level > 0.1 else "ok", f"{text}.", numbers)
