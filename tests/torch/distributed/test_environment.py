"""What Lightning is told of the processes of a team."""

from dataclasses import dataclass

import pytest

from ptycho_torch.distributed.environment import TeamEnvironment


@dataclass
class _Place:
    rank: int
    size: int


@pytest.mark.parametrize("rank", [0, 2, 5])
def test_each_of_six_processes_is_on_a_machine_of_its_own(rank):
    """Whatever GPUs it sees there, with whomever it shares the machine."""
    found = TeamEnvironment(_Place(rank, 6))
    assert (found.world_size(), found.global_rank()) == (6, rank)
    assert (found.local_rank(), found.node_rank()) == (0, rank)
    assert found.creates_processes_externally and not found.detect()
