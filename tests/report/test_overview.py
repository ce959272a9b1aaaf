"""The page of many scans: every scan once, its picture in it, its report linked, names of files as text."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

import ptycho
from ptycho.report.overview import Entry, overview_page, save_overview


class Page(HTMLParser):
    """What stands in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.links += [found["href"]] if "href" in found else []
        self.images += [found["src"]] if "src" in found else []

    def handle_data(self, data) -> None:
        self.words.append(data)


@pytest.fixture
def entries(tmp_path: Path, fixture_file: Path) -> list[Entry]:
    """One that is done, with a result and a report; one that failed, whose name is markup."""
    done = tmp_path / "a b"
    done.mkdir()
    ptycho.refine(fixture_file, iterations=1).save(done / "reconstruction.npz")
    (done / "report.html").write_text("report")
    return [
        Entry("a b.cxi", done, "done", "usable", "error 0.5, 3 s", "usable, not quantitative"),
        Entry("<script>alert(1)</script>.npz", tmp_path / "x", "failed", "", "", "no such file & <b>"),
        Entry("c.npz", tmp_path / "c", "not yet", "", "", ""),
    ]


def test_every_scan_with_its_picture_and_its_report(entries, tmp_path):
    page = Page(save_overview(entries, tmp_path / "index.html").read_text(encoding="utf-8"))
    assert page.links == ["a%20b/report.html"] * 2
    assert len(page.images) == 1 and page.images[0].startswith("data:image/png;base64,")
    assert page.tags.count("li") == 3
    assert {"a b.cxi", "c.npz", "usable", "failed", "not yet", "1 done, 1 failed, 1 not yet"} <= set(page.words)


def test_what_files_say_is_text(entries, tmp_path):
    page = Page(overview_page(entries, tmp_path))
    assert "script" not in page.tags and "b" not in page.tags
    assert "<script>alert(1)</script>.npz" in page.words and "no such file & <b>" in page.words


def test_nothing_is_fetched(entries, tmp_path):
    text = overview_page(entries, tmp_path)
    assert "http:" not in text and "https:" not in text and "url(" not in text
