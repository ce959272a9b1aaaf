"""The pages of the site, gathered from the repository: where each lies, its links, its generated parts."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from api_pages import API, api_index, api_page, page_name
from notebook_page import notebook_page
from reference import command_reference, config_reference

__all__ = ["ROOT", "gather", "place_of"]

ROOT = Path(__file__).parents[2]

GENERATED: Mapping[str, Callable[[], str]] = {
    "configuration": config_reference,
    "commands": command_reference,
    "api": api_index,
    "contributing": lambda: _contributing(),
}
"""What stands in a page for `<!-- generated: NAME -->`."""
SINGLE_PAGES = ("CHANGELOG.md", "LICENSE")
"""Files of the repository's root that are pages; `CONTRIBUTING.md` stands in docs/extending.md."""
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)


def place_of(path: Path) -> Path | None:
    """Where a file or folder of the repository lies on the site, relative to its root; None when it is not there."""
    inside = path.relative_to(ROOT)
    if inside.parts[:1] == ("docs",):
        return Path(*inside.parts[1:])
    if inside.parts[:1] in (("specs",), ("notebooks",)):
        return Path(str(inside).replace("README.md", "index.md")).with_suffix(
            ".md" if inside.suffix == ".ipynb" else inside.suffix
        )
    if inside.name == "CONTRIBUTING.md":
        return Path("extending.md")
    if inside.name in SINGLE_PAGES and len(inside.parts) == 1:
        return Path(inside.name.lower()).with_suffix(".md")
    return None


def gather(target: Path) -> list[Path]:
    """Write every page and picture of the site to a fresh folder.

    Returns:
        The pages, relative to the folder.

    Raises:
        LookupError: a link to a file that is not there.
    """
    shutil.rmtree(target, ignore_errors=True)
    for folder in ("docs", "specs", "notebooks"):
        for path in sorted((ROOT / folder).rglob("*")):
            place = place_of(path)
            if place is not None and path.is_file():
                _copy(path, target / place)
    for name in SINGLE_PAGES:
        _copy(ROOT / name, target / str(place_of(ROOT / name)))
    for title in API:
        _write(target / "reference" / "api" / page_name(title), api_page(title))
    return sorted(path.relative_to(target) for path in target.rglob("*.md"))


def _copy(path: Path, target: Path) -> None:
    if path.suffix == ".ipynb":
        _write(target, notebook_page(path, target.parent, lambda text: linked(text, path)))
    elif path.suffix == ".md":
        _write(target, linked(filled(path.read_text(encoding="utf-8")), path))
    elif path.suffix in (".png", ".svg", ".css", ".js"):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    elif path.name == "LICENSE":
        _write(target, f"# License\n\n```text\n{path.read_text(encoding='utf-8')}```\n")


def _write(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def filled(text: str) -> str:
    """The text with its generated parts."""
    return re.sub(r"<!-- generated: (\w+) -->", lambda found: GENERATED[found[1]](), text)


def linked(text: str, source: Path) -> str:
    """The text with its links as they are on the site: to pages there, to nothing where a file has no page.

    Raises:
        LookupError: a link to a file that is not there.
    """
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found[0])
        return f"\0{len(kept) - 1}\0"

    def change(found: re.Match[str]) -> str:
        return found[1] + _target(found[2], source) + found[3]

    return re.sub("\0(\\d+)\0", lambda found: kept[int(found[1])], _LINK.sub(change, _CODE.sub(keep, text)))


def _target(link: str, source: Path) -> str:
    path, mark, anchor = link.partition("#")
    here = place_of(source)
    if "://" in link or not path or here is None:
        return link
    found = Path(os.path.normpath(source.parent / path))
    place = place_of(found) if found.is_relative_to(ROOT) else None
    generated = place is not None and place.parts[:2] == ("reference", "api")
    if place is None or not (found.exists() or generated):
        raise LookupError(f"{source.relative_to(ROOT)}: expected a link to a page of the site, found {link}")
    return os.path.relpath(place, here.parent) + mark + anchor


def _contributing() -> str:
    """The recipes of CONTRIBUTING.md, without its title; where there is none yet, where to look instead."""
    path = ROOT / "CONTRIBUTING.md"
    if not path.is_file():
        return ""
    # it becomes a part of a page in docs/, whose links are looked up from there
    text = _LINK.sub(lambda found: found[1] + _from_docs(found[2]) + found[3], path.read_text(encoding="utf-8"))
    return re.sub(r"\A# .*\n", "", text)


def _from_docs(link: str) -> str:
    """A link of a file at the root, as a file in docs/ has it."""
    return link if "://" in link or link.startswith("#") else os.path.relpath(link, "docs")
