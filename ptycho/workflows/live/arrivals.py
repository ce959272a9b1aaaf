"""A scan that is still being measured, as scans to work on: some of its patterns now, all of them in the end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptycho.core.formats import registry
from ptycho.core.formats.assembled import LENGTHS, ScanParts, assembled
from ptycho.core.formats.position_table import Positions
from ptycho.core.formats.record import ScanRecord, completed, required, resolved_units
from ptycho.core.formats.scan_npz import stream_of
from ptycho.core.formats.turning import turned_points
from ptycho.core.live.frame_store import FrameStore
from ptycho.core.live.joining import Joined
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan_edit.fit_detector import fitted
from ptycho.errors import DataError
from ptycho.raw_data import RawData

__all__ = ["LiveScan"]

logger = logging.getLogger(__name__)

_OF_ALL = ("origin_px", "indexes")
"""Entries of the metadata that belong to the whole scan."""


@dataclass(frozen=True, eq=False)
class _SetUp:
    """What every pattern of the scan has."""

    fields: ScanFile
    """With stand-ins for the patterns and the positions."""
    pixels: float
    """Object pixels in one unit of the positions."""


@dataclass
class LiveScan:
    """The patterns and positions that have come.

    Args:
        parts: what is said of the scan beside its patterns and positions.
        store: the frames.
        factor: from the unit of the positions to metres, asked when some have come; None where nothing says it.
        crop, bin: of the detector, as in `RawData.fitted`.
    """

    parts: ScanParts
    store: FrameStore
    factor: Callable[[], float | None]
    crop: int | None = None
    bin: int = 1
    _set_up: _SetUp | None = field(default=None, init=False)
    _ratio: float = field(default=1.0, init=False)
    """Pixels of the positions as they are worked on, over those before the detector was cropped or binned."""

    def whole(self, joined: Joined) -> ScanRecord:
        """All that is joined as one scan, like one that was put together of its files.

        Raises:
            DataError: nothing is joined, or as `ptycho.core.formats.assembled.assembled`.
        """
        if not len(joined.numbers):
            raise DataError("expected frames with their positions, found none; look at the numbers of both")
        table = Positions(joined.x, joined.y, None, self.factor())
        return assembled(replace(self.parts, patterns=self.store.frames(joined.places), positions=table))

    def write(self, joined: Joined, path: Path) -> Path:
        """Write all that is joined as a scan file, whole or not at all, and return its path."""
        registry.write(path, self.whole(joined), "scan")
        return path

    def some(self, joined: Joined) -> RawData:
        """Some of what is joined, in memory; the pixels of its positions are the same for any choice.

        Raises:
            DataError: as `whole`, by the first patterns that are asked for.
        """
        if self._set_up is None:
            self._set_up = self._looked_at(self.whole(joined))
        fields = self._set_up.fields
        x, y = self._turned(joined)
        frames = self.store.frames(joined.places).whole()
        scan = replace(fields, diff3d=frames, xcoords=x, ycoords=y)
        made, said = fitted(scan, self.crop)
        if self.crop is None:
            self.crop = made.diff3d.shape[-1] if said else None  # the light of others may ask for another side
            for sentence in said:
                logger.info("patterns: %s", sentence)
        if self.bin > 1:
            made = fitted(made, self.crop, self.bin)[0]
        longest = np.argmax(np.abs(x))
        self._ratio = float(made.xcoords[longest] / x[longest]) if x[longest] else 1.0
        return RawData(**vars(made))

    def pixels(self, joined: Joined) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The positions x and y (n,) that `some` gives these, once it has been asked for some."""
        x, y = self._turned(joined)
        return self._ratio * x, self._ratio * y

    def _turned(self, joined: Joined) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        assert self._set_up is not None
        scale = self._set_up.pixels
        return turned_points(scale * joined.x, scale * joined.y, self.parts.flip or "", self.parts.rotation_deg)

    def _looked_at(self, record: ScanRecord) -> _SetUp:
        """What the first patterns say of all."""
        units, scale = resolved_units(record), 1.0
        if record.position_unit == "m":
            known = completed(required(record, "positions in metres", "object_pixel_m"))
            assert known.object_pixel_m is not None
            unit = self.parts.position_unit
            metres = self.factor() if unit is None else LENGTHS[unit]
            assert metres is not None  # else `assembled` has complained
            scale = metres / known.object_pixel_m
        fields = stream_of(replace(record, units=units)).fields
        metadata = {name: value for name, value in (fields.metadata or {}).items() if name not in _OF_ALL}
        return _SetUp(replace(fields, metadata=metadata or None, scan_index=None), scale)
