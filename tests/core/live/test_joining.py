"""Whatever order frames and positions come in, late, doubled, missing or contradicting themselves: joined alike."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest

from ptycho.core.live.joining import Joining, Tally
from ptycho.core.live.schedule import Faults, schedule


@dataclass
class Oracle:
    """What came for each number, as sets: no order can be in it."""

    frames: dict[int, set[bytes]] = field(default_factory=dict)
    positions: dict[int, set[tuple[float, float]]] = field(default_factory=dict)

    def joined(self) -> list[int]:
        both = self.frames.keys() & self.positions.keys()
        return sorted(n for n in both if len(self.frames[n]) == len(self.positions[n]) == 1)


def content(number: int, wrong: bool = False) -> bytes:
    return f"frame {number}{' of another scan' if wrong else ''}".encode()


def place(number: int, wrong: bool = False) -> tuple[float, float]:
    return number + 0.25, -2.0 * number + wrong


def run_schedules(seeds: range) -> tuple[int, int]:
    """Random schedules with planted faults; how many numbers were joined and how many contradicted in all."""
    joined = contradicted = 0
    for seed in seeds:
        chance = random.Random(seed)
        faults = Faults(
            shuffled=chance.random() < 0.5,
            late=chance.choice([0.0, 0.02, 1.0]),
            drop=chance.choice([0.0, 0.2]),
            double=chance.choice([0.0, 0.5]),
            seed=seed,
        )
        arrivals = schedule(chance.randint(1, 12), 100, faults)
        joining, oracle, kept = Joining(), Oracle(), []
        known, told = 0, []
        for due in arrivals:
            wrong = chance.random() < 0.03
            if due.kind == "frame":
                oracle.frames.setdefault(due.number, set()).add(content(due.number, wrong))
                if joining.frame(due.number, content(due.number, wrong)):
                    kept.append(content(due.number, wrong))
            else:
                oracle.positions.setdefault(due.number, set()).add(place(due.number, wrong))
                joining.position(due.number, *place(due.number, wrong))
            if chance.random() < 0.3:
                since, known = joining.joined_since(known)
                told += since.numbers.tolist()
        since, _ = joining.joined_since(known)
        told += since.numbers.tolist()
        found, expected = joining.joined(), oracle.joined()
        assert found.numbers.tolist() == expected
        assert sorted(set(told) - joining.contradicted) == expected and len(told) == len(set(told))
        for number, slot, x, y in zip(*found, strict=True):
            assert {kept[slot]} == oracle.frames[number] and {(x, y)} == oracle.positions[number]
        tally, both = joining.tally, oracle.frames.keys() & oracle.positions.keys()
        out = {n for each in (oracle.frames, oracle.positions) for n, came in each.items() if len(came) > 1}
        assert (tally.joined, joining.contradicted) == (len(expected), out)
        assert tally.frames_alone == len(oracle.frames.keys() - both - out)
        assert tally.positions_alone == len(oracle.positions.keys() - both - out)
        joined, contradicted = joined + len(expected), contradicted + len(out)
    return joined, contradicted


def test_a_thousand_random_schedules_join_what_came_and_nothing_else() -> None:
    joined, contradicted = run_schedules(range(1000))
    assert joined > 3000 and contradicted > 50  # the faults were there


@pytest.mark.slow
def test_ten_thousand_random_schedules() -> None:
    run_schedules(range(1000, 11000))


def test_an_order_that_was_mixed_up_would_be_seen() -> None:
    """Frames joined by order of arrival, as a naive program does it, differ under the first late frame."""
    arrivals = schedule(5, 100, Faults(shuffled=True, seed=1))
    frames = [due.number for due in arrivals if due.kind == "frame"]
    assert frames != sorted(frames)
    joining = Joining()
    for number in frames:
        joining.frame(number, content(number))
    for number in range(5):
        joining.position(number, float(number), 0.0)
    found = joining.joined()
    assert [frames[slot] for slot in found.places] == found.numbers.tolist() == [0, 1, 2, 3, 4]


def test_what_contradicts_itself_is_left_out_also_when_it_was_joined_before() -> None:
    joining = Joining()
    joining.frame(2, b"a")
    joining.position(2, 1.0, 1.0)
    first, known = joining.joined_since(0)
    assert first.numbers.tolist() == [2] and joining.count == known == 1
    joining.frame(2, b"b")
    assert not len(joining.joined().numbers) and joining.contradicted == {2}
    assert joining.tally == Tally(0, 0, 0, 0, 1)
    joining.position(2, 1.0, 1.0)
    assert joining.tally == Tally(0, 0, 0, 1, 1)
    assert not len(joining.joined_since(known)[0].numbers)


def test_some_of_what_is_joined_and_more_behind_it() -> None:
    joining = Joining()
    for number in (4, 1):
        joining.frame(number, content(number))
        joining.position(number, *place(number))
    found = joining.joined()
    np.testing.assert_array_equal(found.only(np.array([1])).numbers, [4])
    both = found.followed_by(found.only(np.array([0])))
    assert both.numbers.tolist() == [1, 4, 1] and both.places.tolist() == [1, 0, 1]
