"""Build the documentation site, strictly: `python scripts/docs/build.py` writes build/site, or says what is wrong.

A broken link, an anchor that is not there, a page outside the navigation, a public name without an entry and anything
that a browser would fetch from elsewhere are errors. `docs/documentation.md` says why it is made so.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import yaml
from api_pages import API, missing_entries, page_name
from site_pages import ROOT, gather

SETTINGS = ROOT / "scripts" / "docs" / "site.yml"
API_PAGES = "API_PAGES"
"""Stands in the navigation for the generated pages."""
_INLINE = re.compile(r"<code>[^<]*--[^<]*</code>")
"""Code in running text; that of blocks has elements within."""
_FLAG = re.compile(r"--[\w-]+")
_FETCHED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")


def main() -> int:
    """Build, and return the exit status."""
    parser = argparse.ArgumentParser(description="Build the documentation site, strictly.")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "site", help="where the site goes")
    output = parser.parse_args().output
    work = ROOT / "build" / "docs"
    site = work / "site"
    try:
        pages = gather(work / "pages")
        settings = configured()
        faults = outside(settings["nav"], pages)
    except LookupError as error:
        faults = [str(error.args[0])]
    faults = faults or built(work, settings) or missing_entries(site) or list(fetched(site))
    for fault in faults:
        sys.stderr.write(f"docs: {fault}\n")
    if not faults:
        for page in site.rglob("*.html"):
            page.write_text(whole_flags(page.read_text(encoding="utf-8")), encoding="utf-8")
        shutil.rmtree(output, ignore_errors=True)
        shutil.move(site, output)
        sys.stdout.write(f"{len(pages)} pages in {output}\n")
    return 1 if faults else 0


def configured() -> dict[str, Any]:
    """The settings of the site, its folders and generated pages filled in."""
    settings: dict[str, Any] = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    settings |= {"docs_dir": "pages", "site_dir": "site"}
    settings["nav"] = list(navigation(settings["nav"]))
    handler = settings["plugins"]["mkdocstrings"]["handlers"]["python"]
    handler["paths"] = [str(ROOT)]
    return settings


def navigation(entries: list[Any]) -> Iterator[Any]:
    """The navigation with the generated pages in their place."""
    for entry in entries:
        if entry == API_PAGES:
            yield from ({title: f"reference/api/{page_name(title)}"} for title in API)
        elif isinstance(entry, dict):
            yield {
                title: list(navigation(inside)) if isinstance(inside, list) else inside
                for title, inside in entry.items()
            }
        else:
            yield entry


def outside(nav: list[Any], pages: list[Path]) -> list[str]:
    """Pages that the navigation does not lead to, and entries that lead to none."""
    listed, there = set(_leaves(nav)), {page.as_posix() for page in pages}
    lost = [f"{name}: expected in the navigation of {SETTINGS.name}, found nowhere" for name in sorted(there - listed)]
    return lost + [f"{SETTINGS.name}: expected the page {name}, found none" for name in sorted(listed - there)]


def _leaves(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from _leaves(entry)


def built(work: Path, settings: dict[str, Any]) -> list[str]:
    """Run the generator in strict mode; what it found wrong goes to stderr."""
    (work / "mkdocs.yml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "-f", "mkdocs.yml"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    if done.returncode:
        return [re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)]
    return []


def whole_flags(page: str) -> str:
    """A page in which no line ends within a flag: browsers break lines after `--`."""
    return _INLINE.sub(lambda code: _FLAG.sub(r'<span class="flag">\g<0></span>', code[0]), page)


def fetched(site: Path) -> Iterator[str]:
    """What a page would fetch from another server."""
    for page in sorted(site.rglob("*.html")):
        for address in sorted(set(_FETCHED.findall(page.read_text(encoding="utf-8")))):
            yield f"{page.relative_to(site)}: expected nothing from other servers, found {address}"


if __name__ == "__main__":
    sys.exit(main())
