"""What is kept of batches changes nothing, and neither does how a scan is cut into them."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.refinement.device.kernels_numpy import NumpyKernels
from ptycho.core.refinement.sums import batches


def test_what_is_kept_changes_nothing(small) -> None:
    """Fields taken along a step are those computed anew, with every budget."""
    seen, kept_out = np.arange(3, len(small.scan)), np.arange(3)
    results = []
    for keep in (0, 4 * small.scan.diff3d.size, 1 << 30):
        passes, point = small.passes(keep=keep, groups=[seen], unseen=kept_out), small.point
        _, gradient = passes.gradient(point, with_probe=False)
        curvature = passes.curvature(point, gradient)
        target = point._replace(object=point.object + 1e-4 * gradient.object)
        passes.advance(point, target, 1e-4)
        error, after = passes.gradient(target, with_probe=True)
        results.append((curvature, error, passes.error(target, unseen=True), after.object, after.probe))
    for found in results[1:]:
        for one, other in zip(found, results[0], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_the_batches_sum_to_the_whole(small) -> None:
    groups = np.array_split(np.random.default_rng(0).permutation(len(small.scan)), 3)
    passes, whole = small.passes(groups=groups), small.passes()
    parts = [passes.gradient(small.point, True, group)[1] for group in range(3)]
    expected = whole.gradient(small.point, True)[1]
    np.testing.assert_allclose(sum(part.object for part in parts), expected.object, atol=1e-9)
    np.testing.assert_allclose(sum(part.probe for part in parts), expected.probe, atol=1e-9)


@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
def test_packed_patterns_give_the_same_bits(small, likelihood, monkeypatch) -> None:
    """Counts below 256, a budget for bytes and nothing else."""
    counts = np.minimum(np.rint(small.scan.amplitude() ** 2), 200)
    scan = replace(small, scan=small.scan.replaced(diff3d=np.sqrt(counts, dtype=np.float32)))
    found = []
    for packs in (True, False):
        monkeypatch.setattr(NumpyKernels, "packs", packs)
        passes = scan.passes(likelihood, keep=2 * counts.size)
        error, gradient = passes.gradient(small.point, True)
        found.append((error, passes.plan.patterns, gradient))
    (error, room, gradient), (other_error, other_room, other) = found
    assert (room, other_room) == (counts.size, 0)
    assert error == other_error
    np.testing.assert_array_equal(gradient.object, other.object)
    np.testing.assert_array_equal(gradient.probe, other.probe)


def test_page_locked_memory_comes_in_powers_of_two(small, monkeypatch) -> None:
    """Each batch is a block of its own, and so are its masks; the host has to have twice as much free."""
    monkeypatch.setattr(NumpyKernels, "batch_pixels", 1 << 40)
    passes, mask = small.passes(keep=0), small.scan.mask
    each = passes.plan.batch * passes.n**2 * 4
    block = next(2**k for k in range(40) if 2**k >= each)
    assert each < block
    needed = 2 * 3 * block * (2 if mask is not None and mask.ndim == 3 else 1)
    for room, fits in ((needed, True), (needed - 1, False), (None, False)):
        monkeypatch.setattr(batches, "available_bytes", lambda room=room: room)
        assert passes._fits_the_host(3 * passes.plan.batch - 1) is fits
