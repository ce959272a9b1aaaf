"""Neighbourhoods and their draws, nearest points, and the batches that containers make of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ptycho import params
from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.core.geometry import canvas_size
from ptycho.core.groups.container import GroupContainer
from ptycho.core.groups.grouping import nearest_points
from ptycho.core.groups.neighbourhood import make_neighbourhoods
from ptycho.core.physics.patches import cut, extract_rounded
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.workflows.networks.training_data import prepare_training

SEEDS = np.array([11, 0, 37, 5, 5])
"""Some seed points, one of them twice."""


@pytest.fixture(autouse=True)
def _own_params(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "cfg", dict(params.cfg))


@pytest.fixture
def points(rng) -> tuple[np.ndarray, np.ndarray]:
    """A jittered raster of 7 x 6 points, 5 px apart, far from the origin."""
    y, x = np.mgrid[:7, :6] * 5.0 + 40
    return x.ravel() + rng.uniform(-1, 1, 42), y.ravel() + rng.uniform(-1, 1, 42)


def test_nearest_points_by_hand() -> None:
    """Gaps 1, 2, 4; a tie (4 from 0 and from 8 in the last call) goes to the lower index."""
    x = np.array([0.0, 1.0, 3.0, 7.0])
    assert nearest_points(x, 0 * x, np.array([0, 3, 2]), 3).tolist() == [[0, 1, 2], [3, 2, 1], [2, 1, 0]]
    assert nearest_points(x, 0 * x, np.array([3, 1]), 1).tolist() == [[3], [1]]
    tie = np.array([8.0, 4.0, 0.0])
    assert nearest_points(tie, 0 * tie, np.array([1]), 2).tolist() == [[1, 0]]
    assert nearest_points(tie, 0 * tie, np.array([1]), 3).dtype == np.int32


@pytest.mark.parametrize("size", [2, 7, 42])
def test_nearest_points_against_a_slow_search(points, size) -> None:
    x, y = points
    for seed, found in zip(SEEDS, nearest_points(x, y, SEEDS, size), strict=True):
        distance = np.hypot(x - x[seed], y - y[seed])
        assert found.tolist() == sorted(range(42), key=lambda j, d=distance: (d[j], j))[:size]


def test_coinciding_points_are_separate_and_the_seed_comes_first() -> None:
    found = nearest_points(np.zeros(12), np.zeros(12), np.array([7]), 4)
    assert found.tolist() == [[7, 0, 1, 2]]


def test_what_nearest_points_refuses() -> None:
    with pytest.raises(ConfigError, match=r"3 scan points: expected at least 4, .*lower gridsize or held_out_neigh"):
        nearest_points(np.arange(3.0), np.zeros(3), np.array([0]), 4)
    with pytest.raises(DataError, match=r"two vectors of one length, found shapes \(3,\) and \(2,\)"):
        nearest_points(np.arange(3.0), np.zeros(2), np.array([0]), 2)
    with pytest.raises(DataError, match="found 1 of 3 not finite"):
        nearest_points(np.array([0, np.nan, 1]), np.zeros(3), np.array([0]), 2)


def test_a_neighbourhood_is_seen_from_a_pixel_of_the_object(points) -> None:
    x, y = points
    made = make_neighbourhoods(x, y, SEEDS, 5)
    assert made.shape == (5, 5)
    np.testing.assert_array_equal(made.pool, nearest_points(x, y, SEEDS, 5))
    centres = np.stack([x[made.pool], y[made.pool]], axis=1) + made.positions
    middles = centres[:, :, 0]
    np.testing.assert_allclose(centres, np.repeat(middles[:, :, None], 5, axis=2), atol=1e-12)
    np.testing.assert_allclose(middles, np.rint(middles), atol=1e-12)
    means = np.stack([x[made.pool].mean(axis=1), y[made.pool].mean(axis=1)], axis=1)
    assert abs(middles - means).max() <= 0.5 + 1e-12


def test_a_draw_is_an_order_of_the_pool_and_brings_each_point_s_position(points) -> None:
    x, y = points
    made = make_neighbourhoods(x, y, SEEDS, 6)
    drawn, positions = made.draw(np.array([4, 2, 0]))
    assert (drawn.dtype, positions.dtype) == (np.int32, np.float32)
    assert positions.shape == (3, 1, 2, 6)
    np.testing.assert_array_equal(np.sort(drawn), np.sort(made.pool[[4, 2, 0]]))
    assert not np.array_equal(drawn, made.pool[[4, 2, 0]])
    seen_from = np.stack([x[drawn], y[drawn]], axis=1) + positions[:, 0]
    np.testing.assert_allclose(seen_from, np.rint(seen_from), atol=1e-5)
    np.testing.assert_allclose(np.ptp(seen_from, axis=2), 0, atol=1e-5)


def test_a_draw_follows_from_the_seed_and_the_batch_alone(points) -> None:
    made = make_neighbourhoods(*points, np.arange(42), 6, seed=3)
    expected = made.draw(slice(8, 16))
    made.draw(slice(0, 42))
    for same in (slice(8, 16), np.arange(8, 16), list(range(8, 16)), np.arange(8, 16, dtype=np.int32)):
        for found, array in zip(made.draw(same), expected, strict=True):
            np.testing.assert_array_equal(found, array)
    again = make_neighbourhoods(*points, np.arange(42), 6, seed=3).draw(slice(8, 16))[0]
    np.testing.assert_array_equal(again, expected[0])
    others = [
        make_neighbourhoods(*points, np.arange(42), 6, seed=4).draw(slice(8, 16))[0],
        made.draw(slice(8, 17))[0][:8],
        made.draw(np.arange(8, 16)[::-1])[0][::-1],
    ]
    for other in others:
        assert (other != expected[0]).any(axis=1).sum() > 4


def test_every_member_is_shown_and_held_out_in_turn(points) -> None:
    """The first place of a draw goes to each of the 6 about equally often (1000 draws, 167 expected, 12 is sigma)."""
    made = make_neighbourhoods(*points, np.full(1000, 20), 6)
    shown = made.draw(slice(0, 1000))[0][:, 0]
    counts = np.array([np.count_nonzero(shown == point) for point in made.pool[0]])
    assert counts.sum() == 1000
    assert abs(counts - 1000 / 6).max() < 5 * 12


@pytest.mark.parametrize("size", [1, 2, 7, 20])
def test_the_canvas_holds_every_draw(points, size) -> None:
    made = make_neighbourhoods(*points, np.arange(42), size)
    side = made.canvas_size(64)
    assert side % 8 == 0
    whole = np.rint(-made.draw(slice(0, 42))[1])
    assert 64 / 2 + abs(whole).max() <= side / 2
    assert side - 64 < 2 * abs(whole).max() + 8
    if size == 1:
        assert side == 64


def masked_scan(scan: RawData, rng: np.random.Generator) -> RawData:
    """The fixture scan, with a mask for every pattern."""
    mask = rng.random(scan.diff3d.shape) > 0.2
    return RawData(
        scan.xcoords, scan.ycoords, None, None, scan.diff3d, scan.probeGuess, None, scan.objectGuess, mask=mask
    )


def test_a_batch_holds_the_points_of_the_draw(scan, rng) -> None:
    data = masked_scan(scan, rng)
    grouped = data.generate_grouped_data(64, K=6, nsamples=20, gridsize=2)
    drawn_from = make_neighbourhoods(data.xcoords, data.ycoords, grouped["nn_indices"][:, 0], 7)
    container = GroupContainer(grouped, data.probeGuess, data.mask, neighbourhoods=drawn_from)
    batch = np.array([3, 19, 4])
    drawn, positions = drawn_from.draw(batch)
    amplitudes, offsets, mask = container.arrays(batch)
    assert container.canvas_size == drawn_from.canvas_size(64)
    assert (amplitudes.shape, offsets.shape, mask.shape) == ((3, 64, 64, 7), (3, 1, 2, 7), (3, 64, 64, 7))
    np.testing.assert_array_equal(offsets, positions)
    np.testing.assert_array_equal(mask, np.moveaxis(data.mask[drawn], 1, -1))
    expected = data.input_scale() * np.moveaxis(data.amplitude(drawn.ravel()).reshape(3, 7, 64, 64), 1, -1)
    np.testing.assert_allclose(amplitudes, expected, rtol=1e-6)


@pytest.mark.parametrize("gridsize", [1, 2])
def test_a_container_on_the_grid_lies_on_the_object_s_pixels(gridsize, scan, rng) -> None:
    """Every member's patch, cut from its group's canvas at whole pixels, is the object at `pixel_positions`."""
    grouped = scan.generate_grouped_data(64, K=6, gridsize=gridsize, sequential_sampling=True, nsamples=9)
    container = GroupContainer(grouped, scan.probeGuess, on_grid=True)
    found = container.pixel_positions
    assert found.shape == grouped["coords_nn"].shape
    np.testing.assert_array_equal(found, np.rint(found))
    assert abs(found - grouped["coords_nn"]).max() <= 0.5 + 1e-5
    truth = np.pad(scan.objectGuess, 64)
    middles = np.rint(grouped["coords_offsets"][:, 0, :, 0]) + 64
    size = container.canvas_size
    canvases = extract_rounded(truth, *middles.T, size)[0]
    whole = np.rint(-container.arrays(slice(0, 9))[1][:, 0])
    members = cut(canvases[:, None], whole[:, 0], whole[:, 1], 64)
    expected = extract_rounded(truth, *(found[:, 0] + 64).transpose(1, 0, 2).reshape(2, -1), 64)[0]
    np.testing.assert_allclose(members.reshape(-1, 64, 64), expected, atol=1e-12)
    assert np.abs(grouped["coords_offsets"] - np.rint(grouped["coords_offsets"])).max() > 0.1, "between pixels"


def test_the_canvas_on_the_grid_holds_whole_pixels_alone(scan) -> None:
    grouped = scan.generate_grouped_data(64, K=6, gridsize=1)
    assert GroupContainer(grouped, scan.probeGuess, on_grid=True).canvas_size == 64
    grouped = scan.generate_grouped_data(64, K=6, gridsize=2)
    container = GroupContainer(grouped, scan.probeGuess, on_grid=True)
    whole = np.rint(container.arrays(slice(0, len(container)))[1])
    assert container.canvas_size == canvas_size(64, whole)


def settings(architecture: str = "unrolled", held_out: int | None = None, **model) -> TrainingConfig:
    made = ModelConfig(N=64, architecture=architecture, **model)
    return TrainingConfig(model=made, n_groups=16, held_out_neighbors=held_out)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (settings(), 7),
        (settings(gridsize=2), 7),
        (settings(gridsize=3, held_out=None), 12),
        (settings(held_out=2), 3),
        (settings(held_out=0, gridsize=2), 4),
    ],
    ids=["gridsize 1", "gridsize 2", "gridsize 3", "asked", "none asked"],
)
def test_how_many_are_held_out(config, size, scan) -> None:
    config = replace(config, neighbor_count=9)
    found = prepare_training(scan, None, config, GroupContainer).train
    assert found.neighbourhoods is not None
    assert found.neighbourhoods.shape == (16, size)
    np.testing.assert_array_equal(found.neighbourhoods.pool[:, 0], found.nn_indices[:, 0])


def test_the_default_takes_what_a_small_scan_has_and_a_number_asked_for_is_exact(scan) -> None:
    few = scan.subsample(5, 0)
    found = prepare_training(few, None, replace(settings(), n_groups=5), GroupContainer).train
    assert found.neighbourhoods is not None
    assert found.neighbourhoods.shape == (5, 5)
    with pytest.raises(ConfigError, match="5 scan points: expected at least 6"):
        prepare_training(few, None, replace(settings(held_out=5), n_groups=5), GroupContainer)


@pytest.mark.parametrize("config", [settings("cnn"), settings("cnn", 0), settings(object_big=False)])
def test_other_networks_are_judged_by_what_they_see(config, scan) -> None:
    assert prepare_training(scan, None, config, GroupContainer).train.neighbourhoods is None


@pytest.mark.parametrize("config", [settings("cnn", 3), settings("unrolled", 3, object_big=False)])
def test_held_out_neighbours_need_a_network_that_sees_a_canvas(config, scan) -> None:
    with pytest.raises(ConfigError, match=r"held_out_neighbors=3 needs architecture='unrolled' with object_big, found"):
        prepare_training(scan, None, config, GroupContainer)
