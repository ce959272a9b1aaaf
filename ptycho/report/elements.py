"""HTML from Python: whatever is not `Markup` is text, and escaped."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable
from typing import Any

__all__ = ["Markup", "breakable", "data_uri", "joined", "table", "tag", "text"]

_EMPTY = frozenset({"img", "meta", "input", "br", "wbr"})
"""Elements without an end."""


class Markup(str):
    """HTML as it is to stand in the page."""

    __slots__ = ()


def text(value: Any) -> Markup:
    """A value as text; what is markup already stays as it is.

    >>> text("<b>"), text(tag("b", "5 < 6"))
    ('&lt;b&gt;', '<b>5 &lt; 6</b>')
    """
    return value if isinstance(value, Markup) else Markup(html.escape(str(value), quote=True))


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """An element.

    Args:
        name: of the element.
        children: text or markup; None is left out.
        attributes: an underscore at the end of a name is dropped, others become hyphens; None and False leave an
            attribute out, True gives it no value.

    >>> tag("img", alt="a > b", data_x=3)
    '<img alt="a &gt; b" data-x="3">'
    """
    parts = [name]
    for key, value in attributes.items():
        if value is not None and value is not False:
            spelt = key.rstrip("_").replace("_", "-")
            parts.append(spelt if value is True else f'{spelt}="{text(value)}"')
    start = f"<{' '.join(parts)}>"
    return Markup(start if name in _EMPTY else f"{start}{joined(children)}</{name}>")


def joined(children: Iterable[Any]) -> Markup:
    """Text and markup one after the other; None is left out."""
    return Markup("".join(text(child) for child in children if child is not None))


def table(rows: Iterable[tuple[Any, ...]], head: tuple[Any, ...] = (), caption: str | None = None) -> Markup:
    """A table whose first column names the row, in a box of its own that scrolls where it is wide."""
    body = (tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in cells)) for first, *cells in rows)
    above = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head))) if head else None
    named = None if caption is None else tag("caption", caption)
    return tag("div", tag("table", named, above, tag("tbody", *body)), class_="scroll", tabindex=0)


def breakable(name: str) -> Markup:
    """A name that a narrow page may break after its dots and low lines.

    >>> breakable("a.b_c")
    'a.<wbr>b_<wbr>c'
    """
    return Markup(re.sub(r"([._])(?=.)", r"\1<wbr>", text(name)))


def data_uri(png: bytes) -> str:
    """A PNG as the address of a picture, which nothing has to be fetched for."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
