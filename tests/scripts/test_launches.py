"""Operations that the solver asks a GPU for: as few as docs/benchmarks.md says, and what is counted as one."""

import json
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "scripts" / "benchmarks"
MOST = {
    ("known probe", False): (51, 27),
    ("known probe", True): (51, 35),
    ("moving probe", True): (79, 50),
    ("three moving modes", True): (79, 53),
    ("moving probe and positions", True): (82, 101),
}
"""Once an iteration, and each batch; True: the same bits in every run."""


@pytest.fixture
def launches(monkeypatch):
    """The benchmark, found as a script finds those beside it."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import launches

    return launches


@pytest.mark.parametrize("case, deterministic", MOST)
def test_an_iteration_asks_for_no_more_than_it_did(case, deterministic, launches):
    found = launches.counted(deterministic, **launches.CASES[case])
    once, batch = MOST[case, deterministic]
    assert found.once <= once and found.batch <= batch, found.frequent


def test_views_and_room_are_no_launches_and_work_is(launches):
    counter, values = launches.Operations(), torch.empty(4, 6, device="meta")
    with counter:
        looked = values[1:].unfold(0, 2, 1).movedim(-1, 0).flatten(1, 2)
        room = torch.empty_like(looked)
        assert not counter.seen
        room.add_(looked).mul_(2)
        torch.fft.fft2(torch.complex(room, room)).conj()
        torch.ones(3) + 1  # on the CPU
    assert counter.seen == {"add_": 1, "mul_": 1, "complex": 1, "_fft_c2c": 1}


def test_numbers_that_are_read_fall_like_an_error(launches):
    with launches.Operations() as counter:
        numbers = [float(torch.zeros((), device="meta")) for _ in range(3)]
    assert numbers == [0.5, 0.25, 0.125]
    assert counter.seen["number that is waited for"] == 3


def test_the_table_and_its_file(launches, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(launches, "CASES", {"known probe": {"refine_probe": False}})
    launches.main(["--most", "3", "--json", str(tmp_path / "launches.json")])
    told = capsys.readouterr().out
    assert "| known probe | the same bits | 51 | 35 |" in told and "known probe, the same bits: mul " in told
    rows = json.loads((tmp_path / "launches.json").read_text())
    assert [(row["once"], row["batch"]) for row in rows] == [(51, 27), (51, 35)]
