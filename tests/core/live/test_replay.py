"""A stored scan is brought to a folder or a file, and what follows it finds it again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptycho.core.live import growing_file
from ptycho.core.live.frame_store import FrameStore
from ptycho.core.live.intake import Intake
from ptycho.core.live.opening import open_source
from ptycho.core.live.replay import play, writer_to
from ptycho.core.live.schedule import Faults, schedule
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import ScanStream
from ptycho.errors import OutputError


@pytest.fixture
def scan() -> ScanStream:
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 9, (2, 11))
    return ScanStream.of(ScanFile(rng.poisson(3, (11, 8, 8)).astype(np.uint16), x, y, None))


@pytest.mark.parametrize("name", ["feed", "feed.h5"])
def test_what_comes_with_faults_is_found_again_to_the_last_digit(
    scan: ScanStream, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing_file, "_GRACE", 0.0)
    arrivals = schedule(11, 1e4, Faults(shuffled=True, late=0.01, drop=0.1, double=0.5, seed=5))
    target = tmp_path / name
    whole = {k: sum(due.number == k and due.kind == kind for due in arrivals) for kind in ("frame",) for k in range(11)}
    placed = {due.number for due in arrivals if due.kind == "position"}
    expected = [k for k in range(11) if whole[k] and k in placed]
    assert 0 < len(expected) < 11
    with FrameStore(tmp_path / "store") as store:
        with Intake(*open_source(str(target)), store, pause=0.001) as intake:
            with writer_to(target, scan.frames.read(np.array([0]))[0]) as writer:
                assert play(scan, arrivals, writer) < 5
            known = 0
            for _ in range(500):
                news = intake.news(known, 0.02)
                known = news.known
                if news.tally.joined == len(expected) and news.quiet > 0.2:
                    break
            found = intake.joined()
        assert found.numbers.tolist() == expected
        np.testing.assert_array_equal(store.frames(found.places).whole(), scan.frames.read(np.array(expected)))
        np.testing.assert_array_equal(found.x, scan.fields.xcoords[expected])
        np.testing.assert_array_equal(found.y, scan.fields.ycoords[expected])
        assert news.tally.doubled > 0 and news.tally.contradicted == 0


def test_it_keeps_to_the_schedule(scan: ScanStream, tmp_path: Path) -> None:
    waited: list[float] = []
    with writer_to(tmp_path / "feed", scan.frames.read(np.array([0]))[0]) as writer:
        done: list[int] = []
        play(scan, schedule(3, 0.01), writer, done.append, waited.append)
    assert done == [1, 2, 3, 4, 5, 6]
    assert [round(seconds / 100) for seconds in waited if seconds > 1] == [1, 1, 2, 2]


def test_nothing_is_written_over(scan: ScanStream, tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    (tmp_path / "feed.h5").write_text("mine")
    for taken in (tmp_path, tmp_path / "feed.h5"):
        with pytest.raises(OutputError, match="nothing there"):
            writer_to(taken, scan.frames.read(np.array([0]))[0])
