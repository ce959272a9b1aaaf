"""The page of a live scan: well formed, deaf to names, and in its words what the state is."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

from ptycho.core.reconstruction import Reconstruction
from ptycho.report.live_page import LiveState, live_page, live_state

HOSTILE = '"><img src=https://example.org/a.png onerror=alert(1)><script>alert(2)</script>'


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
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_it_is_well_formed_and_every_number_has_its_place() -> None:
    page = live_page("scan <7>")
    read = Reader(page)
    ids = {attributes["id"] for _, attributes in read.seen if attributes.get("id")}
    texts = json.loads(live_state(LiveState("waiting"), "scan"))["texts"]
    assert texts.keys() <= ids and {"picture", "gone", "verdict"} <= ids
    assert "scan &lt;7&gt;" in page and "<7>" not in page
    assert all(attributes.get("alt") for tag, attributes in read.seen if tag == "img")


def test_nothing_but_its_own_script_runs_and_nothing_is_fetched_from_elsewhere() -> None:
    page = live_page(HOSTILE)
    script = page.split("<script>")[-1].split("</script>")[0]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in page
    read = Reader(page)
    assert [tag for tag, _ in read.seen if tag in ("script", "img", "link")] == ["link", "img", "script"]
    policy = next(str(one["content"]) for tag, one in read.seen if tag == "meta" and "http-equiv" in one)
    assert "default-src 'none'" in policy and "http" not in policy.replace("http-equiv", "")
    assert not any(
        re.search(r"https?:|//", str(one.get(name) or "")) for _, one in read.seen for name in ("src", "href")
    )


def test_the_state_is_in_words(result: Reconstruction) -> None:
    first = json.loads(live_state(LiveState("waiting"), "scan"))
    assert first["texts"]["error"] == "–" and first["texts"]["grade"] == "Trust: not measured" and first["picture"] == 0
    state = LiveState("measuring", "much", 120, 200.4, 3, 2, 1, 80, 0.01234, 0.876, result.trust, 5)
    found = json.loads(live_state(state, "scan"))
    texts = found["texts"]
    assert texts["state"] == "Measuring: much" and texts["rate"] == "200" and texts["latency"] == "0.88 s"
    assert (texts["joined"], texts["waiting"], texts["alone"], texts["left"]) == ("120", "3", "2", "1")
    assert result.trust is not None and texts["grade"] == f"Trust: {result.trust.grade}"
    assert texts["sentence"].lower() == result.trust.verdict.lower() and found["title"].startswith("120 ")
