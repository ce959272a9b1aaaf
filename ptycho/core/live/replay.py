"""A stored scan as a detector and a stage would bring it: frames and positions one by one, at a rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ptycho.core.files.atomic import output_folder
from ptycho.core.live.schedule import Arrival
from ptycho.core.scan.stream import ScanStream
from ptycho.errors import OutputError

__all__ = ["FileWriter", "FolderWriter", "ScanWriter", "play", "writer_to"]

POSITIONS_FILE = "positions.csv"
_HDF5 = (".h5", ".hdf5", ".nxs")


class ScanWriter(Protocol):
    """Takes frames and positions in any order; in a `with` block, whose end closes the scan."""

    def frame(self, number: int, frame: NDArray[Any]) -> None:
        """A frame (H, W) comes."""

    def position(self, number: int, x: float, y: float) -> None:
        """The position of a frame comes, pixels."""

    def __enter__(self) -> ScanWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def writer_to(path: Path, frame: NDArray[Any]) -> ScanWriter:
    """What writes to a folder, or by its suffix to an HDF5 file.

    Args:
        path: where to; nothing may be there, or an empty folder.
        frame: (H, W) one frame, whose size and type all have.

    Raises:
        OutputError: something is there, or it cannot be written.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise OutputError(f"cannot write {path}: expected nothing there, found a scan or something else; name another")
    if path.suffix.lower() in _HDF5:
        return FileWriter(path, frame)
    return FolderWriter(output_folder(path))


class FolderWriter:
    """Writes `frame_000123.npy` and rows `frame,x,y` of `positions.csv`; a file appears whole."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.times = folder, dict[int, int]()
        self._table = (folder / POSITIONS_FILE).open("w", encoding="utf-8")
        self._table.write("frame,x,y\n")
        self._table.flush()

    def frame(self, number: int, frame: NDArray[Any]) -> None:
        """A frame comes; one that comes again gets a name of its own with the same number."""
        again = self.times[number] = self.times.get(number, 0) + 1
        name = f"frame_{number:06d}.npy" if again == 1 else f"again{again}_{number:06d}.npy"
        hidden = self.folder / f".{name}"
        with hidden.open("wb") as stream:
            npy.write_array(stream, np.ascontiguousarray(frame), allow_pickle=False)
        hidden.replace(self.folder / name)

    def position(self, number: int, x: float, y: float) -> None:
        """The position of a frame comes, to its last digit."""
        self._table.write(f"{number},{float(x)!r},{float(y)!r}\n")
        self._table.flush()

    def __enter__(self) -> FolderWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.close()


class FileWriter:
    """Writes an HDF5 file that can be read meanwhile (SWMR): `/entry/data/data` (n, H, W) with the numbers in
    `/entry/data/frame`, and `/entry/positions/x`, `y`, `frame`.
    """

    def __init__(self, path: Path, frame: NDArray[Any]) -> None:
        try:
            self._file = h5py.File(path, "x", libver="latest")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error}; choose another place") from error
        data, places = (self._file.create_group(f"entry/{name}") for name in ("data", "positions"))
        height, width = frame.shape
        self._data = data.create_dataset(
            "data", (0, height, width), frame.dtype, maxshape=(None, height, width), chunks=(1, height, width)
        )
        self._frames = [self._column(data, "frame", np.int64)]
        self._positions = [
            self._column(places, "x", np.float64),
            self._column(places, "y", np.float64),
            self._column(places, "frame", np.int64),
        ]
        for one in self._positions[:2]:
            one.attrs["units"] = "px"
        self._file.swmr_mode = True

    @staticmethod
    def _column(group: h5py.Group, name: str, kind: Any) -> h5py.Dataset:
        return group.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(1024,))

    def frame(self, number: int, frame: NDArray[Any]) -> None:
        """A frame comes."""
        self._add([(self._data, frame), *((one, number) for one in self._frames)])

    def position(self, number: int, x: float, y: float) -> None:
        """The position of a frame comes."""
        self._add(list(zip(self._positions, (x, y, number), strict=True)))

    @staticmethod
    def _add(pairs: Sequence[tuple[h5py.Dataset, Any]]) -> None:
        for one, value in pairs:
            count = len(one)
            one.resize(count + 1, axis=0)
            one[count] = value
            one.flush()

    def __enter__(self) -> FileWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def play(
    scan: ScanStream,
    arrivals: Sequence[Arrival],
    writer: ScanWriter,
    watch: Callable[[int], None] = lambda done: None,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Write the frames and positions of a scan when they are due.

    Args:
        scan: positions in pixels.
        arrivals: of `ptycho.core.live.schedule.schedule`.
        writer: takes them.
        watch: told how many have come.
        sleep: waits until the next is due.

    Returns:
        Seconds that the last came late because writing took so long.
    """
    begun, behind = time.monotonic(), 0.0
    for done, due in enumerate(arrivals, 1):
        behind = time.monotonic() - begun - due.seconds
        if behind < 0:
            sleep(-behind)
        if due.kind == "frame":
            writer.frame(due.number, scan.frames.read(np.array([due.number]))[0])
        else:
            writer.position(due.number, scan.fields.xcoords[due.number], scan.fields.ycoords[due.number])
        watch(done)
    return max(behind, 0.0)
