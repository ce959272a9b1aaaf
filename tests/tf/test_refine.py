"""Refinement with TensorFlow: it converges, keeps units, honours masks and stops; tests/parity compares the rest."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame
from ptycho.core.simulation.plan import make_scan
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.tf.refine import refine

N, SIZE = 16, 44
FRAME = ObjectFrame(SIZE, SIZE, 0, 0)
MADE = make_scan("lines", SIZE, N, 2.3, 0.5, 1e7, 4)


def scan_of(**changes) -> RawData:
    fields = {"diff3d": MADE.diffraction, "probeGuess": MADE.probe, "units": "amplitude", **changes}
    return RawData(MADE.xcoords, MADE.ycoords, None, None, **fields)


def relative_error(found: np.ndarray) -> float:
    inner = np.s_[14:-14, 14:-14]
    factor = np.vdot(found[inner], MADE.object[inner])
    left = found[inner] * factor / abs(factor) - MADE.object[inner]
    return float(np.linalg.norm(left) / np.linalg.norm(MADE.object[inner]))


@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
def test_it_finds_the_object(likelihood) -> None:
    seen: list[int] = []
    result = refine(
        scan_of(), None, 25, frame=FRAME, refine_probe=False, likelihood=likelihood, tolerance=0,
        report=lambda iteration, error: seen.append(iteration),
    )  # fmt: skip
    assert relative_error(result.object) < 0.003
    assert seen == list(range(26))
    assert result.error_history[result.kept] == min(result.error_history)


def test_masked_pixels_do_not_matter(rng) -> None:
    mask = rng.random((N, N)) > 0.1
    spoiled = np.where(mask, MADE.diffraction, 1e3).astype(np.float32)
    found = [refine(scan_of(diff3d=x, mask=mask), None, 4).object for x in (spoiled, MADE.diffraction)]
    np.testing.assert_array_equal(*found)


def test_an_earlier_result_is_a_start_and_nothing_gets_worse() -> None:
    first = refine(scan_of(), None, 5)
    on = refine(scan_of(), first, 5)
    assert on.error_history[0] == pytest.approx(first.error_history[-1], rel=1e-3)
    assert on.error_history[-1] <= on.error_history[0]


def test_what_is_kept_in_memory_changes_nothing() -> None:
    slow, fast = (refine(scan_of(), None, 5, device_memory=budget, batch_size=30) for budget in (0, 1 << 30))
    np.testing.assert_allclose(slow.object, fast.object, atol=1e-4)


def test_errors_are_one_line() -> None:
    with pytest.raises(ConfigError, match="iterations: expected at least 1, found 0"):
        refine(scan_of(), None, 0)
    with pytest.raises(DataError, match="enlarge the object"):
        refine(scan_of(), np.ones((30, 30)), 1, frame=ObjectFrame(30, 30, 0, 0))
