"""Who is who among processes that torchrun or SLURM has started."""

import pytest

from ptycho.errors import ConfigError
from ptycho.workflows.sharing.place import Place, place_of, size_of

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu03", "MASTER_PORT": "29500"}
SLURM = {
    "SLURM_PROCID": "2",
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NODELIST": "gpu[03-05]",
    "SLURM_JOB_ID": "1234567",
}


def test_place_among_others():
    assert place_of(TORCHRUN) == Place(3, 4, 1, "gpu03", 29500)
    assert place_of(SLURM) == Place(2, 6, 0, "gpu03", 34567)
    assert place_of({**SLURM, "MASTER_ADDR": "login", "MASTER_PORT": "99"}) == Place(2, 6, 0, "login", 99)
    assert place_of({}) is None and place_of({**TORCHRUN, "WORLD_SIZE": "1"}) is None
    assert place_of({name: value for name, value in SLURM.items() if "STEP" not in name}) is None
    with pytest.raises(ConfigError, match="SLURM_STEP_NODELIST: expected machines, found ''"):
        place_of({**SLURM, "SLURM_STEP_NODELIST": ""})


def test_as_many_as_there_are_or_as_are_asked_for():
    assert (size_of(None, 3, 1), size_of(place_of(SLURM), 1, 1), size_of(place_of(SLURM), 2, 3)) == (3, 6, 6)
    with pytest.raises(ConfigError, match="nodes=2: expected torchrun or srun to have started a process for every"):
        size_of(None, 4, 2)
    with pytest.raises(ConfigError, match="devices=2, nodes=1: expected 2 processes, found 4; leave both out"):
        size_of(place_of(TORCHRUN), 2, 1)
