"""The page as a whole: well formed, without a request, deaf to what names would have it do, and quick in a browser."""

from __future__ import annotations

import base64
import hashlib
import importlib
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ptycho.report.content import Content
from ptycho.report.page import report_page, save_report
from ptycho.report.sections import SECTIONS

VOID = {"wbr", "meta", "img", "input", "br", "link"}


class Reader(HTMLParser):
    """What is in a page; an element that is not closed, or closed twice, is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every such element."""
        return [attributes for name, attributes in self.seen if name == tag]


@pytest.fixture
def page(content: Content) -> str:
    return report_page(content)


def test_it_is_well_formed_and_has_every_section(page: str) -> None:
    read = Reader(page)
    anchors = [one["id"] for one in read.of("section") if one.get("id")]
    assert anchors == ["verdict", *SECTIONS]
    ids = [attributes["id"] for _, attributes in read.seen if attributes.get("id")]
    assert len(ids) == len(set(ids))
    links = [one["href"] for one in read.of("a") if str(one["href"]).startswith("#")]
    assert {str(link)[1:] for link in links} <= set(ids)
    assert len(read.of("h1")) == 1 and read.of("html")[0]["lang"] == "en"


def test_pictures_have_words_and_what_can_be_used_can_be_reached(page: str) -> None:
    read = Reader(page)
    assert all(one.get("alt") for one in read.of("img"))
    stages = [one for one in read.of("div") if one.get("class") == "stage"]
    assert len(stages) > 10 and all(one["tabindex"] == "0" and one["aria-label"] for one in stages)
    assert all(one.get("aria-label") for one in read.of("button"))


def test_nothing_is_fetched(page: str) -> None:
    for _, attributes in Reader(page).seen:
        for name in ("src", "srcset", "poster", "data", "xlink:href", "style"):
            value = attributes.get(name) or ""
            assert not re.search(r"https?:|//|url\(", value) or value.startswith("data:image/png;base64,"), name
    style = page.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style
    assert not {tag for tag, _ in Reader(page).seen} & {"link", "iframe", "object", "embed", "base"}


def test_names_are_text_whatever_they_say(page: str) -> None:
    read = Reader(page)
    assert len(read.of("script")) == 1
    assert not [name for _, attributes in read.seen for name in attributes if name.startswith("on")]
    assert not [one for one in read.of("img") if not str(one["src"]).startswith("data:")]
    assert [one["href"] for one in read.of("a") if "example.org" in str(one["href"])] == [
        "%22%3E%3Cimg%20src%3Dhttps%3A//example.org/a.png%20onerror%3Dalert%281%29%3E%3Cscript%3Ealert%282%29"
        "%3C/script%3E%24title"
    ]
    assert "$title" in page  # a template is filled once


def test_no_script_but_its_own_may_run(page: str) -> None:
    policy = next(one for one in Reader(page).of("meta") if one.get("http-equiv") == "Content-Security-Policy")
    script = page.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in str(policy["content"])
    assert "default-src 'none'" in str(policy["content"])


def test_it_is_written_whole_and_twice_the_same(content: Content, tmp_path: Path) -> None:
    first, second = (save_report(content, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second and len(first) < 1_000_000
    bare = Content(replace(content.reconstruction, trust=None, error_history=(), counts_from=None))
    Reader(report_page(bare))


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """`visit(path, width, scheme)` opens a page in a headless browser."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        driver = importlib.import_module("browser")
    if driver.found_browser() is None:
        pytest.skip("no Chromium or Chrome is installed: apt-get install chromium")
    with driver.started(tmp_path_factory.mktemp("profile")) as running:
        yield partial(driver.Page, running)


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it(content: Content, tmp_path: Path, visit: Any, width: int, scheme: str) -> None:
    shown = visit(save_report(content, tmp_path / "report.html"), width, scheme)
    assert shown.complaints == [] and shown.requests == []
    assert shown.seconds < 2
    assert shown.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    ink, paper = (
        shown.run(f"getComputedStyle(document.documentElement).{name}.match(/\\d+/g).map(Number)")
        for name in ("color", "backgroundColor")
    )
    assert (sum(ink) < sum(paper)) is (scheme == "light")
    assert abs(sum(ink) - sum(paper)) > 500


@pytest.mark.slow
def test_it_can_be_zoomed_and_moved(content: Content, tmp_path: Path, visit: Any) -> None:
    shown = visit(save_report(content, tmp_path / "report.html"), 1280)
    sheets = "[...document.querySelectorAll('#object .sheet')].map(one => one.style.transform)"
    shown.run("document.querySelector('#object .stage').scrollIntoView({block: 'center'})")
    box = shown.run("document.querySelector('#object .stage').getBoundingClientRect().toJSON()")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    bar = "document.querySelector('#object .scalebar span').textContent"
    assert shown.run(bar) == "200 nm"
    assert shown.run(sheets) == ["translate(0px, 0px) scale(1)"] * 2
    for _ in range(6):
        shown.wheel(x, y, -120)
    zoomed = shown.run(sheets)
    assert zoomed[0] == zoomed[1] != "translate(0px, 0px) scale(1)"  # both together
    assert shown.run(bar) in ("50 nm", "100 nm")
    shown.mouse("mousePressed", x, y)
    shown.mouse("mouseMoved", x + 40, y + 30)
    shown.mouse("mouseReleased", x + 40, y + 30)
    assert shown.run(sheets)[0] != zoomed[0]
    shown.run("document.querySelector('#object [data-zoom=fit]').click()")
    assert shown.run(sheets)[0] == "translate(0px, 0px) scale(1)"
    shown.run("document.querySelector('#object .stage').focus()")
    shown.key("+")
    assert shown.run(sheets)[0].endswith("scale(1.5)")
    assert shown.complaints == []


@pytest.mark.slow
def test_the_buttons_of_the_page(content: Content, tmp_path: Path, visit: Any) -> None:
    shown = visit(save_report(content, tmp_path / "report.html"), 1280)
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    light = shown.run(paper)
    shown.run("document.querySelector('.theme').click()")
    assert shown.run(paper) != light
    dots = "getComputedStyle(document.querySelector('#object .dots')).display"
    assert shown.run(dots) == "none"
    shown.run("document.querySelector('[data-dots]').click()")
    assert shown.run(dots) == "block"
    assert shown.complaints == []
