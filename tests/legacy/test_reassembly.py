"""`reassemble_position` as clients call it: the frame travels with the offsets, the probe with `params.cfg`."""

import pickle

import numpy as np
import pytest

from ptycho import params
from ptycho.core.geometry import FramedOffsets
from ptycho.core.physics.patches import extract
from ptycho.raw_data import RawData
from ptycho.tf_helper import reassemble_position


@pytest.fixture(autouse=True)
def _own_params(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "cfg", dict(params.cfg))


@pytest.fixture
def scan(rng: np.random.Generator) -> RawData:
    """A scan whose mean position lies 7 px right of and 5 px above the middle of its object."""

    y, x = np.meshgrid(np.arange(46.0, 94, 8), np.arange(59.0, 108, 8), indexing="ij")
    truth = (0.8 + 0.2 * rng.random((150, 152))) * np.exp(1j * rng.random((150, 152)))
    v, u = np.mgrid[:64, :64] - 32.0
    probe = np.exp(-(u**2 + v**2) / 200)
    patterns = rng.poisson(9.0, (x.size, 64, 64))
    return RawData.from_coords_without_pc(x.ravel(), y.ravel(), patterns, probe.astype(complex), None, truth)


def test_the_object_comes_back_in_the_frame_of_the_guess(scan: RawData) -> None:
    assert scan.xcoords.mean() - 152 / 2 == 7
    grouped = scan.generate_grouped_data(64, nsamples=len(scan), gridsize=1, sequential_sampling=True)
    offsets = grouped["coords_offsets"]
    patches = extract(scan.objectGuess, scan.xcoords, scan.ycoords, 64)[..., None]
    params.cfg["probe"] = scan.probeGuess
    found = reassemble_position(patches, offsets[:], M=20)
    assert found.shape == scan.objectGuess.shape
    assert found.dtype == np.complex64
    inner = np.s_[50:90, 63:100]
    np.testing.assert_allclose(found[inner], scan.objectGuess[inner], atol=1e-5)
    assert found[0, 0] == 1


def test_offsets_keep_their_object_through_slices_copies_and_processes() -> None:
    offsets = FramedOffsets(np.zeros((5, 1, 2, 1)), (30, 40))
    for kept in (offsets[1:3], offsets.copy(), pickle.loads(pickle.dumps(offsets))):  # noqa: S301
        assert kept.object_shape == (30, 40)
    assert getattr(np.asarray(offsets), "object_shape", None) is None


def test_without_a_guess_the_canvas_is_the_smallest(scan: RawData) -> None:
    patches = np.full((len(scan), 64, 64, 1), 2j, np.complex64)
    free = RawData.from_coords_without_pc(scan.xcoords, scan.ycoords, scan.diff3d, scan.probeGuess, None)
    offsets = free.generate_grouped_data(64, nsamples=len(scan), gridsize=1, sequential_sampling=True)["coords_offsets"]
    found = reassemble_position(patches, offsets, M=64)
    assert found.shape == (104, 112)
    np.testing.assert_allclose(found, 2j, atol=1e-6)
