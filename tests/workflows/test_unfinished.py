"""What an unfinished run shows of itself, and what an interrupt leaves."""

import pytest

from ptycho.core.formats.reconstruction_npz import read_npz
from ptycho.core.progress import Progress
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.state_file import StateFile
from ptycho.workflows.preview import PREVIEW
from ptycho.workflows.unfinished import SO_FAR, Unfinished, forget


class Stop(KeyboardInterrupt):
    """Somebody pressed Ctrl-C."""


def cut_off(scan, unfinished, iterations, at):
    """A refinement in which somebody does at an iteration."""

    def report(iteration, error):
        if iteration == at:
            raise Stop

    with unfinished.kept():
        refine_scan(scan, None, iterations, report=report, state_file=StateFile(None, "", seen=unfinished.see))


def test_an_interrupt_leaves_what_was_found(scan, tmp_path):
    unfinished, told = Unfinished(tmp_path), []
    watch = unfinished.watched(told.append, scan)
    with pytest.raises(Stop):
        cut_off(scan, unfinished, 9, at=3)
    left = read_npz(tmp_path / SO_FAR)
    assert len(left.error_history) == 4 and left.error_history[3] < left.error_history[0]
    assert (tmp_path / PREVIEW).exists()
    watch(Progress("iteration", 1, 9, {"relative error": 1.0}, 1.0, 0.0))
    assert len(told) == 1
    forget(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_only_decides_is_not_shown(scan, tmp_path):
    for unfinished in (Unfinished(tmp_path), Unfinished(tmp_path)):
        with pytest.raises(Stop):
            cut_off(scan.part(range(12)), unfinished, 9, at=3)
        unfinished.watched(print, scan)
        assert unfinished.found() is None and list(tmp_path.iterdir()) == []
