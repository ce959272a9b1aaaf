"""Schedules: at their rate, and with the faults that are asked for."""

from __future__ import annotations

import pytest

from ptycho.core.live.schedule import Faults, schedule
from ptycho.errors import ConfigError


def test_without_faults_each_comes_when_it_is_due() -> None:
    made = schedule(3, 50)
    assert [(one.seconds, one.kind, one.number) for one in made] == [
        (seconds, kind, number) for number, seconds in enumerate((0, 0.02, 0.04)) for kind in ("frame", "position")
    ]


def test_faults_are_as_many_as_are_asked_for_and_the_same_for_a_seed() -> None:
    faults = Faults(shuffled=True, late=0.5, drop=0.25, double=0.5, seed=7)
    made = schedule(2000, 200, faults)
    assert made == schedule(2000, 200, faults) != schedule(2000, 200, Faults(True, 0.5, 0.25, 0.5, seed=8))
    for kind in ("frame", "position"):
        numbers = [one.number for one in made if one.kind == kind]
        assert len(set(numbers)) == pytest.approx(1500, abs=100)
        assert len(numbers) == pytest.approx(2250, abs=150)
        assert numbers != sorted(numbers)
    assert [one.seconds for one in made] == sorted(one.seconds for one in made)
    assert max(one.seconds for one in made) <= 10.5


@pytest.mark.parametrize("wrong", [{"drop": 1.5}, {"double": -0.1}, {"late": -1.0}, {"late": float("inf")}])
def test_what_is_no_share_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Faults(**wrong)  # type: ignore[arg-type]
