"""The files of a result, which belong together: all are those of one run, or the folder says that they are not."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ptycho.core.files.atomic import atomic_path, output_folder
from ptycho.core.files.temporaries import remove_left, temporary_path
from ptycho.core.interrupts import uninterrupted

__all__ = ["UNFINISHED", "whole_set"]

UNFINISHED = "unfinished.txt"
"""In a folder, while the files of a new result take the places of those of an older one."""
_SAID = (
    "The run that wrote here was ended while its files took their places: they may be of two results.\n"
    "Run it again; the next result that is written here is whole.\n"
)


@contextmanager
def whole_set(folder: Path, replaced: Iterable[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder inside `folder`; when the block ends well its files take their places in `folder`.

    Until then all that was there stays. That last step takes milliseconds; a run that is killed in it leaves the file
    `UNFINISHED`, which goes with the next whole set.

    Args:
        folder: where the files go, made when it is not there.
        replaced: names of files of an older result; those that the new one does not have go.

    Raises:
        OutputError: the folder cannot be written.
    """
    place = output_folder(folder)
    remove_left(place / "result")
    made = output_folder(temporary_path(place / "result"))
    try:
        yield made
        new = {path.name for path in made.iterdir()}
        old = [place / name for name in replaced if name not in new and (place / name).exists()]
        mark = place / UNFINISHED
        with uninterrupted():
            if old or any((place / name).exists() for name in new):
                with atomic_path(mark) as temporary:
                    temporary.write_text(_SAID, encoding="utf-8")
            for path in old:
                path.unlink()
            for name in sorted(new):
                (made / name).replace(place / name)
            mark.unlink(missing_ok=True)
    finally:
        shutil.rmtree(made, ignore_errors=True)
