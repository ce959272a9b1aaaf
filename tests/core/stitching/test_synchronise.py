"""Phase synchronisation: planted phases come back, noise is not fitted, and the cost is linear."""

import tracemalloc

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.patches import extract
from ptycho.core.stitching.overlaps import compact_weight, overlap_pairs, pair_products, pair_slopes
from ptycho.core.stitching.ramps import solve_ramps
from ptycho.core.stitching.stitch import stitch
from ptycho.core.stitching.synchronise import synchronise
from ptycho.errors import DataError

N = 16
GAUSSIAN = np.exp(-((np.arange(N) - N / 2) ** 2) / (2 * 3.0**2))
WEIGHT = np.outer(GAUSSIAN, GAUSSIAN)
SHAPE = (64, 72)


def lattice(columns, rows, step=4.0):
    x, y = np.meshgrid(step * np.arange(columns), step * np.arange(rows))
    return x.ravel(), y.ravel()


def unit(rng, n):
    return np.exp(2j * np.pi * rng.random(n))


def coherence(z, truth):
    """1 when z equals truth up to a common phase, about 0 when it has nothing to do with it."""
    return abs(np.vdot(truth, z)) / len(z)


@pytest.fixture
def truth(rng):
    return np.exp(1j * rng.uniform(-1, 1, SHAPE)) * rng.uniform(0.5, 1.5, SHAPE)


@pytest.fixture
def positions():
    x, y = lattice(11, 9, 5.0)
    return x + 10, y + 10


def cut(truth, positions):
    return extract(truth, *positions, N).astype(np.complex64)


class TestPlantedPhases:
    def test_patches_times_phases_stitch_to_the_object(self, truth, positions, rng):
        planted = unit(rng, 99)
        patches = cut(truth, positions) * planted[:, None, None].astype(np.complex64)
        found = synchronise(patches, *positions, WEIGHT)
        assert found.kept and found.n_components == 1 and found.agreement_before < 0.3
        assert found.agreement_after == pytest.approx(1, abs=1e-6)
        assert coherence(found.phases, planted.conj()) == pytest.approx(1, abs=1e-6)
        assert coherence(found.phases, planted) < 0.5
        result, coverage = stitch(patches, *positions, WEIGHT, ObjectFrame(*SHAPE, 0, 0), found.phases)
        turn = found.phases[0] * planted[0]
        covered = coverage > 0
        assert covered.mean() > 0.7
        np.testing.assert_allclose(result[covered], (turn * truth)[covered], atol=1e-5)

    def test_a_group_of_patches_shares_one_phase(self, truth, positions, rng):
        labels = rng.permutation(np.arange(99) % 30) * 7 - 3
        planted = dict(zip(np.unique(labels), unit(rng, 30), strict=True))
        factors = np.array([planted[k] for k in labels])
        found = synchronise(cut(truth, positions) * factors[:, None, None], *positions, WEIGHT, labels)
        assert found.kept and coherence(found.phases, factors.conj()) == pytest.approx(1, abs=1e-6)
        assert all(len(set(found.phases[labels == k])) == 1 for k in set(labels))

    def test_rounded_positions_are_near_enough(self, rng):
        y, x = np.indices(SHAPE)
        truth = np.exp(1j * np.sin(x / 7) + 1j * np.cos(y / 5 + x / 11))
        places = rng.uniform(10, 56, (2, 120))
        planted = unit(rng, 120)
        found = synchronise(cut(truth, places) * planted[:, None, None], *places, WEIGHT)
        assert found.kept and coherence(found.phases, planted.conj()) > 0.999

    def test_regions_apart_are_solved_apart(self, truth, rng):
        x, y = lattice(4, 4)
        places = np.r_[x, x + 200, 500] + 10, np.r_[y, y + 9, 500] + 10
        patches = cut(truth, (np.r_[x, x, 20] + 10, np.r_[y, y, 20] + 10))
        planted = unit(rng, 33)
        found = synchronise(patches * planted[:, None, None], *places, WEIGHT)
        assert found.kept and found.n_components == 3
        for region in (slice(0, 16), slice(16, 32)):
            assert coherence(found.phases[region], planted[region].conj()) == pytest.approx(1, abs=1e-6)
            assert abs(np.angle(found.phases[region].mean())) < 0.4  # the weights of its mean differ somewhat
        assert found.phases[32] == 1

    def test_two_patches(self, truth):
        places = np.array([20.0, 24]), np.array([20.0, 21])
        patches = cut(truth, places) * np.array([1, 1j])[:, None, None]
        found = synchronise(patches, *places, WEIGHT)
        assert found.kept and found.n_edges == 1
        np.testing.assert_allclose(found.phases, np.exp([0.25j * np.pi, -0.25j * np.pi]), atol=1e-6)


