"""The processes of a team as Lightning asks for them."""

from __future__ import annotations

import ptycho_torch.lightning  # noqa: F401  # isort: skip

from lightning.pytorch.plugins.environments import ClusterEnvironment

from ptycho.workflows.sharing.team import Team

__all__ = ["TeamEnvironment"]


class TeamEnvironment(ClusterEnvironment):
    """Processes that are there already, and have a process group where they are several.

    To Lightning each is on a machine of its own, whose only device is the one that the team has given it: how many
    there are on a machine, and which GPUs a process sees, is nothing that it has to know.

    Args:
        team: the processes.
    """

    def __init__(self, team: Team) -> None:
        super().__init__()
        self._team = team

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning starts none."""
        return True

    @property
    def main_address(self) -> str:
        """Not asked for: the process group is there."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """Likewise."""
        return 0

    @staticmethod
    def detect() -> bool:
        """Lightning never chooses it by itself."""
        return False

    def world_size(self) -> int:
        """How many there are."""
        return self._team.size

    def set_world_size(self, size: int) -> None:
        """It is what it is."""

    def global_rank(self) -> int:
        """The number of this process."""
        return self._team.rank

    def set_global_rank(self, rank: int) -> None:
        """It is what it is."""

    def local_rank(self) -> int:
        """The first and only one of what is taken for its machine."""
        return 0

    def node_rank(self) -> int:
        """The number of what is taken for its machine."""
        return self._team.rank
