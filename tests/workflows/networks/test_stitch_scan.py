"""From patches to an object: what overlaps ask for is done where the measured patterns agree, and only there."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.physics.detector_blur import blurred
from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.probes import zone_plate_probe
from ptycho.core.quality.metrics import relative_fourier_error
from ptycho.core.simulation.objects import make_object
from ptycho.core.stitching.overlaps import Turns
from ptycho.core.stitching.synchronise import synchronise
from ptycho.raw_data import RawData
from ptycho.workflows.networks import stitch_scan as assembly
from ptycho.workflows.networks.stitch_scan import PatternSample, stitch_scan

N = 64


@pytest.fixture
def truth():
    return make_object("lines", (128, 136), np.random.default_rng(3)).astype(np.complex64)


@pytest.fixture
def data(truth):
    """90 patterns on whole pixels, where stitching is exact."""
    x, y = (a.ravel().astype(float) for a in np.meshgrid(np.arange(34, 103, 8), np.arange(34, 95, 6)))
    probe = zone_plate_probe(N, energy=1e6)
    expected = diffract(probe, *extract_rounded(truth, x, y, N))
    counts = np.random.default_rng(4).poisson(expected).astype(np.uint32)
    return RawData(x, y, None, None, counts, probe)


def stitched(truth, data, factors=1.0):
    """The true patches times factors (n, N, N), a group each."""
    patches = extract_rounded(truth, data.xcoords, data.ycoords, N)[0] * factors
    positions = np.stack([data.xcoords, data.ycoords], axis=1)[:, None, :, None]
    frame = object_frame(data.xcoords, data.ycoords, N)
    return stitch_scan(patches.astype(np.complex64)[:, None], positions, data, data.probeGuess[None], frame), frame


def error(found, frame, truth):
    """Relative error where there was light, the global phase aside."""
    expected = truth[frame.y0 : frame.y0 + frame.height, frame.x0 : frame.x0 + frame.width]
    lit = found.coverage > 0.05
    a, b = found.object[lit], expected[lit]
    a = a * np.exp(-1j * np.angle(np.vdot(b, a)))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def slope(k, data):
    v, u = np.indices((N, N)) - N // 2
    return np.exp(1j * (k[..., 0, None, None] * u + k[..., 1, None, None] * v))


def test_patches_that_agree_are_left_alone(truth, data):
    found, frame = stitched(truth, data)
    assert not found.synchronised and found.agreement[0] == pytest.approx(1, abs=1e-6)
    assert error(found, frame, truth) < 1e-3 and found.plane == (0.0, 0.0)
    assert np.nanmax(found.spread) < 2e-3


def test_planted_phases(truth, data, rng):
    found, frame = stitched(truth, data, np.exp(2j * np.pi * rng.random(len(data)))[:, None, None])
    assert found.synchronised and found.agreement == pytest.approx((found.agreement[0], 1), abs=1e-5)
    assert error(found, frame, truth) < 1e-3


def test_a_plane_is_found_beside_a_known_background(truth, data):
    """Light at one side of every pattern moves their centre of mass, and would turn the object."""
    background = np.zeros((N, N))
    background[:, 40:] = 40.0
    flux = np.linspace(1.2, 0.8, len(data))
    expected = diffract(data.probeGuess, *extract_rounded(truth, data.xcoords, data.ycoords, N))
    lit = np.sqrt(flux[:, None, None] * expected + background)
    blind = RawData(data.xcoords, data.ycoords, None, None, lit, data.probeGuess, units="amplitude")
    factors = slope(np.array([0.05, -0.02]), data)
    found, frame = stitched(truth, blind.with_recording(flux, background), factors)
    np.testing.assert_allclose(found.plane, [0.05, -0.02], atol=2e-3)
    assert error(found, frame, truth) < 1e-2
    assert error(stitched(truth, blind, factors)[0], frame, truth) > 0.05


def test_a_sample_is_blurred_as_its_patterns(truth, data):
    expected = blurred(diffract(data.probeGuess, *extract_rounded(truth, data.xcoords, data.ycoords, N)), 1.2)
    known = RawData(data.xcoords, data.ycoords, None, None, np.sqrt(expected), data.probeGuess, units="amplitude")
    frame = ObjectFrame(*truth.shape, 0, 0)
    for scan, least, most in ((known.with_recording(blur=1.2), 0.0, 1e-6), (known, 1e-2, 1.0)):
        sample = PatternSample(scan, data.probeGuess, frame)
        left = relative_fourier_error(sample.predicted(truth), sample.measured, sample.mask)
        assert least <= left < most


def test_planted_ramps_and_phases(truth, data, rng):
    """Ramps that differ are found from overlaps, and their mean, which is a plane, from the patterns."""
    ramps = np.array([0.06, -0.03]) + 0.04 * rng.standard_normal((len(data), 2))
    factors = slope(ramps, data) * np.exp(2j * np.pi * rng.random(len(data)))[:, None, None]
    found, frame = stitched(truth, data, factors)
    assert found.synchronised and error(found, frame, truth) < 0.02
    np.testing.assert_allclose(found.plane, ramps.mean(axis=0), atol=2e-3)


def test_a_ramp_that_all_patches_share_is_found_from_the_patterns(truth, data):
    found, frame = stitched(truth, data, slope(np.array([[0.05, 0.02]]), data))
    assert found.synchronised and error(found, frame, truth) < 0.01
    np.testing.assert_allclose(found.plane, (0.05, 0.02), atol=1e-3)


def test_agreement_that_predicts_the_patterns_worse_is_not_kept(truth, data, rng, monkeypatch):
    def misled(*arguments, **keywords):
        found = synchronise(*arguments, **keywords)
        wrong = np.exp(1j * rng.uniform(-1, 1, len(data))).astype(np.complex64)
        return replace(found, solved=Turns(wrong), unseen=(0.5, 0.9))

    monkeypatch.setattr(assembly, "synchronise", misled)
    found, frame = stitched(truth, data)
    assert not found.synchronised and error(found, frame, truth) < 1e-3


def test_agreement_within_the_noise_is_not_even_tried(truth, data, rng, monkeypatch):
    tried = []
    original = assembly.stitch_variants
    monkeypatch.setattr(assembly, "stitch_variants", lambda *a: tried.append(len(a[5])) or original(*a))
    noise = 1 + 0.5 * (rng.standard_normal((len(data), N, N)) + 1j * rng.standard_normal((len(data), N, N)))
    found, _ = stitched(truth, data, noise)
    assert tried == [1] and not found.synchronised
    assert np.nanmedian(found.spread / np.abs(found.object)) == pytest.approx(np.sqrt(0.5), rel=0.1)
