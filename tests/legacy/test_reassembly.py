"""`reassemble_position` as clients call it: the frame travels with the offsets, the probe with `params.cfg`."""

import pickle

import numpy as np
import pytest

from ptycho import params
from ptycho.core.geometry import FramedOffsets
from ptycho.core.physics.patches import assemble_group, extract
from ptycho.errors import ConfigError, DataError
from ptycho.image.stitching import stitch_patches
from ptycho.legacy.reassembly import assemble_barycentric
from ptycho.raw_data import RawData
from ptycho.tf_helper import (
    _translate_images_simple,
    reassemble_patches_position_batched_real,
    reassemble_position,
    translate_core,
)


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


def test_positions_as_pairs_are_offsets(scan: RawData) -> None:
    patches = extract(scan.objectGuess, scan.xcoords, scan.ycoords, 64)
    pairs = np.column_stack([scan.xcoords, scan.ycoords])
    found = stitch_patches(patches, pairs, M=30)
    np.testing.assert_array_equal(found, reassemble_position(patches, pairs[:, None, :, None], M=30))


@pytest.mark.parametrize("shape", [(42, 64, 64), (21, 2, 64, 64), (42, 64, 64, 1)])
def test_the_barycentric_mean_of_true_patches_is_the_object(shape: tuple[int, ...], scan: RawData) -> None:
    patches = extract(scan.objectGuess, scan.xcoords, scan.ycoords, 64).reshape(shape)
    weight = np.abs(scan.probeGuess) ** 2
    found, coverage = assemble_barycentric(patches, scan.xcoords, scan.ycoords, weight, scan.objectGuess.shape)
    assert found.shape == scan.objectGuess.shape
    lit = coverage > 0.01
    assert lit.sum() > 1000
    np.testing.assert_allclose(found[lit], scan.objectGuess[lit], atol=1e-5)
    assert assemble_barycentric(patches, scan.xcoords, scan.ycoords)[0].shape == (104, 112)


@pytest.mark.parametrize("batch_size", [None, 2])
def test_the_canvases_of_groups_are_those_of_the_core(batch_size: int | None, rng: np.random.Generator) -> None:
    patches, offsets = rng.random((5, 6, 6, 3)), rng.uniform(-2, 2, (5, 1, 2, 3))
    found = reassemble_patches_position_batched_real(patches, offsets, 12, batch_size)
    dx, dy = -offsets[:, 0, 0], -offsets[:, 0, 1]
    expected = assemble_group(np.moveaxis(patches, -1, 1), dx, dy, np.ones((6, 6)), 12)
    np.testing.assert_allclose(found[..., 0], expected, rtol=1e-12)
    with pytest.raises(DataError, match=r"expected \(B, N, N, C\)"):
        reassemble_patches_position_batched_real(patches, offsets[:4], 12)


def test_translations_move_the_content(rng: np.random.Generator) -> None:
    images = np.zeros((2, 5, 7, 1), np.float32)
    images[:, 2, 3] = 1
    moves = np.array([[1, 0], [-2, 1]], np.float32)
    for found in (translate_core(images, moves), _translate_images_simple(images, moves[:, 0], moves[:, 1])):
        assert found.shape == images.shape
        assert np.argwhere(found.numpy()[..., 0]).tolist() == [[0, 2, 4], [1, 3, 1]]
    with pytest.raises(ConfigError, match="interpolation='nearest': expected 'bilinear'"):
        translate_core(images, moves, interpolation="nearest")
