"""What a moving probe leaves open, held: a planted factor, a planted ramp and a planted place come back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.probes import zone_plate_probe
from ptycho.core.quality.registration import fit_plane
from ptycho.core.refinement.device.kernels import Point
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.steps.gauge import Gauge, hold
from ptycho.core.refinement.steps.placement import _without_drift
from ptycho.core.simulation.exposure import ScanPlan, expose
from ptycho.core.simulation.objects import make_object
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData

N, HEIGHT, WIDTH = 32, 66, 70
TURN = 2 * np.pi / N
"""Ramp, radians per pixel, that moves a pattern by a pixel."""


@dataclass
class Made:
    """A scan whose object is known, and the part of it that is well lit."""

    scan: RawData
    truth: np.ndarray

    def brightness(self, found: Refinement) -> float:
        """Amplitude of the object found, relative to the truth."""
        one, other = (np.abs(self.inside(image)) for image in (found.object, self.truth))
        return float(np.vdot(other, one) / np.vdot(other, other))

    @staticmethod
    def inside(image: np.ndarray) -> np.ndarray:
        """The middle of an object."""
        return image[20:-20, 20:-20]


def made(ramp_px: float = 0.0, modes: int = 1, photons: float = 1e7) -> Made:
    """64 patterns of an object with a ramp, under a probe that the scan knows."""
    rng = np.random.default_rng(4)
    x, y = (
        axis.ravel() + rng.uniform(-1, 1, 64) for axis in np.meshgrid(18 + 4.5 * np.arange(8), 18 + 4.0 * np.arange(8))
    )
    image = make_object("dead_leaves", (HEIGHT, WIDTH), rng) * np.exp(1j * TURN * ramp_px * np.arange(WIDTH))
    probe = zone_plate_probe(N, defocus=1.0)
    if modes == 2:
        probe = np.stack([probe, 0.3 * np.roll(probe, 3, 1)])
    found = expose(ScanPlan(image.astype(np.complex64), probe, x, y, photons, "counts"), rng)
    return Made(RawData(x, y, None, None, found.diffraction, found.probe, units="counts"), image)


def energy(probe: np.ndarray) -> float:
    return float((np.abs(probe) ** 2).sum())


@pytest.mark.parametrize("engine", ["numpy", "tensorflow", "pytorch"])
def test_the_object_is_as_bright_as_the_truth_and_has_its_ramp(engine: str) -> None:
    """From a flat object the probe takes up what an object darkens, and its ramp; both are the object's."""
    one = made(ramp_px=1.4)
    found = refine_scan(one.scan, None, 30, engine=engine, frame=ObjectFrame(HEIGHT, WIDTH, 0, 0))
    assert one.brightness(found) == pytest.approx(1, abs=0.005)
    _, ky, kx = fit_plane(one.inside(found.object), one.inside(one.truth))
    np.testing.assert_allclose((kx * N, ky * N), 0, atol=0.05)
    assert energy(found.probe) == pytest.approx(energy(one.scan.probeGuess), rel=1e-5)
    # without the rule the object would be a fifth too bright, and its ramp in the probe
    assert found.gauge.factor < 0.9
    np.testing.assert_allclose(np.array(found.gauge.ramp) / TURN, (1.4, 0), atol=0.05)


@pytest.mark.parametrize("modes", [1, 2])
@pytest.mark.parametrize("planted", [0.5, 2.0])
def test_a_planted_factor_comes_back(planted: float, modes: int) -> None:
    """The split of the start makes no difference: it is that of the probe in the scan."""
    one = made(modes=modes)
    start = planted * one.truth.astype(np.complex64)
    frame = ObjectFrame(HEIGHT, WIDTH, 0, 0)
    found = refine_scan(one.scan, start, 3, engine="numpy", probe=one.scan.probeGuess / planted, frame=frame)
    assert one.brightness(found) == pytest.approx(1, abs=0.01)
    assert found.gauge.factor == pytest.approx(1 / planted, rel=0.01)


