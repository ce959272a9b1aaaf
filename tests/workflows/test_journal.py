"""The steps of a run are done once, however often it begins."""

import dataclasses

import numpy as np
import pytest

from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.refinement.run import refine_scan
from ptycho.errors import DataError
from ptycho.workflows.journal import Journal


def test_steps_are_taken_from_the_folder(scan, tmp_path):
    done = []

    def refine(scan, start=None, iterations=40, **settings):
        done.append(iterations)
        return refine_scan(scan, start, iterations, **settings)

    def row(journal):
        step = journal.recorded(refine)
        thick = {"slices": 2, "gap": NearField(0.25, 0.1), "refine_thickness": True}
        first = step(scan, None, 2, holdout=3, fly_path=np.zeros((len(scan), 2, 2)), **thick)
        return first, step(scan, first, 3)

    seen = []
    first, second = row(Journal(tmp_path / "state", "", seen.append))
    errors = [so_far().error_history for so_far in seen]
    assert errors == [one.error_history for one in (first, first, second, second)]
    again = row(Journal(tmp_path / "state", "", seen.append))
    assert done == [2, 3]
    for one, other in zip((first, second), again, strict=True):
        assert one == other and dataclasses.asdict(one).keys() == dataclasses.asdict(other).keys()
        assert isinstance(other.error_history, tuple) and other.object.dtype == np.complex64


def test_the_probes_of_several_scans_are_kept(scan, tmp_path):
    known = ScanProbes(0.5 * np.asarray(scan.probeGuess, complex)[None, None], np.arange(len(scan)) % 2)
    first, again = (
        Journal(tmp_path, "", [].append).recorded(refine_scan)(scan, None, 1, variation=known) for _ in range(2)
    )
    assert isinstance(again.variation, ScanProbes) and again == first


def test_a_step_of_another_run_is_refused(scan, tmp_path):
    Journal(tmp_path, "", [].append).recorded(refine_scan)(scan, None, 2)
    with pytest.raises(DataError, match=r"step_0\.npz: expected step 0: 64 patterns, 3 iterations, found step 0: 64"):
        Journal(tmp_path, "", [].append).recorded(refine_scan)(scan, None, 3)
    (tmp_path / "step_0.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="expected a step of a run"):
        Journal(tmp_path, "", [].append).recorded(refine_scan)(scan, None, 3)


def test_a_step_of_another_scan_or_other_settings_is_refused(scan, tmp_path):
    """Steps are alike in all numbers; the runs are not."""
    Journal(tmp_path, "0123", [].append).recorded(refine_scan)(scan, None, 2)
    Journal(tmp_path, "0123", [].append).recorded(None)(scan, None, 2)
    with pytest.raises(DataError, match=r"2 iterations of run 4567, found step 0: .* of run 0123; remove it"):
        Journal(tmp_path, "4567", [].append).recorded(refine_scan)(scan, None, 2)
