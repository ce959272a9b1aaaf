"""What Lightning is told of the processes of a team."""

from dataclasses import dataclass

import pytest

from ptycho_torch.distributed.environment import TeamEnvironment


@dataclass
class _Place:
    rank: int
    size: int


@pytest.mark.parametrize(("rank", "local", "machine"), [(0, 0, 0), (2, 2, 0), (3, 0, 1), (5, 2, 1)])
def test_six_processes_on_two_machines(rank, local, machine):
    found = TeamEnvironment(_Place(rank, 6), 2)
    assert (found.world_size(), found.global_rank()) == (6, rank)
    assert (found.local_rank(), found.node_rank()) == (local, machine)
    assert found.creates_processes_externally and not found.detect()
