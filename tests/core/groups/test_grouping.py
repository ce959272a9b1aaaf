"""Groups of neighbours, against a slow search, and the dictionary that carries them."""

import copy
import pickle
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ptycho.core.groups.grouped_data import GROUPED_KEYS, GroupedData
from ptycho.core.groups.grouping import make_groups, seed_points
from ptycho.errors import ConfigError, DataError


def slow_pool(x: NDArray[Any], y: NDArray[Any], seed_point: int, pool: int) -> list[int]:
    """The `pool` nearest other points by distance, then index."""
    distance = np.hypot(x - x[seed_point], y - y[seed_point])
    order = sorted((d, j) for j, d in enumerate(distance) if j != seed_point)
    return [j for _, j in order[:pool]]


def raster(width: int, height: int, step: float = 3.0) -> tuple[NDArray[Any], NDArray[Any]]:
    y, x = np.mgrid[:height, :width] * step
    return x.ravel(), y.ravel()


def test_a_group_of_one_is_the_point_itself() -> None:
    x, y = raster(3, 2)
    groups = make_groups(x, y, 1)
    assert groups.dtype == np.int32
    assert groups.tolist() == [[0], [1], [2], [3], [4], [5]]


def test_members_of_a_line_by_hand() -> None:
    # gaps 1, 2, 4, 8, 16: with K = C - 1 + 1 = 4 the draw leaves one of four neighbours out.
    x = np.array([0.0, 1.0, 3.0, 7.0, 15.0, 31.0])
    groups = make_groups(x, np.zeros(6), 2, K=4, seed=1)
    allowed = {
        0: [1, 2, 3, 4],
        1: [0, 2, 3, 4],
        2: [1, 0, 3, 4],
        3: [2, 1, 0, 4],
        4: [3, 2, 1, 0],
        5: [4, 3, 2, 1],
    }
    for seed_point, *others in groups.tolist():
        ranks = [allowed[seed_point].index(member) for member in others]
        assert ranks == sorted(set(ranks))
        assert len(ranks) == 3


@pytest.mark.parametrize("positions", ["random", "raster"])
@pytest.mark.parametrize(("gridsize", "K"), [(2, 4), (2, 7), (3, 11)])
def test_members_come_from_the_nearest_in_order(
    positions: str, gridsize: int, K: int, rng: np.random.Generator
) -> None:
    x, y = raster(7, 5) if positions == "raster" else rng.random((2, 35)) * 50
    groups = make_groups(x, y, gridsize, K=K, seed=3)
    assert groups.shape == (35, gridsize**2)
    assert groups[:, 0].tolist() == list(range(35))
    for seed_point, *others in groups.tolist():
        ranks = [slow_pool(x, y, seed_point, K).index(member) for member in others]
        assert ranks == sorted(set(ranks))


def test_every_choice_of_members_is_equally_likely() -> None:
    x, y = raster(5, 5)
    groups = make_groups(x, y, 2, K=4, nsamples=25 * 800, seed=0, enable_oversampling=True)
    middle = groups[groups[:, 0] == 12][:, 1:]
    left_out = 7 + 11 + 13 + 17 - middle.sum(axis=1)
    counts = np.array([np.sum(left_out == j) for j in (7, 11, 13, 17)])
    assert counts.sum() == 800
    # four outcomes of 200 +- 12: five sigma.
    assert np.all(np.abs(counts - 200) < 62)


def test_same_seed_same_groups_other_seed_other_groups(rng: np.random.Generator) -> None:
    x, y = rng.random((2, 60)) * 50
    first = make_groups(x, y, 2, K=6, nsamples=20, seed=5)
    np.testing.assert_array_equal(first, make_groups(x, y, 2, K=6, nsamples=20, seed=5))
    other = make_groups(x, y, 2, K=6, nsamples=20, seed=6)
    assert set(first[:, 0].tolist()) != set(other[:, 0].tolist())
    np.testing.assert_array_equal(make_groups(x, y, 2, K=6), make_groups(x, y, 2, K=6, seed=0))


def test_seed_points_are_distinct_and_sequential_ones_the_first(rng: np.random.Generator) -> None:
    x, y = rng.random((2, 60)) * 50
    chosen = make_groups(x, y, 1, nsamples=20, seed=5)[:, 0]
    assert len(set(chosen.tolist())) == 20
    assert chosen.max() > 25
    assert make_groups(x, y, 2, nsamples=7, sequential_sampling=True)[:, 0].tolist() == list(range(7))
    assert make_groups(x, y, 1, nsamples=7, sequential_sampling=True)[:, 0].tolist() == list(range(7))


