"""The stage of a scan: the step that finds it, planted ones found by a refinement, and nothing where nothing is."""

from typing import Any

import numpy as np
import pytest

from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.stage import Stage, stage_of
from ptycho.core.refinement.device.kernels import Point
from ptycho.core.refinement.device.kernels_numpy import NumpyKernels
from ptycho.core.refinement.device.likelihood import intensity_floor
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.steps.placement import _mapped, room
from ptycho.core.refinement.sums.object_strips import Strips
from ptycho.core.refinement.sums.passes import Passes
from ptycho.core.refinement.sums.processes import strips
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, make_scan, plan_scan
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData

N = 32
STAGE = {"stage_scale": (1.03, 0.97), "stage_rotation": 1.5, "stage_shear": 1.0, "backlash": (2.0, 0.0)}


def planted(**settings: Any) -> tuple[RawData, np.ndarray]:
    """A scan there and back of 36 overlapping patterns or more, and where the probe really was (n, 2)."""
    usual = {"N": N, "shape": (76, 76), "step": 5.0, "jitter": 0.5, "photons": 1e6, "path": "snake", "seed": 3}
    made = expose(*plan_scan(ScanSettings(**{**usual, **settings})))
    x, y = (made.xcoords, made.ycoords) if made.xcoords_true is None else (made.xcoords_true, made.ycoords_true)
    scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units=made.units)
    return scan, np.stack([x, y], axis=1)


def refined(scan: RawData, positions: Any, iterations: int = 30, **options: Any) -> tuple[Any, np.ndarray]:
    """A refinement in single precision, and its positions (n, 2) on the pixels of the scan."""
    settings = {"refine_probe": False, "tolerance": 0.0, "dtype": np.float32, **options}
    found = refine_scan(scan, None, iterations, refine_positions=positions, **settings)
    return found, np.stack([found.xcoords + found.frame.x0, found.ycoords + found.frame.y0], axis=1)


def _sums(passes: Passes, point: Point) -> Any:
    return ([each.sum(axis=0) for each in terms] for _, terms in passes.stretch_terms(point))


def test_one_step_of_a_stretched_object_finds_the_map() -> None:
    """Object and positions mapped by M on exact patterns: the normal equations give it back."""
    made = make_scan("smooth", 72, N, 6.0, 1.0, 1e6, 3)
    probe, image = made.probe.astype(complex)[None], made.object.astype(complex)
    patches, dx, dy = extract_rounded(image, made.xcoords, made.ycoords, N)
    exact = RawData(
        made.xcoords, made.ycoords, None, None, np.sqrt(diffract(probe, patches, dx, dy)), probe, units="amplitude"
    )
    middle = float(made.xcoords.mean()), float(made.ycoords.mean())
    matrix = np.array([[0.004, -0.006], [0.003, -0.005]])
    away = np.stack([made.xcoords - middle[0], made.ycoords - middle[1]], axis=1) @ matrix.T
    kernels = NumpyKernels("amplitude", intensity_floor(exact, "amplitude"))
    passes = Passes(kernels, exact, [np.arange(len(exact))], np.arange(0), 1, 1 << 30)
    place = made.xcoords + away[:, 0], made.ycoords + away[:, 1], np.ones(len(exact))
    there = Point(_mapped(image, matrix, middle), probe, *place, np.zeros(probe.shape[1:]))
    gradient, curvature = (sum(parts) for parts in zip(*_sums(passes, there), strict=True))
    np.testing.assert_allclose(np.linalg.solve(curvature, gradient), matrix.ravel(), atol=6e-4)


def test_the_slices_of_strips_are_taken_along_as_those_of_the_whole(rng, in_threads) -> None:
    image, y = rng.standard_normal((2, 90, 31)) + 1j, np.linspace(10.0, 80.0, 30)
    matrix, middle = np.array([[0.02, 0.01], [-0.03, 0.04]]), (15.0, 44.0)
    expected = _mapped(image, matrix, middle)

    def work(processes: Any) -> tuple[int, np.ndarray]:
        share = Strips.laid(strips(y, 3), y, y, 8, (90, 31), 2, processes)
        here = share.scattered(image if processes.rank == 0 else None)
        return share.first_row, _mapped(here, matrix, middle, share)

    for first_row, found in in_threads(3, work):
        assert found.shape[1] < 60
        np.testing.assert_allclose(found, expected[:, first_row:][:, : found.shape[1]], atol=1e-13)


@pytest.mark.parametrize("positions", ["stage", True])
def test_a_planted_stage_is_found(positions: Any) -> None:
    """Scale, rotation, shear and backlash: worse without, and with as good as with the true positions."""
    scan, true = planted(**STAGE)
    found, places = refined(scan, positions)
    home = scan.xcoords, scan.ycoords
    stage, expected = stage_of(*home, places - np.stack(home, axis=1)), Stage.of(*STAGE.values())
    np.testing.assert_allclose(stage.matrix, expected.matrix, atol=6e-3)
    np.testing.assert_allclose(stage.backlash, expected.backlash, atol=0.15)
    left = places - true
    assert np.abs(left - left.mean(axis=0)).max() < 0.25
    assert found.error_history[-1] < 0.5 * refined(scan, False)[0].error_history[-1]


def test_nothing_is_found_where_nothing_is() -> None:
    scan, true = planted()
    plain, (found, places) = refined(scan, False)[0], refined(scan, True)
    assert found.error_history[-1] < 1.05 * plain.error_history[-1]
    left = places - true
    assert np.abs(left - left.mean(axis=0)).max() < 0.25


def test_a_stage_that_does_what_it_says_stays() -> None:
    """A star's object has slow phases that moving it early for nothing would cost."""
    scan, true = planted(kind="siemens_star", shape=(110, 110), photons=1e5, path="raster", jitter=2.0)
    _, places = refined(scan, "stage", 12, refine_probe=True)
    assert np.abs(places - true).max() < 1e-9


def test_the_room_is_that_of_the_stage_its_play_and_each_position() -> None:
    x, y = np.array([0.0, 40.0, 40.0, 0.0]), np.array([0.0, 0.0, 60.0, 60.0])
    assert room(x, y, 2.5) == 8  # 0.1 of (40 + 60) / 2, and 2.5


def test_other_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="refine_positions: expected True, False, 'stage' or 'search'"):
        refined(planted()[0], "staeg")
