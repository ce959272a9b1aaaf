"""The order in which patterns go to a device that has no room for them."""

import numpy as np
import pytest

from ptycho.core.refinement.device.kernels import Measured
from ptycho.core.refinement.sums.parts import Part
from ptycho.core.refinement.sums.streaming import Streamed


class Line:
    """A stream that writes down what is done with the patterns of which part."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def hold(self, measured: Measured) -> int:
        self.seen.append(f"hold {measured.amplitude}")
        return measured.amplitude

    def send(self, held: int) -> int:
        self.seen.append(f"send {held}")
        return held

    def arrived(self, sent: int) -> Measured:
        self.seen.append(f"wait {sent}")
        return Measured(sent, None)


def parts(count: int) -> list[Part]:
    return [Part(np.array([k])) for k in range(count)]


@pytest.mark.parametrize("keeps", [True, False])
def test_the_next_batch_is_on_its_way_before_one_is_waited_for(keeps) -> None:
    line, some = Line(), parts(3)
    streamed = Streamed(line, lambda part: Measured(int(part.indices[0]), None), keeps)
    for part, measured in streamed.over(some):
        assert measured.amplitude == part.indices[0]
        line.seen.append(f"work {measured.amplitude}")
    order = ["send 0", "send 1", "wait 0", "work 0", "send 2", "wait 1", "work 1", "wait 2", "work 2"]
    assert [each for each in line.seen if not each.startswith("hold")] == order
    held = ["hold 0", "hold 1", "hold 2"]
    assert [each for each in line.seen if each.startswith("hold")] == held
    list(streamed.over(some))
    assert [each for each in line.seen if each.startswith("hold")] == held * (1 if keeps else 2)


@pytest.mark.parametrize("count", [0, 1])
def test_few_batches_have_no_next_one(count) -> None:
    line = Line()
    streamed = Streamed(line, lambda part: Measured(int(part.indices[0]), None), True)
    assert len(list(streamed.over(parts(count)))) == count
    assert line.seen == ["hold 0", "send 0", "wait 0"] * count