def test_a_probe_whose_energy_means_nothing_is_scaled_by_the_object() -> None:
    """Times 7 it is the same probe: 95 of 100 well-lit pixels are darker than 1."""
    one = made()
    found = [
        refine_scan(one.scan.with_probe(factor * one.scan.probeGuess), one.truth, 2, scale="object", engine="numpy",
                    frame=ObjectFrame(HEIGHT, WIDTH, 0, 0), refine_probe=moves, probe=one.scan.probeGuess)
        for factor, moves in ((1, True), (7, True), (1, False))
    ]  # fmt: skip
    for each in found:
        assert np.percentile(np.abs(each.object[18:-18, 18:-18]), 95) == pytest.approx(1, abs=0.03)
    np.testing.assert_allclose(found[0].object, found[1].object, rtol=1e-4)


def test_a_probe_that_is_held_leaves_everything_as_it_is() -> None:
    one = made()
    found = refine_scan(one.scan, None, 2, engine="numpy", refine_probe=False, probe=3 * one.scan.probeGuess)
    np.testing.assert_array_equal(found.probe[0], (3 * one.scan.probeGuess).astype(np.complex64))
    assert found.gauge == Gauge()


def point(image: np.ndarray, probe: np.ndarray) -> Point:
    return Point(image, probe, np.array([30.0]), np.array([31.0]), np.ones(1), np.zeros(probe.shape[-2:]))


def test_whole_pixels_of_place_and_pattern_are_exact() -> None:
    probe, image = zone_plate_probe(N, defocus=1.0)[None], made().truth
    y, x = (np.arange(size) - size // 2 for size in (N, N))
    moved = 2 * np.roll(probe, (-1, 2), (-2, -1)) * np.exp(1j * TURN * np.add.outer(3 * y, -2 * x))
    held, gauge = hold(point(image, moved), probe, "probe", True, lambda _: 1.0)
    assert gauge.shift == (-2, 1)
    np.testing.assert_allclose(np.array(gauge.ramp) / TURN, (-2, 3), atol=0.005)
    assert gauge.factor == pytest.approx(2, rel=1e-5)
    overlap = np.vdot(held.probe, probe) / energy(probe)
    assert abs(overlap) == pytest.approx(1, abs=1e-3)


def test_what_would_cost_error_is_left_out() -> None:
    """Between pixels a ramp tears a probe that reaches its edges: what is judged is the error."""
    probe, image = zone_plate_probe(N, defocus=1.0)[None], made().truth
    line = np.arange(N) - N // 2
    start = point(image, probe * np.exp(2.3j * TURN * line))
    for allowed, expected in ((0, 2.3), (1, 2.0), (3, 0.0)):
        asked: list[Point] = []

        def error(at: Point, asked: list[Point] = asked, allowed: int = allowed) -> float:
            asked.append(at)
            return 1.0 if at is start or sum(one is not start for one in asked) > allowed else 1.02

        _, gauge = hold(start, probe, "probe", True, error)
        assert gauge.ramp[0] / TURN == pytest.approx(expected, abs=0.01)


def test_positions_keep_their_mean_at_their_bound_too() -> None:
    displacement = np.array([3.0, 2.5, 0.3, -0.2, 0.1, -0.4, 0.0])
    held = _without_drift(displacement, 1.0)
    assert held.mean() == pytest.approx(0, abs=1e-12)
    assert np.abs(held).max() <= 1 and held[0] == held[1] == 1
    np.testing.assert_allclose(np.diff(held[2:]), np.diff(displacement[2:]), atol=1e-12)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="scale: expected 'probe' or 'object', found 'both'"):
        refine_scan(made().scan, None, 1, scale="both")  # type: ignore[arg-type]


def test_a_probe_whose_place_the_patterns_tell_stays_there() -> None:
    given = zone_plate_probe(N)[None]
    x = y = np.array([20.0, 30.0])
    image, moved = np.ones((50, 50), np.complex64), np.roll(given, (3, 2), (1, 2))
    point = Point(image, moved, x, y, np.ones(2), np.zeros((N, N)))
    far, near = (hold(point, given, "probe", True, lambda _: 1.0, near)[1] for near in (False, True))
    assert far.shift == (-2, -3)
    assert near == Gauge(pytest.approx(1))
