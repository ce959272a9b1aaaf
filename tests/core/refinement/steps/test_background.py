"""The step of a background: known answers for every family, and a planted one that is found."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.steps.background import first_background, stepped
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData

N = 12


def parabola(target: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient at 0 and curvature of `weight (b - target)^2 / 2`."""
    return -weight * target, weight


def test_every_family_finds_what_lies_in_it(rng) -> None:
    weight = rng.uniform(0.5, 2, (N, N))
    weight[3, 4:7] = 0  # masked
    row, column = np.arange(N)[:, None], np.arange(N)[None, :]
    straight = 1 + 0.1 * row + 0.05 * column + 0.01 * row * column  # a cubic spline can be it
    for family, target in (("constant", np.full((N, N), 2.5)), ("smooth", straight)):
        found = stepped(np.zeros((N, N)), *parabola(target, weight), family)
        np.testing.assert_allclose(found, target, rtol=1e-4)
    found = stepped(np.zeros((N, N)), *parabola(straight, weight), "pixels")
    np.testing.assert_allclose(found[weight > 0], straight[weight > 0])
    assert (found[weight == 0] == 0).all()


def test_a_constant_is_the_weighted_mean() -> None:
    target, weight = np.zeros((N, N)), np.ones((N, N))
    target[0, 0], weight[0, 0] = 100, 10
    expected = 1000 / (N * N - 1 + 10)
    np.testing.assert_allclose(stepped(np.ones((N, N)) * 0, *parabola(target, weight), "constant"), expected, rtol=1e-6)


@pytest.mark.parametrize("family", ["constant", "smooth", "pixels"])
def test_it_is_never_negative_and_falls_step_by_step(family, rng) -> None:
    target = rng.uniform(-3, -1, (N, N))
    found = stepped(np.zeros((N, N)), *parabola(target, np.ones((N, N))), family)
    np.testing.assert_allclose(found, 0, atol=1e-9)
    assert (found >= 0).all()
    above = np.full((N, N), 8.0)
    np.testing.assert_allclose(stepped(above, above - target, np.ones((N, N)), family), 2.0)


def scan_with(background: np.ndarray | None, photons: float = 1e4) -> RawData:
    plan, rng = plan_scan(ScanSettings(kind="siemens_star", N=16, shape=(44, 44), step=3.0, photons=photons, seed=3))
    made = expose(replace(plan, background=background), rng)
    x, y = made.xcoords, made.ycoords
    return RawData(x, y, None, None, made.diffraction, made.probe, objectGuess=made.object, units=made.units)


def error_of(scan: RawData, **settings) -> tuple[float, np.ndarray]:
    found = refine_scan(scan, None, 40, frame=None, tolerance=0.0, dtype=np.float32, **settings)
    f = found.frame
    truth = scan.objectGuess[f.y0 : f.y0 + f.height, f.x0 : f.x0 + f.width][10:-10, 10:-10]
    image = found.object[10:-10, 10:-10]
    image = image * np.vdot(image, truth) / np.vdot(image, image)
    return float(np.linalg.norm(image - truth) / np.linalg.norm(truth)), found.background


def test_a_planted_background_is_found() -> None:
    """40 counts in every pixel, as many as the photons of the object."""
    scan = scan_with(np.full((16, 16), 40.0))
    without, nothing = error_of(scan)
    error, background = error_of(scan, refine_background="smooth")
    assert error < 0.5 * without and not nothing.any()
    assert np.median(background) == pytest.approx(40, rel=0.05)


def test_where_there_is_none_none_is_found() -> None:
    scan = scan_with(None)
    plain, _ = error_of(scan)
    error, background = error_of(scan, refine_background="smooth")
    assert error < 1.05 * plain
    assert np.median(background) < 0.05


def test_the_first_one_is_that_of_the_darkest_pixels_in_the_mask() -> None:
    x = np.arange(3.0)
    patterns = np.full((3, 4, 4), 5.0, np.float32)
    patterns[:, 0, 0], patterns[:, 1, 1] = 0, (1, 2, 3)
    mask = np.ones((4, 4), bool)
    mask[0, 0] = False
    scan = RawData(x, x, None, None, patterns, np.ones((4, 4), complex), mask=mask, units="counts")
    found = first_background(scan)
    assert found.shape == (4, 4) and (found == found[0, 0]).all()
    assert found[0, 0] == pytest.approx(np.percentile([2] + 14 * [5], 2))


def test_what_cannot_be_one_is_refused() -> None:
    scan = scan_with(None)
    with pytest.raises(ConfigError, match="refine_background: expected one of constant, smooth, pixels"):
        refine_scan(scan, None, 1, refine_background="flat")  # type: ignore[arg-type]
    for bad in (np.ones((3, 3)), np.full((16, 16), -1.0), np.full((16, 16), np.nan)):
        with pytest.raises(DataError, match=r"background: expected \(16, 16\) finite numbers, none below 0"):
            refine_scan(scan, None, 1, background=bad)


def subtracted(counts: np.ndarray, background: float, scan: RawData) -> RawData:
    x, y = scan.xcoords, scan.ycoords
    left = counts - background
    return RawData(x, y, None, None, left, scan.probeGuess, objectGuess=scan.objectGuess, units="counts")


@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
def test_one_that_was_subtracted_is_known_again(likelihood) -> None:
    """As right as with the patterns before it was subtracted, and right where too much was."""
    scan = scan_with(np.full((16, 16), 60.0))
    counts = np.square(scan.amplitude(), dtype=np.float64).round()
    settings = {"likelihood": likelihood}
    before, _ = error_of(scan, background=np.full((16, 16), 60.0), **settings)
    left = subtracted(counts, 60.0, scan)
    error, added = error_of(left, **settings)
    cut, nothing = error_of(subtracted(np.maximum(counts, 60.0), 60.0, scan), **settings)
    assert error < 1.05 * before
    np.testing.assert_array_equal(added, left.background)
    assert not nothing.any()
    if likelihood == "amplitude":
        assert cut > 1.1 * error
        much, _ = error_of(subtracted(counts, 66.0, scan), refine_background="constant", **settings)
        assert much < 1.1 * before


def test_what_was_added_may_have_been_too_much_by_its_median(rng) -> None:
    added, weight = np.full((N, N), 6.0), rng.uniform(0.5, 2, (N, N))
    added[2, 2] = 50
    for rest, expected in ((-2.0, -2.0), (3.0, 3.0), (-9.0, -6.0)):
        background = added
        for _ in range(12):  # it falls by a factor of 4 a step
            step = parabola(added + rest - background, weight)
            background = stepped(background, *step, "constant", added)
        np.testing.assert_allclose(background, added + expected, rtol=1e-3, atol=1e-3)
