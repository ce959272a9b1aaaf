"""Reading in a thread: what comes is joined, told and waited for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho.core.live.frame_store import FrameStore
from ptycho.core.live.intake import Intake
from ptycho.core.live.joining import PositionRow
from ptycho.errors import DataError


class Planned:
    """A source whose news are planned, look by look."""

    factor = None

    def __init__(self, *looks: list[Any] | Exception, closed: bool = False) -> None:
        self.looks, self.closes, self.troubles = list(looks), closed, ["one was odd"]
        self.was_closed = False

    @property
    def closed(self) -> bool:
        return self.closes and not self.looks

    def news(self) -> Iterator[Any]:
        look = self.looks.pop(0) if self.looks else []
        if isinstance(look, Exception):
            raise look
        yield from look

    def rest(self) -> None:
        pass

    def close(self) -> None:
        self.was_closed = True


def frame(number: int) -> tuple[int, Any]:
    return number, np.full((2, 2), number, np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FrameStore]:
    with FrameStore(tmp_path / "frames.raw") as made:
        yield made


def test_what_comes_is_joined_by_number_and_told(store: FrameStore) -> None:
    frames = Planned([frame(4), frame(2), (9, np.ones((3, 3)))], [frame(2), frame(7)], closed=True)
    positions, told = Planned([PositionRow(5, 0.5, 1.0)], [], [PositionRow(3, 2.0, 3.0)]), []
    with Intake(frames, positions, store, 1, told.append, 0.001) as intake:
        known, numbers = 0, []
        while len(numbers) < 2:
            news = intake.news(known, 5.0)
            known, numbers = news.known, [*numbers, *news.fresh.numbers.tolist()]
            assert len(news.since) == len(news.fresh.numbers)
        assert numbers == [5, 3]
        until = time.monotonic() + 5
        while not intake.news(known, 0.001).closed and time.monotonic() < until:
            pass
        news = intake.news(known)
        assert news.closed and news.tally == (2, 1, 0, 1, 0) and 0 < news.quiet < 5
        found = intake.joined()
        np.testing.assert_array_equal(store.frames(found.places).whole()[:, 0, 0], [2, 4])
        assert found.x.tolist() == [2.0, 0.5]
    assert frames.was_closed and positions.was_closed
    assert sorted(told)[0].startswith("frame 10 is left out") and told.count("one was odd") == 2


def test_nothing_is_waited_for_longer_than_asked(store: FrameStore) -> None:
    with Intake(Planned(), Planned(), store, pause=0.001) as intake:
        begun = time.monotonic()
        news = intake.news(0, 0.05)
        assert 0.05 <= time.monotonic() - begun < 2 and news.quiet == 0 and not news.closed


def test_what_reading_ends_with_is_raised_where_news_are_asked_for(store: FrameStore) -> None:
    with (
        Intake(Planned(DataError("the table is odd")), Planned(), store) as intake,
        pytest.raises(DataError, match="odd"),
    ):
        intake.news(0, 5.0)
