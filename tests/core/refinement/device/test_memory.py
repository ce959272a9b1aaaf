"""The forecast of memory, by hand for small cases, and against what a refinement holds."""

import pytest

from ptycho.core.refinement.device.memory import ONCE_PIXELS, MemoryPlan

N, COUNT = 16, 100
PIXEL = 8 * N**2


def plan(memory: int, **changes) -> MemoryPlan:
    return MemoryPlan.made(memory, COUNT, N, **{"modes": 1, "complex_bytes": 8, **changes})


def test_what_is_best_at_once_is_taken_whatever_the_memory() -> None:
    found = plan(0, batch_pixels=10 * N**2, lanes=2)
    assert (found.batch, found.working) == (10, 2 * 10 * 15 * PIXEL)
    assert (found.patterns, found.fields, found.probes, found.patches) == (0, 0, 0, 0)
    assert plan(0, batch_pixels=10 * N**2, modes=3).batch == 3
    assert plan(0, batch_pixels=N**2 // 2).batch == 1
    assert plan(0, batch_pixels=1 << 30).batch == COUNT


def test_else_a_quarter_of_the_memory_is_worked_on() -> None:
    found = plan(4 * 7 * 15 * PIXEL + 1)
    assert (found.batch, found.working) == (7, 7 * 15 * PIXEL)
    assert plan(4 * 7 * 15 * PIXEL - 1).batch == 6
    assert plan(0).batch == 1
    assert plan(1 << 40).batch == COUNT


@pytest.mark.parametrize(
    "changes, sizes",
    [
        ({}, (0.5, 2.5, 2.0, 1.0)),
        ({"modes": 3}, (0.5, 6.5, 4.0, 1.0)),
        ({"places": 4}, (0.5, 8.5, 8.0, 1.0)),
        ({"slices": 3}, (0.5, 4.5, 2.0, 1.0)),
        ({"near": True}, (0.5, 2.5, 3.0, 1.0)),
    ],
)
def test_what_is_kept_comes_in_order_as_far_as_there_is_room(changes, sizes) -> None:
    kept, total = [round(COUNT * size * PIXEL) for size in sizes], 0
    for number, size in enumerate(kept, start=1):
        total += size
        for memory, fits in ((total, number), (total - 1, number - 1)):
            found = plan(memory, batch_pixels=1, **changes)
            expected = kept[:fits] + [0] * (4 - fits)
            assert [found.patterns, found.fields, found.probes, found.patches] == expected


def test_one_pass_alone_keeps_nothing_and_has_few_at_once() -> None:
    found, usual = plan(1 << 40, once=True), plan(1 << 40)
    assert (found.batch, found.working, found.kept) == (COUNT, usual.working, 0) and usual.whole
    many = MemoryPlan.made(1 << 50, 1 << 20, N, 2, 8, once=True)
    assert many.batch == ONCE_PIXELS // (2 * N**2)
    assert MemoryPlan.made(0, COUNT, 1 << 13, 1, 8, once=True).batch == 1


def test_double_precision_takes_twice_as_much() -> None:
    single, double = plan(1 << 40), plan(1 << 40, complex_bytes=16)
    assert (double.fields, double.working) == (2 * single.fields, 2 * single.working)


def test_patterns_that_are_packed_leave_room_for_more() -> None:
    memory = round(COUNT * 3 * PIXEL) - 1  # patterns and fields, but for a byte
    usual, small = plan(memory, batch_pixels=1), plan(memory, batch_pixels=1, pattern_bytes=1)
    assert (usual.patterns, usual.fields, usual.whole) == (COUNT * PIXEL // 2, 0, False)
    assert (small.patterns, small.fields) == (COUNT * N**2, round(COUNT * 2.5 * PIXEL))
    assert plan(1 << 40, batch_pixels=1).whole
    assert small.told == "patterns in 1 B a pixel 0.0 MiB, far fields 0.5 MiB"


def test_it_says_so_in_words() -> None:
    assert str(plan(1 << 31, batch_pixels=10 * N**2)) == (
        "10 patterns at once, 0.3 MiB; kept of 2.00 GiB: patterns 0.1 MiB, far fields 0.5 MiB, probes 0.4 MiB, "
        "patches 0.2 MiB"
    )
    assert str(plan(0, batch_pixels=N**2)).endswith("kept of 0.0 MiB: nothing")
