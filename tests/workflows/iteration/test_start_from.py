"""Results to go on from: our own, and those of other programs."""

from dataclasses import replace

import numpy as np
import pytest

import ptycho
from ptycho.errors import DataError
from ptycho.workflows.iteration.start_from import read_start, recorded_as


@pytest.fixture(scope="module")
def found(fixture_file):
    return ptycho.reconstruct(fixture_file, iterations=3, modes=None)


def test_our_own(found, tmp_path):
    found.save(tmp_path / "run")
    assert read_start(tmp_path / "run") == found
    assert read_start(tmp_path / "run" / "reconstruction.npz") == found


def test_a_ptychodus_product(found, tmp_path):
    begun = read_start(found.save(tmp_path / "product.h5"))
    assert np.array_equal(begun.object, found.object) and np.array_equal(begun.probe, found.probe)
    assert begun.xcoords == pytest.approx(found.xcoords, abs=1e-6)
    assert begun.frame.shape == found.frame.shape


def test_a_scan_is_no_result(scan, tmp_path):
    scan.objectGuess = None
    with pytest.raises(DataError, match="expected object, probe and positions to start from"):
        read_start(scan.save(tmp_path / "scan.npz"))


def test_what_a_result_knows_of_the_recording(found, scan, tmp_path):
    flux, background = np.linspace(1.2, 0.8, len(scan)), np.ones((64, 64))
    known = replace(found, flux=flux, background=background, blur=0.7)
    made = recorded_as(scan, known.save(tmp_path / "known.npz"))
    assert np.array_equal(made.flux, flux) and np.array_equal(made.background, background) and made.blur == 0.7
    assert made.diff3d is scan.diff3d and scan.flux is None
    only = recorded_as(scan, replace(found, blur=0.7).save(tmp_path / "blurred.npz"))
    assert only.blur == 0.7 and only.flux is None
    with pytest.raises(DataError, match=r"found none; find them: ptycho .*npz --flux --background --detector-blur"):
        recorded_as(scan, found.save(tmp_path / "plain.npz"))
    with pytest.raises(
        DataError, match=r"expected a result of minimal_dataset_v1.npz, 9 patterns .* found one of 64 patterns of 64"
    ):
        recorded_as(scan.part(np.arange(9)), tmp_path / "known.npz")
    moved = replace(known, frame=replace(known.frame, x0=known.frame.x0 + 40))
    with pytest.raises(DataError, match="patterns of 64 pixels elsewhere; name a result of this scan"):
        recorded_as(scan, moved.save(tmp_path / "moved.npz"))