def test_seed_points_are_those_of_the_groups(rng: np.random.Generator) -> None:
    x, y = rng.random((2, 30)) * 50
    assert seed_points(x, y, 1).dtype == np.int32
    for gridsize, K in ((1, 4), (2, 4), (3, 9)):
        assert seed_points(x, y, gridsize, K=K).tolist() == make_groups(x, y, gridsize, K=K)[:, 0].tolist()
    with pytest.raises(ConfigError, match="K=4 neighbours: gridsize 3"):
        seed_points(x, y, 3)


def test_more_groups_than_points(rng: np.random.Generator) -> None:
    x, y = rng.random((2, 10)) * 50
    with pytest.raises(ValueError, match="enable_oversampling=True") as error:
        make_groups(x, y, 2, nsamples=11)
    assert "\n" not in str(error.value)
    groups = make_groups(x, y, 2, K=5, nsamples=25, enable_oversampling=True)
    counts = np.bincount(groups[:, 0], minlength=10)
    assert counts.sum() == 25
    assert set(counts.tolist()) == {2, 3}
    sequential = make_groups(x, y, 2, nsamples=13, enable_oversampling=True, sequential_sampling=True)
    assert sequential[:, 0].tolist() == [*range(10), 0, 1, 2]
    assert make_groups(x, y, 1, nsamples=500)[:, 0].tolist() == list(range(10))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"gridsize": 2, "K": 3}, r"raise K \(neighbor_count\)"),
        ({"gridsize": 3, "K": 8}, r"K=8 .* at least 9"),
        ({"gridsize": 2, "neighbor_pool_size": 3}, "raise neighbor_pool_size to at least 4"),
        (
            {"gridsize": 2, "nsamples": 40, "enable_oversampling": True, "neighbor_pool_size": 2},
            "neighbor_pool_size",
        ),
        ({"gridsize": 6, "K": 40}, "20 scan points: gridsize 6 .* at least 36"),
        ({"gridsize": 0}, "gridsize=0"),
        ({"gridsize": 1, "nsamples": 0}, "nsamples=0"),
    ],
)
def test_errors_name_the_number_to_raise(options: dict[str, Any], name: str, rng: np.random.Generator) -> None:
    x, y = rng.random((2, 20))
    with pytest.raises(ConfigError, match=name):
        make_groups(x, y, **options)


def test_a_pool_overrides_K_and_is_cut_to_the_points_there_are() -> None:
    x = np.array([0.0, 1.0, 2.0, 30.0])
    assert sorted(make_groups(x, x, 2, K=4)[0].tolist()) == [0, 1, 2, 3]
    wide, y = raster(9, 9)
    far = make_groups(wide, y, 2, K=4, neighbor_pool_size=60, seed=0)
    assert np.abs(wide[far] - wide[far[:, :1]]).max() > 6


