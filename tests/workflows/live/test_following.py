"""What grows while patterns come: shown, kept, ended, gone on with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho.config.options import IterationOptions
from ptycho.core.formats.assembled import ScanParts
from ptycho.core.formats.reconstruction_npz import read_npz
from ptycho.core.live.frame_store import FrameStore
from ptycho.core.live.intake import News
from ptycho.core.live.joining import Joined, Joining, Tally
from ptycho.raw_data import RawData
from ptycho.workflows.front_door import Request
from ptycho.workflows.live import following
from ptycho.workflows.live.arrivals import LiveScan
from ptycho.workflows.live.following import Ends, LiveView, Shown, _Patterns
from ptycho.workflows.preview import PREVIEW
from ptycho.workflows.unfinished import SO_FAR


class Played:
    """An intake whose frames come some at a time, each time that news are asked for."""

    def __init__(self, data: RawData, store: FrameStore, step: int) -> None:
        self.data, self.store, self.step = data, store, step
        self.joining, self.come, self.asked = Joining(), 0, 0

    def news(self, known: int = 0, seconds: float = 0.0) -> News:
        self.asked += 1
        for number in range(self.come, min(self.come + self.step, len(self.data))):
            if self.joining.frame(number, bytes([number])):
                self.store.add(self.data.diff3d[number])
            self.joining.position(number, self.data.xcoords[number], self.data.ycoords[number])
        self.come += self.step
        fresh, known = self.joining.joined_since(known)
        quiet = 1.0 if self.come > 3 * len(self.data) else 0.01
        since = np.full(len(fresh.numbers), time.monotonic())
        return News(fresh, since, known, self.joining.contradicted, self.joining.tally, quiet, False)


@pytest.fixture
def view(tmp_path: Path, plain: RawData) -> Iterator[Any]:
    """A view of nothing yet, and what it has shown."""
    plain.to_file(tmp_path / "like.npz")
    shown: list[Shown] = []
    with FrameStore(tmp_path / "frames.raw") as store:
        scan = LiveScan(ScanParts(like=tmp_path / "like.npz", position_unit="px"), store, lambda: None)
        request = Request("pytorch", IterationOptions(), tell=lambda line: None)
        yield LiveView(scan, request, tmp_path, shown.append), shown, store


def test_it_is_shown_until_it_is_over_and_kept(
    view: Any, plain: RawData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_DONE", 8)
    seen, shown, store = view
    why = seen.follow(Played(plain, store, 40), Ends(idle=0.5))
    assert why == "nothing has come for 0.5 s"
    pictures = [one for one in shown if one.picture is not None]
    assert pictures[-1].tally.joined == pictures[-1].patterns == len(plain)
    assert pictures[0].patterns < len(plain) and [one.number for one in pictures][:2] == [1, 2]
    assert pictures[-1].error < 0.7 * pictures[0].error and pictures[-1].trust is not None
    assert (tmp_path / PREVIEW).read_bytes().startswith(b"\x89PNG") and pictures[-1].picture.startswith(b"\x89PNG")
    assert f"{len(plain)} joined" in pictures[-1].line and "in the picture, error" in pictures[-1].line
    assert 0 < seen.latency.median <= seen.latency.most < 60 and "s at the median" in str(seen.latency)
    kept = read_npz(tmp_path / SO_FAR)
    assert kept.frame == seen.canvas.frame and kept.method == "refined"
    again = LiveView(seen.scan, seen.request, tmp_path, shown.append)
    again.resume()
    assert again.solver.probe is not None and again.solver.bursts > 3
    lit = seen.canvas.light > 0
    np.testing.assert_array_equal(again.canvas.object[lit], seen.canvas.object[lit])


def test_it_ends_when_so_many_are_joined(view: Any, plain: RawData) -> None:
    seen, _, store = view
    intake = Played(plain, store, 30)
    assert seen.follow(intake, Ends(count=55)).startswith("60 patterns are joined")
    assert intake.come == 60


@pytest.mark.parametrize(
    ("tally", "quiet", "closed", "words"),
    [
        (Tally(5, 0, 2, 0, 0), 0.1, True, "closed the file"),
        (Tally(5, 1, 2, 0, 0), 0.1, True, ""),  # its position may still come
        (Tally(5, 1, 2, 0, 0), 61.0, True, "nothing has come for 60 s"),
        (Tally(0, 0, 0, 0, 0), 0.0, False, ""),
        (Tally(9, 0, 0, 0, 0), 0.0, False, "9 patterns"),
    ],
)
def test_when_it_is_over(tally: Tally, quiet: float, closed: bool, words: str) -> None:
    news = News(Joined.none(), np.zeros(0), 0, frozenset(), tally, quiet, closed)
    found = Ends(count=9).reached(news)
    assert words in found and bool(found) is bool(words)


def test_the_least_seen_come_first_and_of_these_the_newest() -> None:
    patterns = _Patterns()
    fresh = Joined(np.arange(6), np.arange(6), np.zeros(6), np.zeros(6))
    patterns.add(News(fresh, np.zeros(6), 6, frozenset(), Tally(6, 0, 0, 0, 0), 0.0, False))
    patterns.visits[:] = [4, 0, 0, 4, 0, 2]
    assert patterns.neediest(2).tolist() == [2, 4] and patterns.neediest(4).tolist() == [1, 2, 4, 5]
    assert patterns.neediest(9).tolist() == list(range(6))


def test_what_contradicts_itself_later_leaves() -> None:
    patterns = _Patterns()
    for k in (0, 3):
        fresh = Joined(np.arange(k, k + 3), np.arange(k, k + 3), np.zeros(3), np.ones(3))
        gone = frozenset([1] if k else [])
        patterns.add(News(fresh, np.full(3, float(k)), k + 3, gone, Tally(5, 0, 0, 0, 1), 0.0, False))
    assert patterns.joined.numbers.tolist() == [0, 2, 3, 4, 5]
    assert len(patterns.visits) == len(patterns.since) == len(patterns.lit) == len(patterns.shown) == 5
