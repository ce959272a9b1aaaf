"""The state of a refinement in a file, so that one that was cut off goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.atomic import atomic_path
from ptycho.core.files.damage import readable
from ptycho.core.files.npz import open_npz, write_arrays
from ptycho.core.refinement.descent import Descent, State
from ptycho.core.refinement.device.kernels import Direction, Point
from ptycho.core.refinement.problem import ScanProblem
from ptycho.core.refinement.steps.gauge import Gauge
from ptycho.core.refinement.sums.object_share import WHOLE, ObjectShare
from ptycho.errors import DataError

__all__ = ["EVERY", "ScanKeeper", "StateFile"]

EVERY = 10
"""Iterations between two states. What is only there for speed is dropped at each, whether it is written or not, so
that the digits do not depend on when a run was cut off."""
_OBJECT = "_object"
_SECONDS = 5.0
"""A state is not written sooner than this after the one before."""

Array = NDArray[Any]


@dataclass
class StateFile:
    """Where the state of a search is kept."""

    path: Path | None
    """Written whole or not at all; None: the search is only seen."""
    search: str
    """What tells this search from others: a state of another one is refused."""
    seconds: float = _SECONDS
    """Least time between two writes."""
    seen: Callable[[Callable[[], Any]], None] | None = None
    """Called when the search begins, with a function that returns its result if it stopped now."""
    _written: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether it is time to write again; it then counts as written."""
        now = time.monotonic()
        if now - self._written < self.seconds:
            return False
        self._written = now
        return True


