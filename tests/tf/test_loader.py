"""Containers: names, shapes and values of the grouped data, streamed in batches."""

from itertools import islice

import numpy as np
import pytest

from ptycho import loader, params
from ptycho.core.groups.batches import epoch_orders
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.tf.loader import PtychoDataContainer

NAMES = ("X", "Y", "Y_I", "Y_phi", "coords", "coords_nominal", "coords_true", "nn_indices", "global_offsets")
NAMES = (*NAMES, "local_offsets", "probe", "norm_Y_I")


def grouped(scan: RawData, gridsize: int):
    return scan.generate_grouped_data(64, K=6, nsamples=len(scan), gridsize=gridsize, sequential_sampling=True)


def with_truth(scan: RawData, rng: np.random.Generator) -> RawData:
    truth = rng.normal(size=(64, 64, 64)) + 1j * rng.normal(size=(64, 64, 64))
    return RawData(
        scan.xcoords,
        scan.ycoords,
        scan.xcoords + 0.5,
        scan.ycoords,
        scan.diff3d,
        scan.probeGuess,
        Y=truth,
        units="counts",
    )


@pytest.mark.parametrize("gridsize", [1, 2])
def test_containers_stream_what_they_hold(gridsize: int, scan: RawData) -> None:
    data = grouped(scan, gridsize)
    container = PtychoDataContainer(data, scan.probeGuess)
    normalised, positions, mask = container.batch(np.array([3, 0, 7]))
    np.testing.assert_allclose(normalised, container.X.numpy()[[3, 0, 7]], rtol=1e-6)
    np.testing.assert_array_equal(positions, container.local_offsets.numpy()[[3, 0, 7]])
    assert mask.shape == (1, 64, 64, 1)
    plain = PtychoDataContainer(dict(data.items()), scan.probeGuess)
    np.testing.assert_allclose(plain.batch(slice(2, 5))[0], container.batch(slice(2, 5))[0], rtol=1e-6)
    assert container.global_offsets.shape == (64, 1, 2, 1)
    assert container.global_offsets.object_shape == scan.objectGuess.shape
    assert len(container) == 64


def test_container_masks_follow_the_members(scan: RawData, rng: np.random.Generator) -> None:
    mask = rng.random((64, 64, 64)) > 0.2
    data = grouped(scan, 2)
    found = PtychoDataContainer(data, scan.probeGuess, mask).batch(np.array([5, 9]))[2].numpy()
    np.testing.assert_array_equal(found, np.moveaxis(mask[data["nn_indices"][[5, 9]]], 1, -1))


def test_both_backends_hold_the_same(scan: RawData, rng: np.random.Generator) -> None:
    from ptycho_torch import data_container_bridge as torch_bridge

    scan = with_truth(scan, rng)
    data = grouped(scan, 2)
    ours, theirs = (
        kind(data, scan.probeGuess, None, 7.0) for kind in (PtychoDataContainer, torch_bridge.PtychoDataContainerTorch)
    )
    for name in NAMES:
        one, other = np.asarray(getattr(ours, name)), np.asarray(getattr(theirs, name))
        assert (one.shape, one.dtype) == (other.shape, other.dtype), name
        np.testing.assert_array_equal(one, other, err_msg=name)
    np.testing.assert_allclose(ours.Y_I.numpy() * np.exp(1j * ours.Y_phi.numpy()), ours.Y, rtol=1e-5)
    assert not np.array_equal(ours.coords_true, ours.coords_nominal)


@pytest.mark.parametrize(("count", "seed"), [(1, 0), (13, 7), (32, 2**40 + 3)])
def test_the_order_of_the_batches_is_that_of_pytorch(count: int, seed: int) -> None:
    import torch
    from torch.utils import data

    sampler = data.RandomSampler(range(count), generator=torch.Generator().manual_seed(seed))
    for batch_size, order in zip((5, 4, 32), epoch_orders(count, seed), strict=False):
        theirs = [index for batch in data.BatchSampler(sampler, batch_size, drop_last=False) for index in batch]
        assert order.tolist() == theirs


def test_a_tf_dataset_streams_every_group_once(scan: RawData) -> None:
    container = PtychoDataContainer(grouped(scan, 2), scan.probeGuess)
    batches = list(container.as_tf_dataset(24))
    assert [len(batch[0]) for batch in batches] == [24, 24, 16]
    np.testing.assert_allclose(np.concatenate([batch[0] for batch in batches]), container.X, rtol=1e-6)
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches]), container.local_offsets)
    assert batches[0][2].shape == (1, 64, 64, 1)
    shuffled = container.as_tf_dataset(64, shuffle_seed=3)
    for order, _ in zip(islice(epoch_orders(64, 3), 2), range(2), strict=True):
        (found,) = list(shuffled)
        np.testing.assert_array_equal(found[1], container.local_offsets.numpy()[order])


def test_load_as_a_client_calls_it(scan: RawData) -> None:
    params.cfg["intensity_scale"] = 12.5
    data = grouped(scan, 1)
    container = loader.load(lambda: data, scan.probeGuess, which=None, create_split=False)
    assert container.X.shape == (64, 64, 64, 1)
    assert container.norm_Y_I == 12.5
    assert container.Y is None
    assert (container.X * params.get("intensity_scale")).dtype.name == "float32"


def test_load_splits_in_two_parts(scan: RawData) -> None:
    data = grouped(scan, 2)
    first, rest = (loader.load(lambda: (data, 0.75), scan.probeGuess, part, True) for part in ("train", "test"))
    assert (len(first), len(rest)) == (48, 16)
    np.testing.assert_array_equal(np.concatenate([first.nn_indices, rest.nn_indices]), data["nn_indices"])
    np.testing.assert_array_equal(rest.global_offsets, data["coords_offsets"][48:])
    assert rest.global_offsets.object_shape == scan.objectGuess.shape
    with pytest.raises(ConfigError, match=r"found which=None and 0\.75"):
        loader.load(lambda: (data, 0.75), scan.probeGuess, None, True)
    with pytest.raises(DataError, match="leaves one part empty"):
        loader.load(lambda: (data, 0.001), scan.probeGuess, "train", True)
