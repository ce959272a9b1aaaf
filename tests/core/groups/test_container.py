"""The parts of a step that several processes share are together the step of one."""

import numpy as np
import pytest

from ptycho.core.groups.container import GroupContainer
from ptycho.core.groups.neighbourhood import make_neighbourhoods
from ptycho.raw_data import RawData


class NumpyContainer(GroupContainer):
    """Whose tensors are arrays."""

    def tensor(self, array):
        return array


@pytest.fixture
def scan():
    rng = np.random.default_rng(0)
    x, y = (each.ravel() + rng.random(20) for each in np.meshgrid(3.0 * np.arange(5), 3.0 * np.arange(4)))
    patterns, mask = rng.random((20, 8, 8)).astype(np.float32), rng.random((20, 8, 8)) > 0.1
    made = RawData(x, y, None, None, patterns, np.ones((8, 8), complex), mask=mask, units="amplitude")
    return made.with_recording(rng.random(20) + 0.5, np.ones((8, 8)))


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_parts_of_a_step_are_the_step(scan, drawn, size):
    grouped = scan.generate_grouped_data(8, nsamples=9, gridsize=2, seed=1, input_scale=2.0)
    seeds = grouped["nn_indices"][:, 0]
    hoods = make_neighbourhoods(scan.xcoords, scan.ycoords, seeds, 6, seed=3) if drawn else None
    made = NumpyContainer(grouped, scan.probeGuess, scan.mask, neighbourhoods=hoods)
    step = np.array([7, 2, 5, 0])
    whole = made.arrays(step)
    parts = [made.arrays(step, part=slice(rank, None, size)) for rank in range(size)]
    for number, array in enumerate(whole[:4]):
        for rank, part in enumerate(parts):
            assert np.array_equal(part[number], array[rank::size])
    assert all(np.array_equal(part[4], whole[4]) for part in parts)
