"""The manifest of a scan map: what its members are, which file it was made of, and whether that is still so."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ptycho.core.files.atomic import atomic_path
from ptycho.core.files.damage import DAMAGE, check_regular, readable
from ptycho.core.files.digest import file_digest
from ptycho.errors import DataError

__all__ = [
    "MANIFEST",
    "Layout",
    "Manifest",
    "Source",
    "check_fresh",
    "is_map",
    "manifest_content",
    "map_folder",
    "renewal",
]

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FORMAT = "ptychopinn-scan-map"
VERSION = 1

_AGAIN = "make the map again (ptycho dataset map SCAN --renew)"


@dataclass(frozen=True)
class Source:
    """A file as it was."""

    name: str
    path: str
    """Absolute."""
    size: int
    """Bytes."""
    mtime_ns: int
    """When it was last changed, nanoseconds since 1970."""
    sha256: str
    """Of all its bytes, hexadecimal."""

    @classmethod
    def of(cls, path: Path) -> Source:
        """The file as it is; it is read as a whole."""
        digest = file_digest(path)
        now = path.stat()
        return cls(path.name, str(path.resolve()), now.st_size, now.st_mtime_ns, digest)

    @classmethod
    def stored(cls, content: Mapping[str, Any]) -> Source:
        """Of the entries of a manifest.

        Raises:
            TypeError: an entry that is missing, or of another kind.
        """
        found = cls(**content)
        texts = (found.name, found.path, found.sha256)
        if not all(isinstance(text, str) for text in texts) or {type(found.size), type(found.mtime_ns)} != {int}:
            raise TypeError("the source of the map is not told as text and whole numbers")
        return found

    def same(self, path: Path) -> bool:
        """Whether the file is as it was: size and date, else size and content."""
        now = path.stat()
        if now.st_size != self.size or now.st_mtime_ns == self.mtime_ns:
            return now.st_size == self.size
        if file_digest(path) != self.sha256:
            return False
        logger.info("%s: another date but the same content as when its map was made", path)
        return True


@dataclass(frozen=True)
class Layout:
    """An array as its manifest has it."""

    shape: tuple[int, ...]
    dtype: str
    """As NumPy writes it, with the byte order."""


@dataclass(frozen=True)
class Manifest:
    """What a scan map says of itself."""

    source: Source
    members: dict[str, Layout]
    """Stacks of frames by the name of their file, without `.npy`."""
    units: str | None
    """'amplitude', 'counts', or None where the source did not say."""

    def write(self, folder: Path) -> None:
        """Write the manifest of a folder."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        with atomic_path(folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a folder.

        Raises:
            DataError: none, a damaged one, that of something else, or one of a newer version.
        """
        content = manifest_content(folder)
        if content.get("version") != VERSION:
            raise DataError(
                f"{folder}: expected a scan map of version {VERSION}, found version {content.get('version')}; "
                "update this library, or make the map again with --renew"
            )
        with readable(folder, f"a whole {MANIFEST}", advice=_AGAIN):
            members = {name: Layout(tuple(m["shape"]), str(m["dtype"])) for name, m in content["members"].items()}
            return cls(Source.stored(content["source"]), members, content["units"])


def is_map(folder: Path) -> bool:
    """Whether a folder has a manifest."""
    try:
        return (folder / MANIFEST).is_file()
    except OSError:
        return False


def manifest_content(folder: Path) -> dict[str, Any]:
    """The entries of a manifest of any version.

    Raises:
        DataError: it is damaged or says that the folder is no scan map.
    """
    try:
        check_regular(folder / MANIFEST)
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except DAMAGE as error:
        fact = f"expected the {MANIFEST} of a scan map, found one that cannot be read ({error})"
        raise DataError(f"{folder}: {fact}; remove the folder by hand") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        fact = f"found the format {found!r} in {MANIFEST}"
        raise DataError(f"{folder}: expected a scan map ({FORMAT}), {fact}; name the map of a scan")
    return dict(content)


def map_folder(source: Path) -> Path:
    """Where the map of a scan lies by default: `<scan file name>.map` beside it."""
    return source.with_name(f"{source.name}.map")


def renewal(source: Path, folder: Path) -> str:
    """The command that makes a map again."""
    elsewhere = "" if folder == map_folder(source) else f" -o {shlex.quote(str(folder))}"
    return f"ptycho dataset map {shlex.quote(str(source))}{elsewhere} --renew"


def check_fresh(folder: Path, manifest: Manifest, source: Path | None = None) -> None:
    """Raise DataError where the source of a map is there and has changed.

    Args:
        folder: the map.
        manifest: of the map.
        source: the scan it has to be of; None is the file of its name beside the map, else that of the manifest.
    """
    recorded = manifest.source
    beside = folder.with_name(recorded.name)
    places = [beside] if folder.name == map_folder(beside).name else []
    found = source or next((place for place in (*places, Path(recorded.path)) if place.is_file()), None)
    if found is None:
        logger.info("%s: its source %s is gone; the map is complete and stands alone", folder, recorded.path)
    elif not recorded.same(found):
        now = found.stat()
        raise DataError(
            f"{folder}: expected a map of {found} as it is ({_told(now.st_size, now.st_mtime_ns)}), found one of what "
            f"it was ({_told(recorded.size, recorded.mtime_ns)}); renew it ({renewal(found, folder)}) or remove it "
            f"(ptycho dataset unmap {shlex.quote(str(folder))})"
        )


def _told(size: int, mtime_ns: int) -> str:
    return f"{size} bytes of {datetime.fromtimestamp(mtime_ns / 1e9).isoformat(' ', 'milliseconds')}"
