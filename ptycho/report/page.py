"""The page: its sections in order, with the style and the script in it, so that nothing is ever fetched."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from pathlib import Path
from string import Template

from ptycho.core.files.atomic import atomic_path
from ptycho.report.content import Content, name_of
from ptycho.report.elements import joined, tag, text
from ptycho.report.sections import SECTIONS, heading

__all__ = ["REPORT_FILE", "report_page", "save_report"]

REPORT_FILE = "report.html"
"""The report, in the folder of a run."""


def report_page(content: Content) -> str:
    """The report as HTML.

    The page says to the browser that nothing may be loaded and that its own script alone may run, so that text that
    a file brought can do nothing even if it were taken for markup.
    """
    made = {anchor: part for anchor, make in SECTIONS.items() if (part := make(content)) is not None}
    sections = (
        tag("section", tag("h2", title, id=f"{anchor}-title"), body, id=anchor, aria_labelledby=f"{anchor}-title")
        for anchor, (title, body) in made.items()
    )
    links = (tag("a", anchor.capitalize(), href=f"#{anchor}") for anchor in made)
    script = _resource("report.js")
    return Template(_resource("report.html")).substitute(
        title=text(f"{name_of(content.reconstruction)} – reconstruction report"),
        hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
        style=_resource("report.css"),
        script=script,
        heading=heading(content),
        contents=joined(links),
        sections=joined(sections),
        version=text(content.reconstruction.provenance.get("version") or ""),
    )


def save_report(content: Content, path: Path) -> Path:
    """Write the report, whole or not at all, and return its path."""
    with atomic_path(path) as temporary:
        temporary.write_text(report_page(content), encoding="utf-8")
    return Path(path)


def _resource(name: str) -> str:
    return files("ptycho.report").joinpath(name).read_text(encoding="utf-8")
