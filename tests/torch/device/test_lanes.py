"""Threads that work on batches: what they find, what goes wrong on them, and the program's own threads."""

import threading
from collections.abc import Iterator

import pytest
import torch

from ptycho.errors import DataError
from ptycho_torch.device.lanes import Lanes


@pytest.fixture
def threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    yield
    torch.set_num_threads(usual)


def test_what_goes_wrong_on_a_thread_is_told(threads) -> None:
    torch.set_num_threads(2)

    def work(share: int) -> int:
        if share:
            raise DataError(f"share {share}")
        return torch.get_num_threads()

    lanes = Lanes(2)
    assert lanes.together(work, [0, 0]) == [1, 1]
    with pytest.raises(DataError, match="share 1"):
        lanes.together(work, [0, 1])
    running = threading.active_count()
    lanes.close()
    assert threading.active_count() == running - 2
    assert lanes.together(work, [0, 0]) == [1, 1]
    lanes.close()


def test_one_thread_works_alone_and_one_share_is_worked_on_by_who_asks(threads) -> None:
    torch.set_num_threads(2)
    lanes, here = Lanes(2), threading.current_thread()
    assert lanes.together(lambda share: (share, threading.current_thread()), [7]) == [(7, here)]
    assert lanes.alone(lambda: threading.current_thread() is here) is False
    assert lanes.alone(torch.get_num_threads) == 1 and torch.get_num_threads() == 2
    lanes.close()
