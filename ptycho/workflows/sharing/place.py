"""The place of a process among others that torchrun or SLURM (srun) has started, by its environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ptycho.errors import ConfigError

__all__ = ["Place", "first_machine", "place_of", "size_of"]

_PORTS = 20000, 20000
"""The first port of a SLURM job, and how many there are."""


@dataclass(frozen=True)
class Place:
    """The place of a process among others that somebody else has started."""

    rank: int
    size: int
    local: int
    """Number of the process on its machine: that of its GPU."""
    address: str
    port: int


def place_of(environment: Mapping[str, str]) -> Place | None:
    """The place that torchrun or SLURM gives a process; None where neither has started several.

    Raises:
        ConfigError: SLURM names no machine.
    """
    if int(environment.get("WORLD_SIZE", 1)) > 1 and "RANK" in environment:
        rank, size, local = (int(environment.get(name, 0)) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        return Place(rank, size, local, environment["MASTER_ADDR"], int(environment["MASTER_PORT"]))
    # a shell of salloc has the number of tasks, too, but no step
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in environment:
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        rank, size, local = (int(environment[name]) for name in names)
        first = environment.get("MASTER_ADDR") or first_machine(environment.get("SLURM_STEP_NODELIST", ""))
        port = _PORTS[0] + int(environment["SLURM_JOB_ID"]) % _PORTS[1]
        return Place(rank, size, local, first, int(environment.get("MASTER_PORT", port)))
    return None


def size_of(place: Place | None, devices: int, nodes: int) -> int:
    """How many processes there are: those that were started, or else those that are asked for, on this machine.

    Raises:
        ConfigError: another number of processes than was started, or several machines and nobody who started them.
    """
    size = devices * nodes
    if place is None and nodes > 1:
        raise ConfigError(
            f"nodes={nodes}: expected torchrun or srun to have started a process for every device, found one process; "
            f"start it with srun, or on every machine with torchrun --nnodes {nodes} --nproc-per-node {devices}"
        )
    if place is not None and size not in (1, place.size):
        raise ConfigError(
            f"devices={devices}, nodes={nodes}: expected {size} processes, found {place.size}; leave both out, or "
            "start as many"
        )
    return size if place is None else place.size


def first_machine(machines: str) -> str:
    """The first of a list of machines as SLURM writes it.

    Raises:
        ConfigError: there is none.

    >>> first_machine("gpu[03-05,9],login"), first_machine("a-1,a-2")
    ('gpu03', 'a-1')
    """
    found = re.match(r"([^\[,\s]+)(?:\[([^-,\]]+))?", machines)
    if found is None:
        raise ConfigError(f"SLURM_STEP_NODELIST: expected machines, found {machines!r}; set MASTER_ADDR to the first")
    return found[1] + (found[2] or "")
