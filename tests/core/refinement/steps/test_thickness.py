"""The slices that a search begins with, and the distance that it finds."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.core.physics.near_field import NearField
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.state_file import EVERY, StateFile
from ptycho.core.refinement.steps.thickness import in_slices
from ptycho.core.simulation.plan import make_scan
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData

GAP = NearField(0.25)


def test_a_search_begins_with_empty_slices_or_a_thin_object_in_the_middle_one() -> None:
    flat, thin = in_slices(None, 3, GAP, (4, 5)), np.full((4, 5), 2j)
    np.testing.assert_array_equal(flat, np.ones((3, 4, 5)))
    np.testing.assert_array_equal(in_slices(thin, 3, GAP, (4, 5)), np.stack([flat[0], thin, flat[0]]))
    np.testing.assert_array_equal(in_slices(flat, None, GAP, (4, 5)), flat)
    assert in_slices(None, None, None, (4, 5)).shape == (4, 5) and in_slices(thin, 1, None, (4, 5)) is thin


@pytest.mark.parametrize(
    "image, slices, gap, told",
    [
        (None, 3, None, "free space between them"),
        (None, None, GAP, "free space between them"),
        (np.ones((3, 4, 5)), None, None, "free space between them"),
        (np.ones((3, 4, 5)), 2, GAP, "expected the 3 of the start"),
    ],
)
def test_slices_without_a_distance_and_the_reverse_are_refused(image, slices, gap, told) -> None:
    with pytest.raises(ConfigError, match=told):
        in_slices(image, slices, gap, (4, 5))


def test_a_search_that_was_cut_off_goes_on_with_its_slices_and_their_distance(tmp_path) -> None:
    made = make_scan("lines", 36, N=16, step=6.0, jitter=1.0, photons=1e5, seed=3)
    scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")
    settings = {"iterations": EVERY + 4, "tolerance": 0.0, "slices": 2, "gap": GAP, "refine_thickness": True}
    whole = refine_scan(scan, state_file=StateFile(tmp_path / "a.npz", "s", seconds=0.0), **settings)
    cut = StateFile(tmp_path / "b.npz", "s", seconds=0.0)

    def stop(iteration, error):
        if iteration == EVERY + 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refine_scan(scan, state_file=cut, report=stop, **settings)
    seen = []
    after = refine_scan(scan, state_file=cut, report=lambda iteration, _: seen.append(iteration), **settings)
    assert seen[0] == EVERY and after.error_history == whole.error_history
    np.testing.assert_array_equal(after.slices, whole.slices)
    assert after.gap == whole.gap != GAP
