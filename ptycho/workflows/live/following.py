"""A scan reconstructed while it is measured: what has come is shown, and in the end all of it is reconstructed.

While patterns come a picture grows, by short iterations of those that need them most, or by the pass of a network;
its cost does not grow with the scan. The end is an ordinary reconstruction of all that was joined, sorted by number
(`ptycho.workflows.front_door`), so that it is the same as if the scan had been there from the first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import InferenceConfig
from ptycho.core.files.atomic import atomic_path
from ptycho.core.formats.reconstruction_npz import read_npz, write_npz
from ptycho.core.live.intake import Intake, News
from ptycho.core.live.joining import Joined, Tally
from ptycho.core.quality.trust import Trust
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.scan_edit.centre import at_corner, probe_offset, probe_shift
from ptycho.raw_data import RawData
from ptycho.workflows.backend_selector import backend_named
from ptycho.workflows.front_door import Request, probe_asked_for
from ptycho.workflows.iteration.start_from import unmeasured
from ptycho.workflows.live.arrivals import LiveScan
from ptycho.workflows.live.canvas import Canvas
from ptycho.workflows.live.one_pass import LivePass
from ptycho.workflows.live.solver import LiveSolver
from ptycho.workflows.preview import PREVIEW
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.solver import Solver
from ptycho.workflows.trust import NOMINAL_PHOTONS, scan_trust
from ptycho.workflows.unfinished import SO_FAR

__all__ = ["Ends", "Latency", "LiveView", "Shown"]

logger = logging.getLogger(__name__)

_JUDGED = 64
"""Patterns of a burst, spread over it, that the object is held against for the trust."""
_FIRST, _FIRST_BLIND = 12, 48
"""Patterns for the first picture, and where the probe has to be found in them."""
_WAIT = 0.5
"""Seconds that are waited for news where there is nothing to do."""
_DONE = 40
"""Iterations of a pattern after which more gain too little for a picture."""
_SAVED, _DRAWN = 10.0, 1.0
"""Seconds between two states that a killed run goes on from, and two pictures."""


@dataclass(frozen=True)
class Ends:
    """When the scan is over; whichever comes first. That the writer has closed its file counts in any case."""

    count: int | None = None
    """So many are joined."""
    idle: float = 60.0
    """Nothing has come for so many seconds."""

    def reached(self, news: News) -> str:
        """Why it is over, in words; empty where it is not."""
        tally = news.tally
        if self.count is not None and tally.joined >= self.count:
            return f"{tally.joined} patterns are joined, as many as were asked for"
        if news.closed and not tally.frames_alone and tally.joined:
            return "the writer has closed the file"
        if news.quiet > self.idle:
            return f"nothing has come for {self.idle:g} s"
        return ""


@dataclass(frozen=True)
class Latency:
    """Seconds from when a frame and its position were both there to the first picture with it."""

    median: float
    most: float
    """Of 95 % of the frames."""

    def __str__(self) -> str:
        return f"{self.median:.2g} s at the median, {self.most:.2g} s for 95 %"


@dataclass(frozen=True, eq=False)
class Shown:
    """What there is to see."""

    state: Literal["waiting", "measuring", "last reconstruction", "done"]
    tally: Tally
    rate: float = 0.0
    """Joined per second, of the last ten seconds."""
    picture: bytes | None = None
    """PNG of phase and amplitude."""
    number: int = 0
    """Of the picture, from 1 on."""
    patterns: int = 0
    """In the picture."""
    error: float = float("nan")
    """Relative Fourier error of the patterns looked at last."""
    trust: Trust | None = None
    """Of the patterns looked at last."""
    latency: float = float("nan")
    """Seconds from the newest joined frame to its picture."""
    said: str = ""
    """What goes on, in a sentence."""

    @property
    def line(self) -> str:
        """It in a line."""
        tally = self.tally
        facts = [f"{tally.joined} joined ({self.rate:.0f}/s)"]
        if tally.frames_alone:
            facts.append(f"{tally.frames_alone} frames wait for a position")
        if tally.positions_alone:
            facts.append(f"{tally.positions_alone} positions for a frame")
        if tally.contradicted:
            facts.append(f"{tally.contradicted} contradicted")
        if self.patterns:
            facts.append(f"{self.patterns} in the picture, error {self.error:.3g}, {self.latency:.2g} s behind")
        return f"{self.state}: {', '.join(facts)}{f'; {self.said}' if self.said else ''}"


@dataclass
class _Patterns:
    """What is joined, in the order in which that was."""

    joined: Joined = field(default_factory=Joined.none)
    since: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    visits: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """(n,) iterations that each was in."""
    shown: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """(n,) seconds until it was in a picture; NaN before."""
    lit: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    """(n,) whether its light is on the canvas."""

    def add(self, news: News) -> None:
        """Take what is new, and leave out what contradicts itself."""
        more = len(news.since)
        self.joined = self.joined.followed_by(news.fresh)
        self.since = np.concatenate([self.since, news.since])
        self.visits = np.concatenate([self.visits, np.zeros(more, np.int64)])
        self.shown = np.concatenate([self.shown, np.full(more, np.nan)])
        self.lit = np.concatenate([self.lit, np.zeros(more, bool)])
        if news.gone:
            kept = np.flatnonzero(~np.isin(self.joined.numbers, list(news.gone)))
            self.joined = self.joined.only(kept)
            for name in ("since", "visits", "shown", "lit"):
                setattr(self, name, getattr(self, name)[kept])

    def neediest(self, count: int) -> NDArray[np.intp]:
        """So many that were seen least, of equal ones the newest."""
        n = len(self.visits)
        if n <= count:
            return np.arange(n)
        return np.sort(np.argpartition(self.visits * n - np.arange(n), count)[:count])


class LiveView:
    """What grows while patterns come.

    Args:
        scan: what has come.
        request: what is asked for; with a `model` the pass of that network is shown.
        folder: of the run: the picture, and what a killed run goes on from, are kept there.
        show: told of what there is to see.
    """

    def __init__(self, scan: LiveScan, request: Request, folder: Path, show: Callable[[Shown], None]) -> None:
        self.scan, self.request, self.folder, self.show = scan, request, folder, show
        self.backend = backend_named(request.backend)
        self.run = self.backend.settled(RunOptions(execution=request.execution))
        solver = Solver.of(self.backend, InferenceConfig(backend=request.backend), self.run)
        self.refine, self.trust = solver.refine, solver.trust
        self.patterns, self.canvas = _Patterns(), Canvas()
        self.solver = LiveSolver(solver, request.iteration, self.canvas)
        self.network: LivePass | None = None
        self.shown = Shown("waiting", Tally(0, 0, 0, 0, 0))
        self._last: tuple[Any, ...] | None = None
        self._rates: list[tuple[float, int]] = []
        self._saved = self._drawn = time.monotonic()
        self._dirty = False

    def resume(self) -> None:
        """Go on with the object that a run which was cut off has left, where there is one."""
        path = self.folder / SO_FAR
        if path.is_file() and self.request.model is None:
            found = read_npz(path)
            self.canvas.take(found.object, found.coverage, found.frame)
            self.solver.begin(found.probe)
            self.solver.bursts = len(found.error_history)
            self.request.tell(f"Going on with the object of {path}; what was joined is read again")

    def follow(self, intake: Intake, ends: Ends) -> str:
        """Show what has come until the scan is over; why it is.

        Raises:
            DataError: what has come cannot be reconstructed.
            PtychoError, OSError: what reading has ended with.
        """
        known = 0
        while True:
            news = intake.news(known, 0.0 if self._busy else _WAIT)
            known = news.known
            self.patterns.add(news)
            self._count(news)
            over = ends.reached(news)
            if over:
                self.save()
                return over
            if len(self.patterns.visits) >= self._first(ends) and self._needed():
                self._advance()
            else:
                self.show(self.shown)
            if self._dirty and time.monotonic() - self._saved > _SAVED:
                self.save()

    def save(self) -> None:
        """Write what a run goes on from, and the picture."""
        self._saved, self._dirty = time.monotonic(), False
        found = self.found()
        if found is not None:
            write_npz(found, self.folder / SO_FAR)
        self._draw()

    def found(self) -> Reconstruction | None:
        """The object so far; None as long as there is none."""
        probe = self.solver.probe if self.network is None else self.network.probe
        if self._last is None or probe is None:
            return None
        data, _, error = self._last
        x, y = self.canvas.frame.local(data.xcoords, data.ycoords)
        found = unmeasured(self.canvas.object, probe, x, y, self.canvas.frame, self.backend.name)
        return replace(found, coverage=self.canvas.light, error_history=(error,) * self.solver.bursts)

    @property
    def latency(self) -> Latency | None:
        """Of all frames that came into a picture; None before the first."""
        seconds = self.patterns.shown[np.isfinite(self.patterns.shown)]
        return Latency(*(float(np.percentile(seconds, share)) for share in (50, 95))) if len(seconds) else None

    @property
    def _busy(self) -> bool:
        """Whether there is something to do without news."""
        return self._last is not None and self._needed()

    def _needed(self) -> bool:
        """Whether some pattern gains by being looked at again."""
        limit = 1 if self.request.model is not None else _DONE
        fewest = 1 if self.network is None else self.network.members
        return int(np.count_nonzero(self.patterns.visits < limit)) >= fewest

    def _first(self, ends: Ends) -> int:
        """How many patterns there have to be for the first picture."""
        if self._last is not None:
            return 1
        known = self.solver.probe is not None or self.scan.parts.probe or self.scan.parts.like or self.request.probe
        usual = _FIRST if known else _FIRST_BLIND
        return usual if ends.count is None else min(usual, ends.count)

    def _count(self, news: News) -> None:
        """Take in how many there are."""
        now = time.monotonic()
        self._rates.append((now, news.tally.joined))
        while now - self._rates[0][0] > 10 and len(self._rates) > 2:
            self._rates.pop(0)
        begun, before = self._rates[0]
        span = now - begun
        rate = (news.tally.joined - before) / span if span > 0.2 else 0.0
        self.shown = replace(self.shown, tally=news.tally, rate=rate)

    def _advance(self) -> None:
        """One burst, and its picture."""
        waiting, N = int(np.count_nonzero(self.patterns.visits == 0)), 64 if self._last is None else self._last[0].N
        count, iterations = self.solver.burst(N, waiting)
        which = self.patterns.neediest(count if self.request.model is None else self.solver.fitting(N, 1))
        if self.request.model is not None:
            which = which[self.patterns.visits[which] == 0]
        data = self.scan.some(self.patterns.joined.only(which))
        data = self._begin(data) if self.solver.probe is None else data.with_probe(self.solver.probe)
        self._reach(which)
        if self.network is None:
            recording = self.solver.advance(data, iterations).recording
        else:
            begun = time.monotonic()
            self.network.add(data)
            self.solver.seconds = (time.monotonic() - begun) / len(data)
            recording, iterations = data.recording, 1
        self.patterns.visits[which] += iterations
        self._look(data, which, recording)

    def _begin(self, data: RawData) -> RawData:
        """Find the probe to begin with, as the front door does."""
        found = probe_asked_for(data, self.refine, self.request.probe)
        if found is not None:
            self.solver.made_probe = True
            self.request.tell(found.sentence)
            data = data.with_probe(found.probe)
        elif at_corner(probe_offset(data.probeGuess), data.probeGuess.shape[-2:]):
            data = data.with_probe(np.roll(data.probeGuess, probe_shift(data.probeGuess), (-2, -1)))
        data = data.with_probe(self.solver.begin(data.probeGuess))
        if self.request.model is not None:
            self.network = LivePass(self.backend, self.request.model, data, self.canvas, self.run)
        return data

    def _reach(self, which: NDArray[np.intp]) -> None:
        """Make room for these patterns, and count their light once."""
        fresh = which[~self.patterns.lit[which]]
        if fresh.size:
            assert self.solver.probe is not None
            self.canvas.reach(*self.scan.pixels(self.patterns.joined.only(fresh)), self.solver.probe)
            self.patterns.lit[fresh] = True

    def _look(self, data: RawData, which: NDArray[np.intp], recording: Any) -> None:
        """Hold the object against these patterns, and show it."""
        from ptycho.figures.live import live_png  # matplotlib is loaded only where there are pictures

        probe = self.solver.probe if self.network is None else self.network.probe
        assert probe is not None
        spread = np.unique(np.linspace(0, len(data) - 1, _JUDGED).round().astype(np.intp))
        some, known = data.part(spread), recording.of(spread)
        x, y = self.canvas.frame.local(some.xcoords, some.ycoords)
        image = self.canvas.object
        trust = scan_trust(image, probe, x, y, some, NOMINAL_PHOTONS, self.trust, recording=known)
        error = float(trust.fourier_error)
        self._last = (data, which, error)
        picture, now = live_png(self.canvas.object, self.canvas.light), time.monotonic()
        new = which[np.isnan(self.patterns.shown[which])]
        self.patterns.shown[new] = now - self.patterns.since[new]
        newest = len(self.patterns.shown) - 1
        latency = float(self.patterns.shown[newest]) if newest in new else self.shown.latency
        self.shown = replace(
            self.shown,
            state="measuring",
            picture=picture,
            number=self.shown.number + 1,
            patterns=int(np.count_nonzero(self.patterns.visits)),
            error=error,
            trust=trust,
            latency=latency,
        )
        self._dirty = True
        self.show(self.shown)
        if now - self._drawn > _DRAWN:
            self._draw()

    def _draw(self) -> None:
        """Write the picture, whole."""
        self._drawn = time.monotonic()
        if self.shown.picture is not None:
            with atomic_path(self.folder / PREVIEW) as temporary:
                temporary.write_bytes(self.shown.picture)
