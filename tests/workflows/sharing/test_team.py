"""A team of one gives nobody anything, and the others of a larger one are silent."""

import pytest

from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing.team import SINGLE, quiet_run, single


def test_alone_everything_stays_here():
    with single(RunOptions()) as team:
        assert team is SINGLE and team.size == 1
    team.begin(print, 1)
    team.serve()
    assert team.first(lambda: 3) == 3
    with pytest.raises(ValueError, match="expected a team of several, found one process; rank 1 is not there"):
        team.send(1, 1)


def test_a_run_of_the_others_is_silent(tmp_path):
    run = quiet_run(RunOptions(watch=print, folder=tmp_path, max_seconds=3.0, callbacks=(print,)))
    assert run == RunOptions(max_seconds=3.0)
