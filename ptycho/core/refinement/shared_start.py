"""Where a search begins that several processes share: whether each has the whole object or a strip, and that of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.fly_scan import FlyPath
from ptycho.core.physics.recording import Recording
from ptycho.core.refinement.device.kernels import Point, ScanData
from ptycho.core.refinement.first_point import first_recording
from ptycho.core.refinement.refinement import Start
from ptycho.core.refinement.settings import Settings
from ptycho.core.refinement.steps.placement import room
from ptycho.core.refinement.sums.object_share import ObjectShare, WholeObject
from ptycho.core.refinement.sums.object_strips import Strips
from ptycho.core.refinement.sums.processes import Processes, strips
from ptycho.errors import ConfigError

__all__ = ["Begun", "in_strips", "shared_start"]

Array = NDArray[Any]

BOUND_PX = 2.0
"""`position_bound_px` where nobody says."""


class Begun(NamedTuple):
    """Where a search begins."""

    flat: bool
    """Whether from nothing."""
    recording: Recording
    point: Point
    frame: ObjectFrame


def shared_start(
    first: Callable[[], Begun], scan: ScanData, settings: Settings, processes: Processes
) -> tuple[bool, Recording, Point, ObjectFrame, ObjectShare]:
    """What the first process finds, for all; of its object each has its share.

    Args:
        first: called in the first process alone.
        scan: of all, for its positions.
        settings: of the search.
        processes: that share it.
    """
    whole: list[Array] = []

    def made() -> tuple[Begun, bool]:
        begun = first()
        known = vars(settings) | vars(begun.recording)
        cut = in_strips(scan, None, known, processes.size) if settings.strips is None else settings.strips
        against = _undivided(scan, known, processes.size)
        if settings.strips and against:
            raise ConfigError(f"strips: expected an object that can be cut, found {against}; leave strips out")
        whole.append(begun.point.object)
        return begun._replace(point=begun.point._replace(object=np.zeros((0, 0)))), cut

    (flat, recording, point, frame), cut = processes.first(made)
    share: ObjectShare = WholeObject(processes)
    if cut and processes.size > 1:
        n, play = point.probe.shape[-1], _play(scan, vars(settings), recording.fly_path)
        parts, (_, home) = strips(scan.ycoords, processes.size), frame.local(scan.xcoords, scan.ycoords)
        share = Strips.laid(parts, home, point.y, n, frame.shape, play, processes)
    image = share.scattered(whole[0] if whole else None)
    return flat, recording, point._replace(object=image), frame, share


def in_strips(scan: ScanData, start: Start | None, settings: Mapping[str, Any], size: int) -> bool:
    """Whether so many processes have a strip of the object each, where nobody says.

    Args:
        scan: its positions are looked at.
        start: of the search.
        settings: of the search, by the names of `refine_scan`; those that are missing have their defaults.
        size: number of processes.
    """
    if size == 1 or _undivided(scan, settings, size):
        return False
    path = first_recording(scan, start, Recording(fly_path=settings.get("fly_path"))).fly_path
    n, y, wide = int(scan.probeGuess.shape[-1]), np.asarray(scan.ycoords, np.float64), _room(scan, settings)
    # as the smallest frame that holds every patch, with room for those that move, whose width does not matter
    shape, home = (math.ceil(np.ptp(y)) + n + 2 * wide, n), y - y.min() + n // 2 + wide
    return Strips.laid(strips(y, size), home, home, n, shape, _play(scan, settings, path)).spares


def _undivided(scan: ScanData, settings: Mapping[str, Any], size: int) -> str:
    """What keeps so many processes from having a strip each; empty where nothing does.

    A pupil's object is a spectrum of few patterns' size, its brightest rows in every pattern's reach; a search of
    positions tries every pattern all over objects that others have made.
    """
    kept = (
        (f"{size} processes and {len(scan)} patterns", len(scan) < size),
        ("a pupil", settings.get("pupil") is not None),
        ("positions that are searched", settings.get("refine_positions") == "search"),
    )
    return next((name for name, there in kept if there), "")


def _room(scan: ScanData, settings: Mapping[str, Any]) -> int:
    """How far positions that move may come to lie from where the scan has them, pixels."""
    if not settings.get("refine_positions"):
        return 0
    bound = settings.get("position_bound_px", BOUND_PX)
    return room(np.asarray(scan.xcoords), np.asarray(scan.ycoords), bound)


def _play(scan: ScanData, settings: Mapping[str, Any], path: FlyPath | None) -> int:
    """The same of all places of a probe that flies."""
    return _room(scan, settings) + (0 if path is None else math.ceil(float(np.abs(path).max())))
