"""The grid of a regular raster: where it is seen, how it goes to the probe, and where nothing is touched."""

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.steps.gauge import Gauge
from ptycho.core.refinement.steps.raster import Raster, find_grid, raster_of, scanned_area, without_grid
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.raw_data import RawData

N = 16


def positions(step_x: float, step_y: float, columns: int = 9, rows: int = 7) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(N / 2 + 1 + step_x * np.arange(columns), N / 2 + 2 + step_y * np.arange(rows))
    return x.ravel(), y.ravel()


def test_a_raster_is_known_by_its_steps(rng) -> None:
    x, y = positions(5.25, 4.0)
    order = rng.permutation(len(x))
    found = raster_of(x[order] + 0.01 * rng.standard_normal(len(x)), y[order])
    assert found is not None
    np.testing.assert_allclose(found, (5.25, 4.0, x[0], y[0]), atol=0.02)


def test_what_is_no_raster_has_none(rng) -> None:
    x, y = positions(5.0, 4.0)
    jitter = rng.uniform(-0.5, 0.5, (2, len(x)))
    assert raster_of(x + jitter[0], y + jitter[1]) is None
    assert raster_of(x, np.full_like(y, 3.0)) is None  # a line
    assert raster_of(*positions(5.0, 4.0, columns=3)) is None  # too few steps
    assert raster_of(x + 0.3 * y, y) is None  # an oblique one
    assert raster_of(np.array([1.0]), np.array([1.0])) is None


@pytest.fixture
def made(rng) -> tuple[np.ndarray, np.ndarray, Raster, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """A textured object, a probe, and the raster of integer steps that they belong to."""
    x, y = positions(5.0, 4.0)
    texture = [gaussian_filter(rng.standard_normal((48, 64)), 2) for _ in range(2)]
    image = (1 + texture[0]) * np.exp(1j * texture[1])
    u = np.arange(N) - N // 2
    probe = np.exp(-np.add.outer(u**2, u**2) / 20 + 0.1j * np.add.outer(u**2, u))[None]
    raster = raster_of(x, y)
    assert raster is not None
    return image, probe, raster, scanned_area(image.shape, x, y), (x, y)


def grid_of(raster: Raster, rows: Any, cols: Any) -> np.ndarray:
    """With the period of the steps, 1 on average."""
    turn = 2 * np.pi * np.asarray(cols) / raster.step_x
    return 1 + 0.1 * np.cos(2 * np.pi * np.asarray(rows)[:, None] / raster.step_y) + 0.08j * np.sin(turn)[None, :]


def test_a_planted_grid_goes_to_the_probe_and_no_pattern_changes(made) -> None:
    image, probe, raster, area, (x, y) = made
    height, width = image.shape
    factor = grid_of(raster, np.arange(height) - raster.y0, np.arange(width) - raster.x0)
    r = np.arange(N) - N // 2
    gridded, divided = image * factor, probe / grid_of(raster, r, r)
    assert find_grid(image, raster, area).contrast == 0
    planted = find_grid(gridded, raster, area)
    assert planted.contrast == pytest.approx(np.sqrt(2 * 0.05**2 + 2 * 0.04**2), rel=0.2) and planted.ratio > 5

    found, carried = without_grid(gridded, divided, raster, area)
    assert find_grid(found, raster, area).contrast < 0.01 * planted.contrast
    assert np.linalg.norm(carried) == pytest.approx(np.linalg.norm(divided))
    for one, other in ((gridded, divided), (found, carried)):
        patches, dx, dy = extract_rounded(one, x, y, N)
        plain, px, py = extract_rounded(image, x, y, N)
        np.testing.assert_allclose(diffract(other, patches, dx, dy), diffract(probe, plain, px, py), rtol=1e-6)

    def away(object_: np.ndarray) -> float:
        scaled = object_ * np.vdot(object_[area], image[area]) / np.vdot(object_[area], object_[area])
        return float(np.linalg.norm((scaled - image)[area]))

    assert away(found) < 0.4 * away(gridded)


def test_an_object_without_a_grid_stays(made) -> None:
    image, probe, raster, area, _ = made
    found, carried = without_grid(image, probe, raster, area)
    np.testing.assert_allclose(found, image)
    np.testing.assert_allclose(carried, probe)


def refined() -> tuple[Any, np.ndarray]:
    """A regular raster from a flat object and the true probe, which moves; and the truth."""
    settings = ScanSettings(kind="lines", N=N, shape=(64, 64), step=4.0, jitter=0.0, photons=1e5, seed=3)
    made = expose(*plan_scan(settings))
    positions = made.xcoords, made.ycoords, None, None
    scan = RawData(*positions, made.diffraction, made.probe, units=made.units)
    return refine_scan(scan, None, 60, engine="pytorch", tolerance=0.0), made.object


def test_a_refinement_leaves_none_and_is_nearer_to_the_truth(monkeypatch) -> None:
    found, truth = refined()
    assert 0.005 < found.gauge.grid < 0.5
    monkeypatch.setattr("ptycho.core.refinement.steps.gauge.raster_of", lambda x, y: None)
    plain, _ = refined()
    assert plain.gauge.grid == 0 and found.error_history == plain.error_history
    raster = raster_of(found.xcoords, found.ycoords)
    assert raster is not None
    area = scanned_area(found.object.shape, found.xcoords, found.ycoords)
    assert find_grid(plain.object, raster, area).contrast > 0.005
    assert find_grid(found.object, raster, area).contrast == 0

    def away(image: np.ndarray) -> float:
        f = found.frame
        there = truth[f.y0 : f.y0 + f.height, f.x0 : f.x0 + f.width][area]
        here = image[area] * np.vdot(image[area], there) / np.vdot(image[area], image[area])
        return float(np.linalg.norm(here - there))

    assert away(found.object) < away(plain.object)


def test_the_last_grid_is_told() -> None:
    first, second = Gauge(grid=0.1), Gauge(factor=2.0)
    assert first.then(second).grid == 0.1 and second.then(first).grid == 0.1
    assert Gauge.of([2.0, [0.0, 0.1], [1, 2], 0.3]) == Gauge(2.0, (0.0, 0.1), (1, 2), 0.3)