class TestRamps:
    """A linear phase in each patch: what differs between patches is found, what they share is not theirs to tell."""

    def ramped(self, truth, positions, ramps, noise=0.0, rng=None):
        v, u = np.indices((N, N)) - N // 2
        patches = cut(truth, positions) * np.exp(1j * (ramps[:, 0, None, None] * u + ramps[:, 1, None, None] * v))
        if noise:
            patches = patches + noise * (rng.standard_normal(patches.shape) + 1j * rng.standard_normal(patches.shape))
        return patches.astype(np.complex64)

    @pytest.mark.parametrize(("noise", "error"), [(0.0, 5e-5), (0.1, 0.01)])
    def test_planted_ones_come_back(self, truth, positions, rng, noise, error):
        ramps = 0.1 * rng.standard_normal((99, 2))
        planted = unit(rng, 99)
        patches = self.ramped(truth, positions, ramps, noise, rng) * planted[:, None, None]
        found = synchronise(patches, *positions, WEIGHT)
        assert found.kept and found.beyond_noise
        left = found.turns.ramps + ramps
        assert np.std(left, axis=0).max() < error
        assert found.agreement_after > 0.99 * found.unseen[1]
        if not noise:
            assert found.agreement_after == pytest.approx(1, abs=1e-4)

    def test_one_that_all_share_is_a_plane_through_the_object(self, truth, positions, rng):
        common = np.tile([0.11, -0.07], (99, 1))
        found = synchronise(self.ramped(truth, positions, common), *positions, WEIGHT)
        assert found.kept and found.turns.ramps is None
        assert found.agreement_after == pytest.approx(1, abs=1e-5)
        x, y = positions
        assert coherence(found.phases, np.exp(1j * (0.11 * x - 0.07 * y))) == pytest.approx(1, abs=1e-5)

    def test_a_group_of_patches_shares_one(self, truth, positions, rng):
        labels = np.arange(99) // 3  # three neighbours along x
        ramps = 0.1 * rng.standard_normal((33, 2))
        centre = np.stack([np.bincount(labels, p) / 3 for p in positions], axis=1)
        about = (ramps[labels] * (np.stack(positions, axis=1) - centre[labels])).sum(axis=1)
        patches = self.ramped(truth, positions, ramps[labels]) * np.exp(1j * about)[:, None, None]
        found = synchronise(patches, *positions, WEIGHT, labels)
        assert found.kept and found.agreement_after == pytest.approx(1, abs=1e-4)
        assert np.std(found.turns.ramps[::3] + ramps, axis=0).max() < 1e-4

    @pytest.mark.parametrize("noise", [0.1, 1.0, 3.0])
    def test_noise_has_none(self, truth, positions, rng, noise):
        assert (
            synchronise(self.ramped(truth, positions, np.zeros((99, 2)), noise, rng), *positions, WEIGHT).turns is None
        )

    def test_small_ones_are_left_alone(self, truth, positions, rng):
        ramps = 0.003 * rng.standard_normal((99, 2))
        assert synchronise(self.ramped(truth, positions, ramps), *positions, WEIGHT).solved.ramps is None

    def test_regions_apart_keep_their_mean(self, rng):
        links = np.array([(0, 1), (1, 2), (2, 0), (3, 4)])
        ramps = rng.standard_normal((6, 2))
        found = solve_ramps(ramps[links[:, 1]] - ramps[links[:, 0]], rng.uniform(0.5, 2, (4, 2)), links, 6)
        np.testing.assert_allclose(found[:3], ramps[:3] - ramps[:3].mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(found[3:5], ramps[3:5] - ramps[3:5].mean(axis=0), atol=1e-9)
        assert (found[5] == 0).all()

    def test_slopes_of_pairs_either_way_round(self, truth, positions, rng):
        ramps = 0.05 * rng.standard_normal((99, 2))
        patches = self.ramped(truth, positions, ramps)
        pairs = np.array([(0, 1), (1, 0), (30, 20), (50, 61), (61, 50), (0, 98)])
        slopes, counts = pair_slopes(patches, *positions, WEIGHT, pairs)
        np.testing.assert_allclose(
            slopes[:, :5], np.tile((ramps[pairs[:, 1]] - ramps[pairs[:, 0]])[:5], (2, 1, 1)), atol=0.02
        )
        assert (counts[:, :5] > 0).all() and (counts[:, 5] == 0).all()


def test_a_weak_bridge_between_two_regions(rng):
    """Two dense scans that share one faint overlap still find their common phase; without it each keeps its own."""
    x, y = lattice(5, 5)
    bridge = 16 + N - 4.0  # the nearest patches of the two share a strip
    places = np.r_[x, x + bridge] + 10, np.r_[y, y] + 10
    truth = np.exp(1j * rng.uniform(-1, 1, (40, 80)))
    planted = unit(rng, 50)
    patches = cut(truth, places) * planted[:, None, None]
    found = synchronise(patches, *places, np.ones((N, N)))
    assert found.n_components == 1 and coherence(found.phases, planted.conj()) == pytest.approx(1, abs=1e-5)
    apart = synchronise(patches, places[0] + 10 * (np.arange(50) >= 25), places[1], np.ones((N, N)))
    assert apart.kept and apart.n_components == 2


class TestKeep:
    """Phases are kept where pixels they were not fitted to agree better, and only there."""

    def noisy(self, truth, positions, rng, noise):
        patches = cut(truth, positions)
        return patches + noise * (rng.standard_normal(patches.shape) + 1j * rng.standard_normal(patches.shape))

    def test_patches_that_agree_are_left_alone(self, truth, positions):
        found = synchronise(cut(truth, positions), *positions, WEIGHT)
        assert not found.kept and (found.phases == 1).all()
        assert found.agreement_before == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(found.solved.phases, 1, atol=1e-3)

    @pytest.mark.parametrize("noise", [0.01, 0.1, 0.5, 2.0])
    def test_noise_alone_is_not_fitted(self, truth, positions, rng, noise):
        found = synchronise(self.noisy(truth, positions, rng, noise), *positions, WEIGHT)
        assert found.agreement_after > found.agreement_before  # as it always is: n - 1 more unknowns
        assert not found.kept and (found.phases == 1).all()

    @pytest.mark.parametrize(("noise", "spread"), [(0.01, 0.05), (0.1, 0.3), (0.5, 1.0), (0.5, 6.0)])
    def test_phases_beyond_the_noise_are_kept(self, truth, positions, rng, noise, spread):
        planted = np.exp(1j * spread * rng.standard_normal(99))
        patches = self.noisy(truth, positions, rng, noise) * planted[:, None, None]
        found = synchronise(patches, *positions, WEIGHT)
        assert found.kept and found.agreement_after > found.agreement_before
        before, after = coherence(np.ones(99), planted.conj()), coherence(found.phases, planted.conj())
        assert 1 - after < 0.5 * (1 - before)

    def test_a_common_factor_is_left_alone(self, truth, positions):
        found = synchronise(cut(truth, positions) * np.complex64(-3j), *positions, WEIGHT)
        assert not found.kept and (found.phases == 1).all()

    def test_phases_below_the_rounding_of_single_precision_are_left_alone(self, truth, positions, rng):
        planted = np.exp(5e-4j * rng.standard_normal(99))
        found = synchronise(extract(truth, *positions, N) * planted[:, None, None], *positions, WEIGHT)
        assert not found.kept and found.agreement_after > found.agreement_before

    @pytest.mark.parametrize("unit_of", [1e-9, 1e9])
    def test_the_unit_of_object_and_weight_does_not_matter(self, truth, positions, rng, unit_of):
        patches = cut(truth, positions) * unit(rng, 99)[:, None, None].astype(np.complex64)
        one = synchronise(patches, *positions, WEIGHT)
        other = synchronise(patches * np.float32(unit_of), *positions, WEIGHT / unit_of)
        assert one.kept and other.kept
        np.testing.assert_allclose(one.phases, other.phases, atol=1e-5)


class TestNothingToCompare:
    @pytest.mark.parametrize("n", [0, 1])
    def test_too_few_patches(self, n):
        found = synchronise(np.ones((n, N, N), np.complex64), np.ones(n), np.ones(n), WEIGHT)
        assert found.phases.shape == (n,) and (found.phases == 1).all()
        assert not found.kept and found.agreement_before == found.agreement_after == 1
        assert (found.n_edges, found.n_components) == (0, n)

    def test_no_overlaps(self, rng):
        x, y = lattice(5, 5, step=2 * N)
        patches = unit(rng, 25)[:, None, None] * np.ones((25, N, N))
        found = synchronise(patches, x, y, WEIGHT)
        assert not found.kept and (found.phases == 1).all() and found.n_components == 25

    def test_patches_of_zeros_keep_their_phase(self, truth, positions, rng):
        planted = unit(rng, 99)
        patches = cut(truth, positions) * planted[:, None, None]
        patches[[3, 50]] = 0
        found = synchronise(patches, *positions, WEIGHT)
        others = np.delete(np.arange(99), [3, 50])
        assert found.kept and (found.phases[[3, 50]] == 1).all() and found.n_components == 3
        assert coherence(found.phases[others], planted[others].conj()) == pytest.approx(1, abs=1e-6)
        assert (synchronise(np.zeros_like(patches), *positions, WEIGHT).phases == 1).all()

    def test_all_patches_in_one_group(self, truth, positions):
        found = synchronise(cut(truth, positions), *positions, WEIGHT, np.zeros(99))
        assert not found.kept and (found.n_edges, found.n_components) == (0, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p, x, y: (np.where(np.arange(99)[:, None, None] == 41, np.nan, p), x, y),
            "NaN or infinity in patch 41",
        ),
        (lambda p, x, y: (p, np.where(np.arange(99) == 5, np.inf, x), y), "expected finite pixels, found .* at 5"),
        (lambda p, x, y: (p[1:], x, y), "expected 99, one per position, found 98"),
        (lambda p, x, y: (p[..., 1:], x, y), r"expected complex \(n, 16, 16\)"),
        (lambda p, x, y: (p, x, y, WEIGHT, np.zeros(4)), r"labels: expected one per patch, \(99,\), found \(4,\)"),
    ],
)
def test_what_does_not_fit_is_refused(truth, positions, change, message):
    arguments = change(cut(truth, positions), *positions)
    with pytest.raises(DataError, match=message):
        synchronise(*arguments, *([WEIGHT] if len(arguments) == 3 else []))


