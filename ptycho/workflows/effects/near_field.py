"""A scan of the near field whose files do not tell how many times shadows are magnified: the patterns do."""

from __future__ import annotations

import logging

from ptycho.core.doctor.near_field import follow_shadows
from ptycho.core.doctor.statistics import gather
from ptycho.core.formats.assembled import as_near_field
from ptycho.core.formats.opening import open_record
from ptycho.core.formats.record import FLAGS, ScanRecord
from ptycho.core.physics.near_field import NearField
from ptycho.errors import DataError

__all__ = ["with_magnification"]

logger = logging.getLogger(__name__)


def with_magnification(record: ScanRecord, name: str) -> ScanRecord:
    """The record as one of near field, magnified as the shadows in its patterns move with the scan.

    What is of the near field already, with its pixels, is returned as it is.

    Raises:
        DataError: no shadows are seen to move, or a geometry that nobody says.
    """
    if NearField.of(record.metadata) is not None:
        return record
    if record.detector_pixel_m is None:
        what, flag = FLAGS["detector_pixel_m"]
        raise DataError(f"{name}: near field: expected {what}, found none in the input; give {flag}")
    # in a parallel beam, so that shadows move by M of its pixels for each
    stream = open_record(as_near_field(record, 1.0), name)
    found = follow_shadows(stream, gather(stream))
    if found is None or not found.moves:
        raise DataError(
            f"{name}: near field: expected shadows that move with the scan, found none in the patterns; say how many "
            "times they are magnified: --near-field M"
        )
    logger.info("%s: near field, shadows magnified %.4g times by the patterns", name, found.speed)
    return as_near_field(record, found.speed)
