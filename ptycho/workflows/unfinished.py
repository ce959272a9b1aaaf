"""What a run shows and leaves before it is finished: a picture now and then, and the object where it is cut off."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ptycho.core.files.atomic import output_folder
from ptycho.core.formats.reconstruction_npz import write_npz
from ptycho.core.progress import Watch, both
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.result import reconstruction_of
from ptycho.raw_data import RawData
from ptycho.workflows.preview import PREVIEW, Preview

__all__ = ["SO_FAR", "STATE", "Unfinished", "begin_anew", "forget"]

SO_FAR = "so_far.npz"
"""What a run that was cut off had found, like `reconstruction.npz`, in its folder."""


STATE = "state"
"""Folder of what a run that was killed goes on from, inside that of the run."""


@dataclass
class Unfinished:
    """A run whose refinements are seen while they go.

    Args:
        folder: of the run.
        shown: what is shown and left of a result.
    """

    folder: Path
    shown: Callable[[Reconstruction], Reconstruction] = lambda found: found
    data: RawData | None = field(default=None, init=False)
    """The scan; None before it is known, and then nothing is shown."""
    preview: Preview = field(init=False)
    _running: Callable[[], Refinement] | None = field(default=None, init=False)
    _settled: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.preview = Preview(self.folder / PREVIEW, self.found)

    def see(self, so_far: Callable[[], Refinement]) -> None:
        """A refinement begins, or is done: `so_far` returns its result, if it ended now."""
        if not self._settled:
            self._running = so_far

    def settle(self) -> None:
        """The result is there: refinements that begin from here on only judge it."""
        self._settled = True

    def found(self) -> Reconstruction | None:
        """What there is so far; of refinements of a part of the scan, which only decide, nothing."""
        if self._running is None or self.data is None:
            return None
        found = self._running()
        if len(found.xcoords) < len(self.data):
            return None
        return self.shown(replace(reconstruction_of(found), metadata=self.data.known_metadata))

    def watched(self, watch: Watch, data: RawData) -> Watch:
        """Who is told of the progress of the refinement of a scan, and the picture with them."""
        self.data = data
        return both(watch, self.preview)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Have an interrupt write what there is."""
        try:
            yield
        except KeyboardInterrupt:
            found = self.found()
            if found is not None:
                write_npz(found, self.folder / SO_FAR)
                self.preview.draw()
            raise


def begin_anew(folder: Path) -> None:
    """Delete what an earlier run in a folder would go on from, and mark the folder as that of one that goes on."""
    forget(folder)
    output_folder(folder / STATE)


def forget(folder: Path) -> None:
    """Delete what an unfinished run has left in its folder: it has its result, or another one begins."""
    shutil.rmtree(folder / STATE, ignore_errors=True)
    for name in (PREVIEW, SO_FAR):
        (folder / name).unlink(missing_ok=True)
