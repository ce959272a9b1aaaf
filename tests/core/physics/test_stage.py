"""The numbers of a stage: there and back from its figures, found in displacements, and which way a line goes."""

import numpy as np
import pytest

from ptycho.core.physics.stage import Stage, directions, stage_of
from ptycho.core.simulation.scan_paths import scan_positions

FIGURES = ((1.02, 0.97), 1.5, -0.8, (1.25, -0.5))


def positions(path: str, jitter: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    return scan_positions(path, (90, 121), 32, 5.0, jitter, np.random.default_rng(4))


def test_figures_are_those_it_was_made_of() -> None:
    stage = Stage.of(*FIGURES)
    assert (*stage.scale, stage.rotation, stage.shear) == pytest.approx((1.02, 0.97, 1.5, -0.8))
    assert str(stage) == "scale 1.0200 x 0.9700, turned by 1.50 degrees, sheared by -0.80, backlash 1.3 pixels"
    right_angle = Stage.of((1, 1), 90, 0, (0, 0))
    np.testing.assert_allclose(right_angle.matrix + np.eye(2), [[0, -1], [1, 0]], atol=1e-15)  # x goes to y


@pytest.mark.parametrize("path", ["raster", "snake", "fermat", "random"])
def test_it_is_found_in_displacements(path: str, rng: np.random.Generator) -> None:
    x, y = positions(path)
    planted = Stage.of(*FIGURES)
    shift = planted.displacement(x, y)
    np.testing.assert_allclose(shift.mean(axis=0), 0, atol=1e-12)
    found = stage_of(x, y, shift + np.array([3.0, -2.0]))  # a common drift is not its own
    np.testing.assert_allclose(found.matrix, planted.matrix, atol=1e-12)
    np.testing.assert_allclose(found.backlash, planted.backlash if path == "snake" else 0, atol=1e-12)
    rest = rng.normal(0, 0.3, shift.shape)
    assert np.abs(stage_of(x, y, shift + rest).matrix - planted.matrix).max() < 6 * 0.3 / (20 * np.sqrt(len(x)))


def test_nothing_is_found_in_few_positions() -> None:
    few = np.arange(5.0)
    assert not stage_of(few, few, np.ones((5, 2))).matrix.any()
    assert directions(few, few) is None


@pytest.mark.parametrize("turned", [False, True])
def test_lines_there_and_back_are_told(turned: bool) -> None:
    x, y = positions("snake", jitter=0.5)
    ways = directions(y, x) if turned else directions(x, y)
    assert ways is not None
    rows = np.rint((y - y.min()) / 5.0).astype(int)
    np.testing.assert_array_equal(ways, np.where(rows % 2, -1, 1) * ways[0])


@pytest.mark.parametrize("path", ["raster", "spiral", "fermat", "random"])
def test_other_paths_have_no_lines_there_and_back(path: str) -> None:
    assert directions(*positions(path)) is None
