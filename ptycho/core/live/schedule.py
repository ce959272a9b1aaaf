"""When the frames and the positions of a scan come, with the faults that a beamline has: late, in another order, not
at all, twice.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ptycho.errors import ConfigError

__all__ = ["Arrival", "Faults", "schedule"]


class Arrival(NamedTuple):
    """One frame, or one position, comes."""

    seconds: float
    """After the beginning."""
    kind: Literal["frame", "position"]
    number: int


@dataclass(frozen=True)
class Faults:
    """What goes wrong on the way, by chance; the same faults and the same seed give the same schedule.

    Raises:
        ConfigError: a share that is none, or a time below 0.
    """

    shuffled: bool = False
    """Frames come in another order, and positions in yet another."""
    late: float = 0.0
    """Each comes up to so many seconds late."""
    drop: float = 0.0
    """Share of the frames, and of the positions, that never come."""
    double: float = 0.0
    """Share of those that come twice."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, most in (("late", math.inf), ("drop", 1.0), ("double", 1.0)):
            value = getattr(self, name)
            if not 0 <= value <= most or value == math.inf:
                expected = "a share from 0 to 1" if most == 1 else "seconds, 0 or more"
                raise ConfigError(f"{name}: expected {expected}, found {value}; correct it")


def schedule(count: int, rate: float, faults: Faults = Faults()) -> list[Arrival]:
    """The arrivals of a scan, in order: pattern k is due at `k / rate` seconds, and its position with it.

    Args:
        count: patterns of the scan, numbered from 0.
        rate: patterns per second.
        faults: what goes wrong.

    >>> [(one.kind, one.number) for one in schedule(2, 100)]
    [('frame', 0), ('position', 0), ('frame', 1), ('position', 1)]
    """
    chance, made = random.Random(faults.seed), []
    for kind in ("frame", "position"):
        numbers = list(range(count))
        if faults.shuffled:
            chance.shuffle(numbers)
        for place, number in enumerate(numbers):
            if chance.random() < faults.drop:
                continue
            for _ in range(1 + (chance.random() < faults.double)):
                made.append(Arrival(place / rate + faults.late * chance.random(), kind, number))
    return sorted(made, key=lambda one: (one.seconds, one.kind == "position"))