def test_a_memory_mapped_file_will_do(truth, positions, tmp_path):
    patches = cut(truth, positions) * np.exp(1j * np.arange(99))[:, None, None].astype(np.complex64)
    np.save(tmp_path / "patches.npy", patches)
    mapped = np.load(tmp_path / "patches.npy", mmap_mode="r", allow_pickle=False)
    one, other = synchronise(patches, *positions, WEIGHT), synchronise(mapped, *positions, WEIGHT)
    np.testing.assert_array_equal(one.phases, other.phases)  # and the same phases each time


@pytest.mark.slow
def test_memory_is_far_below_that_of_the_patches(rng):
    side, step = 100, 2.0
    x, y = (step * a.ravel() + rng.uniform(-0.5, 0.5, side**2) for a in np.meshgrid(*2 * [np.arange(side)]))
    patches = np.broadcast_to(np.exp(1j * rng.random((N, N))).astype(np.complex64), (side**2, N, N))
    tracemalloc.start()
    found = synchronise(patches, x, y, WEIGHT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.n_edges > 6 * side**2
    assert peak < 1700 * side**2  # bytes; a patch of 64 x 64 has 32768


class TestPairProducts:
    def test_agrees_with_a_loop_over_pixels(self, rng):
        weight = np.zeros((N, N))
        weight[2:13, 5:14] = rng.uniform(0.2, 2, (11, 9))
        x, y = rng.uniform(-20, 20, (2, 12))
        patches = rng.standard_normal((12, N, N)) + 1j * rng.standard_normal((12, N, N))
        pairs = np.array([(i, j) for i in range(12) for j in range(12)])
        w = weight / weight.max()
        expected = np.zeros((2, 144), complex)
        fields = np.zeros((2, 144), int)
        for k, (i, j) in enumerate(pairs):
            dx, dy = round(x[j] - x[i]), round(y[j] - y[i])
            for r in range(max(0, dy), min(N, N + dy)):
                for c in range(max(0, dx), min(N, N + dx)):
                    term = w[r, c] * w[r - dy, c - dx] * patches[i, r, c].conj() * patches[j, r - dy, c - dx]
                    expected[0, k] += term
                    fields[0, k] += term != 0
        halves = pair_products(patches, x, y, weight, pairs)
        assert 20 < (expected[0] != 0).sum() < 140
        np.testing.assert_allclose(halves.sum(axis=0), expected[0], rtol=1e-10, atol=1e-12)
        np.testing.assert_array_equal(
            pair_products(patches.astype(np.complex64), x, y, weight, pairs) != 0, halves != 0
        )

    def test_halves_are_the_fields_of_a_checkerboard_on_the_object(self):
        """A pixel of the object lies in the same half whichever pair sees it."""
        x, y = np.array([8.0, 9, 11, 6]), np.array([8.0, 6, 10, 11])
        pairs = np.array([(0, 1), (0, 2), (3, 0), (2, 1), (1, 3)])
        for row in range(7, 11):
            for column in range(7, 11):
                point = np.zeros((20, 20))
                point[row, column] = 1
                seen = pair_products(extract(point.astype(complex), x, y, N), x, y, np.ones((N, N)), pairs)
                assert (np.count_nonzero(seen, axis=0) == 1).all()
                assert (seen[0] != 0).all() or (seen[1] != 0).all()
                assert ((seen[0] != 0) == ((row // 2 + column // 2) % 2)).all()


class TestOverlapPairs:
    def components(self, pairs, n):
        return connected_components(coo_array((np.ones(len(pairs)), pairs.T), shape=(n, n)), directed=False)[0]

    def test_a_sparse_lattice_pairs_its_neighbours(self):
        x, y = lattice(5, 4, step=10.0)
        pairs = overlap_pairs(x, y, WEIGHT)  # neighbours share 6 % of their weight, diagonals 0.4 %
        distance = np.hypot(*(a[pairs[:, 0]] - a[pairs[:, 1]] for a in (x, y)))
        assert (distance < 14.2).all() and (distance == 10).sum() == 5 * 3 + 4 * 4
        assert len(set(map(tuple, pairs))) == len(pairs) and (pairs[:, 0] < pairs[:, 1]).all()

    def test_pairs_beyond_reach_are_left_out(self):
        pairs = overlap_pairs(*lattice(6, 6, step=12.0), WEIGHT[:, ::-1])
        assert len(pairs) == 2 * 6 * 5  # straight neighbours share 2 %, diagonals less than a thousandth
        assert len(overlap_pairs(*lattice(6, 6, step=15.0), WEIGHT)) == 0

    def test_patches_side_by_side_are_no_pair(self):
        for x, y, overlaps in ((15, 0, True), (16, 0, False), (17, 0, False), (0, 17, False), (12, 12, True)):
            assert len(overlap_pairs([0, x], [0, y], np.ones((N, N)))) == overlaps

    @pytest.mark.parametrize("spread", [3.0, 30.0, 150.0])
    def test_their_number_is_linear_however_dense_the_scan(self, rng, spread):
        x, y = rng.uniform(0, spread, (2, 3000))
        assert len(overlap_pairs(x, y, WEIGHT)) < 25 * 3000

    def test_lines_of_a_continuous_scan_are_linked(self):
        x, y = (a.ravel() for a in np.meshgrid(0.25 * np.arange(200), 6.0 * np.arange(10)))
        assert self.components(overlap_pairs(x, y, WEIGHT), 2000) == 1

    def test_repeated_positions_are_linked_to_the_others(self):
        x, y = (np.repeat(a, 25) for a in lattice(6, 6))
        assert self.components(overlap_pairs(x, y, WEIGHT), 900) == 1


def test_compact_weight_crops_to_what_is_lit():
    weight = np.zeros((6, 6))
    weight[1:3, 2:6] = 5
    weight[1, 2] = 5e-7
    weight[5, 0] = 4e-6
    compact, (rows, columns) = compact_weight(weight)
    assert (rows, columns) == (slice(1, 3), slice(2, 6))
    np.testing.assert_array_equal(compact, [[0, 1, 1, 1], [1, 1, 1, 1]])
    assert compact_weight(weight, 1e-8)[1] == (slice(1, 6), slice(0, 6))