@pytest.mark.parametrize("copies", [2, 3, 40])
def test_a_point_is_never_its_own_neighbour_where_positions_coincide(copies: int) -> None:
    x, y = (np.repeat(v, copies) for v in raster(3, 3))
    groups = make_groups(x, y, 2, K=5, seed=2)
    assert all(len(set(members)) == 4 for members in groups.tolist())
    assert groups[:, 0].tolist() == list(range(9 * copies))


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        ([1.0, np.nan], [1.0, 2.0], "1 of 2 not finite"),
        ([1.0], [1.0, 2.0], r"shapes \(1,\) and \(2,\)"),
        ([], [], "one length"),
        ([[1.0]], [[1.0]], "vectors"),
    ],
)
def test_bad_positions(x: Any, y: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        make_groups(x, y, 1)


def test_a_hundred_thousand_points_take_seconds_not_minutes(rng: np.random.Generator) -> None:
    x, y = rng.random((2, 100_000)) * 3000
    start = time.process_time()
    assert make_groups(x, y, 2, seed=0).shape == (100_000, 4)
    assert time.process_time() - start < 2.0


class Scan:
    """Pattern j of 2 x 3 pixels holds 10 j + pixel; counts how often it is read."""

    def __init__(self, truth: bool = False) -> None:
        self.frames = (10 * np.arange(5)[:, None, None] + np.arange(6).reshape(2, 3)).astype(np.float32)
        self.Y = self.frames * 1j if truth else None
        self.reads = 0

    def amplitude(self, indices: Any = None) -> NDArray[np.float32]:
        self.reads += 1
        return self.frames[indices]

    def input_scale(self) -> float:
        return 0.5


GROUPS = np.array([[3, 1], [0, 4], [2, 2]], np.int32)


def grouped(truth: bool = True, scale: float | None = 2.0) -> GroupedData:
    return GroupedData({"nn_indices": GROUPS, "objectGuess": None}, Scan(truth), scale)


def test_arrays_are_made_on_first_access_only() -> None:
    scan = Scan()
    data = GroupedData({"nn_indices": GROUPS}, scan, 2.0)
    assert list(data) == ["diffraction", "X_full", "Y", "nn_indices"]
    assert len(data) == 4
    assert "diffraction" in data
    assert scan.reads == 0
    first = data["diffraction"]
    assert scan.reads == 1
    assert data["diffraction"] is first
    assert first.shape == (3, 2, 3, 2)
    assert first[0, 1, 2].tolist() == [35.0, 15.0]
    assert first.flags.c_contiguous
    np.testing.assert_array_equal(data["X_full"], 2 * first)


def test_batch_reads_amplitudes_of_some_groups_and_keeps_nothing() -> None:
    data = grouped()
    groups = data["nn_indices"]
    batch = data.amplitudes(groups[[2, 0]])
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, data["diffraction"][[2, 0]])
    np.testing.assert_array_equal(data.amplitudes(groups[1:3]), data["diffraction"][1:3])
    assert data.scale == 2.0
    assert grouped(scale=None).scale == 0.5
    np.testing.assert_array_equal(grouped(scale=None)["X_full"], 0.5 * data["diffraction"])


def test_truth_is_complex64_or_none() -> None:
    truth = grouped()["Y"]
    assert truth.dtype == np.complex64
    assert truth[1, 0, 1].tolist() == [1j, 41j]
    assert grouped(truth=False)["Y"] is None


FULL = {
    "dict": dict,
    "unpacked": lambda data: {**data},
    "keywords": lambda data: (lambda **kwargs: kwargs)(**data),
    "items": lambda data: dict(data.items()),
    "keys and values": lambda data: dict(zip(data.keys(), data.values(), strict=True)),
    "get": lambda data: {key: data.get(key) for key in data},
    "setdefault": lambda data: {key: data.setdefault(key, 0) for key in data},
    "pop": lambda data: {key: data.pop(key) for key in list(data)},
    "popitem": lambda data: dict(reversed([data.popitem() for _ in range(len(data))])),
    "copy": lambda data: data.copy(),
    "update": lambda data: (target := {}, target.update(data))[0],
    "or": lambda data: data | {},
    "reversed or": lambda data: {} | data,
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda data: pickle.loads(pickle.dumps(data)),  # noqa: S301 - our own bytes
}


@pytest.mark.parametrize("touched", [False, True])
@pytest.mark.parametrize("way", FULL)
def test_reads_like_a_full_dictionary(way: str, touched: bool) -> None:
    data, reference = grouped(), grouped()
    expected = {key: reference[key] for key in ("diffraction", "X_full", "Y", "nn_indices", "objectGuess")}
    if touched:
        data["diffraction"]
    result = FULL[way](data)
    assert list(result) == list(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(result[key], value)


def test_written_values_stay() -> None:
    data = grouped()
    data["diffraction"] = 1
    data.update(Y=2)
    data |= {"X_full": 3}
    assert [data["diffraction"], data["Y"], data["X_full"]] == [1, 2, 3]
    del data["Y"]
    assert "Y" not in data
    assert data.get("Y", 7) == data.pop("Y", 7) == data.setdefault("Y", 7) == 7
    with pytest.raises(KeyError):
        data["missing"]
    with pytest.raises(KeyError):
        data.pop("missing")
    data.clear()
    with pytest.raises(KeyError):
        data.popitem()


def test_unpickled_data_still_stream() -> None:
    again = pickle.loads(pickle.dumps(grouped()))  # noqa: S301 - our own bytes
    assert isinstance(again, GroupedData)
    points = again["nn_indices"][[1]]
    np.testing.assert_array_equal(again.amplitudes(points), grouped().amplitudes(points))
    assert set(again) <= set(GROUPED_KEYS)
