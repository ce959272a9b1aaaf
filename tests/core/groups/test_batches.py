"""The order of the groups and the batches of several experiments, by hand."""

from itertools import islice

import numpy as np
import pytest

from ptycho.core.groups.batches import batch_count, epoch_orders, experiment_batches, group_counts, split_batches


def test_an_epoch_sees_every_group_once_in_an_order_of_its_own() -> None:
    first, second = islice(epoch_orders(9, seed=4), 2)
    assert sorted(first) == sorted(second) == list(range(9))
    assert first.tolist() != second.tolist()
    np.testing.assert_array_equal(next(epoch_orders(9, seed=4)), first)
    assert [next(epoch_orders(count, seed=4)).tolist() for count in (0, 1)] == [[], [0]]


def test_the_last_batch_is_smaller() -> None:
    assert [batch.tolist() for batch in split_batches(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("sizes", [[4], [3, 0, 5], [1, 1], [7, 2]])
def test_a_batch_is_of_one_experiment_and_every_group_is_seen_once(sizes: list[int]) -> None:
    order = np.random.default_rng(0).permutation(sum(sizes))
    batches = list(experiment_batches(order, sizes, 2))
    assert len(batches) == batch_count(sizes, 2)
    assert all(len(groups) <= 2 for _, groups in batches)
    seen = sorted((experiment, int(group)) for experiment, groups in batches for group in groups)
    assert seen == [(experiment, group) for experiment, size in enumerate(sizes) for group in range(size)]


def test_one_experiment_has_the_batches_of_its_order() -> None:
    order = np.array([2, 0, 3, 1, 4])
    assert [groups.tolist() for _, groups in experiment_batches(order, [5], 2)] == [[2, 0], [3, 1], [4]]


def test_an_experiment_without_groups_counts_none() -> None:
    assert group_counts([[1, 2], None, [3]]) == [2, 0, 1]
