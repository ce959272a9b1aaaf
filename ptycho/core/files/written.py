"""Which files a run has written itself, and which an earlier one has left in the same folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ptycho.core.files.atomic import atomic_path
from ptycho.core.files.damage import readable

__all__ = ["written", "written_before"]


def written(path: Path) -> list[int] | None:
    """Which file this is, None where there is none: one that is written anew is another one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_ino, found.st_mtime_ns]


def written_before(kept: Path, files: Sequence[Path]) -> dict[str, list[int] | None]:
    """`written` of each file, by its name, as it was when the run began, which is kept in a file of its own.

    Raises:
        DataError: what was kept is damaged.
    """
    if not kept.exists():
        with atomic_path(kept) as temporary:
            temporary.write_text(json.dumps({path.name: written(path) for path in files}), encoding="utf-8")
    with readable(kept, "what was there before a run", advice="remove it"):
        found = json.loads(kept.read_text(encoding="utf-8"))
        return {path.name: found[path.name] for path in files}
