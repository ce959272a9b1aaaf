"""What a command line names as the source of a scan that is still being measured."""

from __future__ import annotations

from pathlib import Path

from ptycho.core.live.frame_file import FrameFile
from ptycho.core.live.frame_folder import FrameFolder
from ptycho.core.live.growing_file import GrowingFile
from ptycho.core.live.intake import FrameSource, PositionSource
from ptycho.core.live.position_feed import PositionSets, PositionTables
from ptycho.errors import MissingFileError

__all__ = ["open_source"]

_HDF5 = (".h5", ".hdf5", ".nxs", ".cxi")


def open_source(frames: str, positions: str | None = None) -> tuple[FrameSource, PositionSource]:
    """Where the frames and the positions of a scan come.

    Args:
        frames: a folder, or FILE[:PATH] of HDF5 (by its suffix, since it need not be there yet) with the data set.
        positions: FILE[:X,Y[,FRAME]], a text or HDF5, or a folder of texts; None: in the folder, or the file, of the
            frames.

    Raises:
        MissingFileError: the folder that either is to appear in is not there.
    """
    path, inside = _split(frames)
    where, chosen = (path, None) if positions is None else _split(positions)
    columns = [] if chosen is None else [part.strip() for part in chosen.split(",")]
    for one in (path, where):
        if not one.absolute().parent.is_dir():
            raise MissingFileError(f"{one}: expected the folder {one.parent}, found none there; correct the path")
    file = GrowingFile(path)
    source: FrameSource = FrameFolder(path)
    if _is_hdf5(path):
        source = FrameFile(file, inside)
    if not _is_hdf5(where):
        return source, PositionTables(where, columns)
    return source, PositionSets(file if where == path else GrowingFile(where), columns)


def _is_hdf5(path: Path) -> bool:
    return path.suffix.lower() in _HDF5 and not path.is_dir()


def _split(text: str) -> tuple[Path, str | None]:
    """Path, and the name within; what is after the last colon is one where the path with it is not there."""
    name, _, inside = text.rpartition(":")
    if Path(text).exists() or not name or ("/" in name and not Path(name).suffix):
        return Path(text), None
    return (Path(name), inside) if Path(name).suffix else (Path(text), None)
