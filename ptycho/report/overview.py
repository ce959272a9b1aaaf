"""One page of many scans: what came of each, a picture of its object, and where its report is."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import numpy as np
from matplotlib.colors import Normalize
from PIL import Image

from ptycho.core.files.atomic import RESULT_FILE, atomic_path
from ptycho.core.formats.reconstruction_npz import read_npz
from ptycho.figures.drawing import colour_range, colours_of, seen_box, seen_pixels
from ptycho.figures.raster import raster_png
from ptycho.figures.reconstruction import centred_phase
from ptycho.figures.trust import COLOURS
from ptycho.report.elements import Markup, data_uri, joined, tag, text
from ptycho.report.page import REPORT_FILE

__all__ = ["Entry", "overview_page", "save_overview"]

_SIDE = 240
"""Pixels of a picture, at most."""
_HEAD = (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; style-src '
    "'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n"
    '<meta name="color-scheme" content="light dark">\n'
)
_STYLE = """
.scans { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); padding: 0;
  list-style: none; }
.scans li { background: var(--card); border: 1px solid var(--line); border-radius: 12px; overflow: hidden; }
.scans img, .scans .none { display: block; width: 100%; aspect-ratio: 1; object-fit: contain;
  background: var(--hatch); }
.scans .none { display: grid; place-items: center; color: var(--soft); }
.scans .text { padding: 0.7rem 0.9rem; font-size: 0.9rem; overflow-wrap: anywhere; }
.scans .grade { display: inline-block; color: #fff; background: var(--verdict); border-radius: 99px; padding: 0 0.6rem;
  font-size: 0.8rem; }
.scans p { margin: 0.3rem 0 0; }
"""


@dataclass(frozen=True)
class Entry:
    """A scan on the page."""

    scan: str
    folder: Path
    """Of its run."""
    status: str
    """'done', 'failed' or 'not yet'."""
    grade: str
    """Of its trust; empty where there is none."""
    numbers: str
    """In a line."""
    said: str
    """The verdict, or what went wrong."""


def overview_page(entries: Sequence[Entry], folder: Path) -> str:
    """The page as HTML, with its pictures in it; links lead from `folder` to the reports."""
    counted = [f"{sum(one.status == status for one in entries)} {status}" for status in ("done", "failed", "not yet")]
    return joined(
        (
            Markup(_HEAD),
            tag("title", f"{len(entries)} scans – reconstructions"),
            tag("style", Markup(files("ptycho.report").joinpath("report.css").read_text(encoding="utf-8") + _STYLE)),
            Markup("\n</head>\n<body>\n"),
            tag(
                "div",
                tag("p", "Reconstructions", class_="kicker"),
                tag("h1", f"{len(entries)} scans"),
                tag("p", ", ".join(counted), class_="made"),
                tag("main", tag("ul", *(_item(one, folder) for one in entries), class_="scans")),
                class_="page",
            ),
            Markup("\n</body>\n</html>\n"),
        )
    )


def save_overview(entries: Sequence[Entry], path: Path) -> Path:
    """Write the page, whole or not at all, and return its path."""
    with atomic_path(path) as temporary:
        temporary.write_text(overview_page(entries, Path(path).parent), encoding="utf-8")
    return Path(path)


def _item(entry: Entry, folder: Path) -> Markup:
    result, report = entry.folder / RESULT_FILE, entry.folder / REPORT_FILE
    shown: Markup = tag("div", entry.status, class_="none")
    if entry.status == "done" and result.is_file():
        shown = tag("img", src=data_uri(_thumbnail(result)), alt=f"Phase of the object of {entry.scan}", loading="lazy")
    name = text(entry.scan)
    if report.is_file():
        target = quote(report.relative_to(folder).as_posix() if report.is_relative_to(folder) else report.as_posix())
        shown, name = tag("a", shown, href=target, tabindex=-1), tag("a", entry.scan, href=target)
    return tag("li", shown, tag("div", *_words(entry, name), class_="text"))


def _words(entry: Entry, name: Markup) -> Iterator[Markup]:
    label = entry.grade or entry.status
    yield tag("strong", name)
    colours: dict[str, str] = dict(COLOURS.items())
    colours[""] = COLOURS["fails" if entry.status == "failed" else "unknown"]
    yield tag("p", tag("span", label, class_="grade", style=f"--verdict:{colours[entry.grade]}"))
    if entry.numbers:
        yield tag("p", entry.numbers)
    if entry.said:
        yield tag("p", entry.said)


def _thumbnail(path: Path) -> bytes:
    """The phase of a result in small, as PNG."""
    found = read_npz(path)
    seen = seen_pixels(found.object, found.coverage)
    phase = centred_phase(found.object, found.coverage, seen)[0]
    y0, y1, x0, x1 = seen_box(seen)
    limits = colour_range([phase[seen]], "phase")
    box = np.s_[y0:y1, x0:x1]
    with Image.open(
        io.BytesIO(raster_png(phase[box], seen[box], colours_of("phase", limits), Normalize(*limits)))
    ) as big:
        small = big.convert("RGBA")
    small.thumbnail((_SIDE, _SIDE))
    written = io.BytesIO()
    small.save(written, "PNG", optimize=True)
    return written.getvalue()
