"""Results to go on from: our own, and those of other programs."""

import numpy as np
import pytest

import ptycho
from ptycho.errors import DataError
from ptycho.workflows.start_from import read_start


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