@dataclass
class ScanKeeper:
    """`ptycho.core.refinement.descent.Keeper` of one refinement."""

    file: StateFile
    problem: ScanProblem
    result: Callable[[Descent[Point]], Any]
    """What a search becomes that stops here."""
    share: ObjectShare = WHOLE
    """What this process has of the object; the first alone has the file, and what it writes and shows is whole."""
    every: int = EVERY
    _shown: Descent[Point] | None = None

    @property
    def resumes(self) -> bool:
        """Whether there is a state to go on from."""
        return self.share.processes.first(lambda: self.file.path is not None and self.file.path.exists())

    def begin(self, state: State[Point, Direction]) -> None:
        """Show the search to who wants to see it."""
        if not self.share.whole:
            if self._asked()[1]:
                self._show(state.found)
            if self.file.seen is not None:
                self.file.seen(lambda: self.result(self._shown or state.found))
        elif self.file.seen is not None:
            self.file.seen(partial(self.result, state.found))

    def _asked(self) -> tuple[bool, bool]:
        """Whether it is time to write a state, and whether a whole object is to be gathered for who wants to see it."""
        return self.share.processes.first(
            lambda: (self.file.path is not None and self.file.due(), self.file.seen is not None)
        )

    def _show(self, found: Descent[Point]) -> None:
        """Keep what there is, whole, for whoever asks the first process while the others are at work."""
        whole = self.share.gathered(found.point.object)
        if whole is not None:
            point, errors, unseen = found.point._replace(object=whole), list(found.errors), list(found.unseen)
            self._shown = replace(found, point=point, errors=errors, unseen=unseen)

    def keep(self, state: State[Point, Direction], rng: np.random.Generator) -> None:
        """Write the state, unless that was done a moment ago."""
        if self.share.whole:
            writes = self.file.path is not None and self.file.due()
        else:
            writes, shows = self._asked()
            if shows:
                self._show(state.found)
        if not writes:
            return
        path, arrays = self.file.path, self._arrays(state, rng)
        if path is None:
            for _ in arrays:  # the rows of this process go to the first
                continue
            return
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            write_arrays(stream, arrays)

    def _arrays(self, state: State[Point, Direction], rng: np.random.Generator) -> Iterator[tuple[str, Any]]:
        """What is written, one after the other; of objects the whole, in the first process."""
        facts = {
            "search": self.file.search,
            "rng": rng.bit_generator.state,
            "error": state.error,
            "sweeping": state.sweeping,
            "iteration": state.iteration,
            "failures": state.failures,
            "slope": None if state.last is None else float(state.last[2]),
            "errors": state.found.errors,
            "unseen": state.found.unseen,
            "kept": state.found.kept,
            "restarts": state.found.restarts,
            "gauge": self.problem.gauge_at(state.point),
            "prepared": None if self.problem.prepared is None else self.problem.prepared[0],
        }
        yield "facts", json.dumps(facts)
        arrays = _point("point", state.point) | _point("best", state.found.point)
        arrays |= _direction("gradient", state.gradient)
        if state.last is not None:
            arrays |= _direction("last", state.last[0]) | _direction("last_gradient", state.last[1])
        if self.problem.prepared is not None:
            arrays |= _point("prepared", self.problem.prepared[1])
        for name, values in arrays.items():
            yield name, self.share.gathered(values) if name.endswith(_OBJECT) else values

    def restore(self, rng: np.random.Generator) -> State[Point, Direction] | None:
        """The state in the file, if there is one.

        Raises:
            DataError: the file is damaged, or of another search.
        """
        objects: dict[str, Array] = {}

        def beside() -> tuple[dict[str, Array], dict[str, Any], list[str]] | None:
            found = self._read()
            if found is None:
                return None
            objects.update({name: values for name, values in found[0].items() if name.endswith(_OBJECT)})
            return {name: values for name, values in found[0].items() if name not in objects}, found[1], list(objects)

        shown = self.share.processes.first(beside)
        if shown is None:
            return None
        stored, facts, names = shown
        stored = stored | {name: self.share.scattered(objects.pop(name, None)) for name in names}
        rng.bit_generator.state = facts["rng"]
        self.problem.gauge = Gauge.of(facts["gauge"])
        if facts["prepared"] is not None:
            self.problem.prepared = int(facts["prepared"]), _point_of("prepared", stored)
        return _state(stored, facts)

    def _read(self) -> tuple[dict[str, Array], dict[str, Any]] | None:
        """Arrays and facts of the file, if there is one, which make a state."""
        path = self.file.path
        if path is None or not path.exists():
            return None
        with readable(path, "the state of a refinement", advice="remove it"):
            with open_npz(path) as file:
                stored = dict(file)
            facts = json.loads(str(stored["facts"]))
            search, prepared = facts["search"], facts["prepared"]
            if search != self.file.search:
                raise DataError(f"{path}: expected the state of {self.file.search}, found that of {search}; remove it")
            _state(stored, facts)
            np.random.default_rng().bit_generator.state = facts["rng"]
            Gauge.of(facts["gauge"])
            if prepared is not None:
                _point_of("prepared", stored), int(prepared)
        return stored, facts


def _point(name: str, point: Point) -> dict[str, Array]:
    return {f"{name}_{part}": array for part, array in point._asdict().items()}


def _point_of(name: str, stored: dict[str, Array]) -> Point:
    return Point(*(stored[f"{name}_{part}"] for part in Point._fields))


def _direction(name: str, direction: Direction) -> dict[str, Array]:
    return {f"{name}_{part}": array for part, array in direction._asdict().items() if array is not None}


def _direction_of(name: str, stored: dict[str, Array]) -> Direction:
    return Direction(stored[f"{name}_object"], stored.get(f"{name}_probe"))


def _state(stored: dict[str, Array], facts: dict[str, Any]) -> State[Point, Direction]:
    last = None
    if facts["slope"] is not None:
        last = _direction_of("last", stored), _direction_of("last_gradient", stored), float(facts["slope"])
    found = Descent(
        _point_of("best", stored),
        [float(error) for error in facts["errors"]],
        [float(error) for error in facts["unseen"]],
        int(facts["kept"]),
        int(facts["restarts"]),
    )
    return State(
        point=_point_of("point", stored),
        error=float(facts["error"]),
        gradient=_direction_of("gradient", stored),
        found=found,
        sweeping=bool(facts["sweeping"]),
        iteration=int(facts["iteration"]),
        failures=int(facts["failures"]),
        last=last,
    )
